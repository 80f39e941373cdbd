"""Embedding speed and memory beside other libraries."""
