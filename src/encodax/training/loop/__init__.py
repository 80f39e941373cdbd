"""The training loop, with its checkpoints, progress and best model."""
