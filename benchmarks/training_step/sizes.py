"""What both sides do alike; this file needs nothing but Python."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

RATE, DECAY, CLIP = 5e-5, 0.01, 1.0
"""Of AdamW, constant; and the largest norm of the gradient."""
UNTIMED = 2
"""Steps after compilation whose time is not kept."""
MATMUL_SIZE = 2_048
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


class Clock:
    """Seconds that pass, and seconds of all cores, between its two ends."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = time.process_time() - self._cpu

    def each(self, count: int) -> dict[str, float]:
        """Of one of so many."""
        return {"seconds": self._wall / count, "cpu_seconds": self._cpu / count}
