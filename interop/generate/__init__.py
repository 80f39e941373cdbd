"""What makes the goldens, for a Python of `interop/requirements.txt`; it needs no Encodax."""
