"""What the benchmarks share. A worker in another environment has no Encodax and no JAX.

So nothing is imported here, and `peak.py` alone needs JAX.
"""
