"""Directories saved by others and changed by hand, answered there and here."""
