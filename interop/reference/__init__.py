"""The other sides of comparisons, for a Python of `interop/requirements.txt`."""
