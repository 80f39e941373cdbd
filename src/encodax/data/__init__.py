"""Records from files, and sequences packed into rows."""
