"""What a run watches for: losses that are not finite, and a loss that rises and stays up.

The loss of a single batch says little: where most losses are small, one hard example is many times
the mean. What is watched is the exponential mean of them, against the lowest that it has been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MEMORY = 50
"""Steps over which the mean is taken, about."""
FIRST = 10
"""Steps whose mean is where it began."""
STAYS = 25
"""Steps in a row that the mean has to be up before it is told."""
DEVIATIONS = 8.0
"""Standard deviations of such a mean that count as a rise, ..."""
SHARE = 0.25
"""... if they are this share of all that the mean has fallen since the start, too."""


@dataclass
class Guard:
    """Counts steps that changed nothing, and knows how low the loss has been."""

    limit: int
    """Bad steps in a row after which a run is to stop."""
    bad_in_a_row: int = 0
    skipped: int = 0
    """Bad steps in all."""
    _curve: Curve = field(default_factory=lambda: Curve(), repr=False)

    def sees(self, loss: float, *, is_finite: bool) -> str:
        """Take note of a step; what is worth saying of it, or nothing."""
        if not is_finite:
            self.bad_in_a_row += 1
            self.skipped += 1
            return "the loss or its gradient is not finite: the step was skipped"
        self.bad_in_a_row = 0
        if not self._curve.rises(loss):
            return ""
        return (
            f"the loss has risen to about {self._curve.mean:.4g} from {self._curve.lowest:.4g} and "
            "stays up: a lower learning rate may help, unless the data are worse from here on"
        )

    @property
    def is_over(self) -> bool:
        """Whether there were too many bad steps in a row."""
        return self.bad_in_a_row >= self.limit


@dataclass
class Curve:
    """The exponential mean of losses: m_t = m_{t-1} + (x_t - m_{t-1}) / min(t, MEMORY)."""

    mean: float = 0.0
    lowest: float = math.inf
    """That the mean has been, once it was one of many steps."""
    _start: float = 0.0
    """The mean of the first steps."""
    _variance: float = 0.0
    """Of losses around the mean, of the same memory."""
    _seen: int = 0
    _up: int = 0
    """Steps in a row that the mean is up."""
    _is_told: bool = False

    def rises(self, loss: float) -> bool:
        """Take a loss in; True where the mean stays up, once until it is down again."""
        self._seen += 1
        share = 1 / min(self._seen, MEMORY)
        off = loss - self.mean
        self.mean += share * off
        self._variance = (1 - share) * (self._variance + share * off * off)
        if self._seen <= FIRST:
            self._start = self.mean
        if self._seen < MEMORY // 2:
            return False
        self.lowest = min(self.lowest, self.mean)
        above, rise = self.mean - self.lowest, self._rise
        self._up = self._up + 1 if above > rise else 0
        self._is_told &= above > rise / 4
        is_news = self._up >= STAYS and not self._is_told
        self._is_told |= is_news
        return is_news

    @property
    def _rise(self) -> float:
        """How far above the lowest the mean is up."""
        of_mean = math.sqrt(self._variance / (2 * MEMORY - 1))
        return max(DEVIATIONS * of_mean, SHARE * (self._start - self.lowest))
