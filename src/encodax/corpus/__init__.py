"""Vectors of a corpus that one machine cannot hold: Parquet in, Parquet out, on Ray Data."""
