"""Decoding of sequence-to-sequence models: greedy, sampled, or by beam search."""
