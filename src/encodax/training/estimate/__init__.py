"""Memory and time of a training step, found without training."""
