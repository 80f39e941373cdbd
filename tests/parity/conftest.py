"""Keeps pytest out of the generator: it imports torch, which the tests do without."""

collect_ignore = ["generate.py"]
