"""One training step: loss, gradients, optimizer, and sharding over devices."""
