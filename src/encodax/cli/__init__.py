"""Command line: a thin layer over the functions of the Python interface."""
