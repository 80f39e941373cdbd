"""One training step: loss, gradients, optimizer, and what is on which device."""
