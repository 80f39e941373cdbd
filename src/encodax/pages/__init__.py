"""Figures of arrays, and HTML pages; independent of models, except for their types."""
