"""Keeps pytest out of the generators: they import torch, which the tests do without."""

collect_ignore_glob = ["generate*.py"]
