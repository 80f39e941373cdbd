"""What both sides do alike; it needs nothing but Python."""

from __future__ import annotations

from dataclasses import dataclass

RATE, DECAY, CLIP = 5e-5, 0.01, 1.0
"""Of AdamW, constant; and the largest norm of the gradient."""
UNTIMED = 2
"""Steps after compilation whose time is not kept."""
SHAPES = ((32, 32), (16, 128))
"""Rows and tokens of the batches without padding."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything is measured."""

    rounds: int = 7
    steps: int = 6
    """Of each shape, a round."""
    sentences: int = 2_048
    """The first of SST-2."""
    epoch_rounds: int = 3


QUICK = Sizes(rounds=3, steps=2, sentences=256, epoch_rounds=2)
