"""Implementations of attention: plain, fused, and by cuDNN."""
