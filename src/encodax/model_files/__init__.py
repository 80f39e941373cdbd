"""Files of a model directory: strict reading, atomic writing."""
