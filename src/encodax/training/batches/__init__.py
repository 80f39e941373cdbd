"""Batches of a training run: which examples go into each, and how they are read."""
