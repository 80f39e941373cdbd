"""Estimates of the memory and time of a training step, without training."""
