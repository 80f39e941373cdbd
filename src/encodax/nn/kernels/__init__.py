"""Implementations of attention: plain, fused, blocked, and by cuDNN."""
