"""Inference: packed rows run through a model, answers returned in input order."""
