"""The other sides of benchmarks, for a Python of `benchmarks/requirements.txt`."""
