"""The files of a model directory, read strictly and written whole."""
