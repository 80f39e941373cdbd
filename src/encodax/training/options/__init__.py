"""Settings of a training run, and published model sizes by name."""
