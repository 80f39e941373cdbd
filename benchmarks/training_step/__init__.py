"""The training step beside PyTorch."""
