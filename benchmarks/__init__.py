"""What is measured, each a command from the root: `python -m benchmarks.NAME`."""
