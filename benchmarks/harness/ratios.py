"""Ratios and spreads of what was measured round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

QUIET = 0.05
"""Share of the cores that other programs may take before ratios mean little."""
Values = np.ndarray | Sequence[float]


@dataclass(frozen=True)
class Ratio:
    """Of medians over all rounds; smallest and largest of a round."""

    of_medians: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, theirs: Values, ours: Values) -> Self:
        """How many times as fast we are, by the seconds of both sides."""
        each = np.asarray(theirs) / np.asarray(ours)
        middle = float(np.median(theirs) / np.median(ours))
        return cls(middle, float(each.min()), float(each.max()))

    def __str__(self) -> str:
        return f"{self.of_medians:.2f} ({self.smallest:.2f} .. {self.largest:.2f})"


def spread(values: Values, form: str) -> str:
    """Median (smallest .. largest)."""
    return f"{np.median(values):{form}} ({np.min(values):{form}} .. {np.max(values):{form}})"
