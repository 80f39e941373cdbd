"""Settings of a training run, and published sizes by name."""
