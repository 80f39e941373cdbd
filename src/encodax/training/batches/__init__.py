"""Batches of a training run: the examples of each batch, and how they are read."""
