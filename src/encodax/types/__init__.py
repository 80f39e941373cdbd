"""Data classes shared by the packages: batches, outputs, inspections."""
