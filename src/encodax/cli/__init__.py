"""The command line, thin over the functions that Python calls."""
