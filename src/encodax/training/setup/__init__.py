"""Preparation of a run: data, model, plan and compiled step."""
