"""Files and folders that are read consistently, and replaced whole or not at all."""
