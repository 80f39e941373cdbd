"""Answers from a model: packed rows in, answers in input order out."""
