"""Tokenizers: from text to token ids and back, for all that a model directory may have."""
