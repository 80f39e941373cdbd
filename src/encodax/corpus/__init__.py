"""Vectors of corpora too large for one machine: from Parquet to Parquet, on Ray Data."""
