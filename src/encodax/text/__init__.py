"""Text to token ids and back, for every tokenizer that a model directory may have."""
