"""Keeps pytest out of the generators: they import torch, which the tests do without."""

collect_ignore = ["generate.py", "generate_adapters.py", "generate_seq2seq.py"]
