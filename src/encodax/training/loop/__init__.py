"""Training loop, with its checkpoints, progress and best model."""
