"""Monitor of the loss: finds losses that are not finite, and a loss that rises and stays up.

The loss of a single batch says little: if most losses are small, one hard example is many times
the mean. So the exponential mean is monitored, against its lowest value so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MEMORY = 50
"""Approximate number of steps in the mean."""
FIRST = 10
"""Number of steps whose mean is the starting value."""
MIN_STEPS_UP = 25
"""Number of steps in a row that the mean must be up before it is reported."""
DEVIATIONS = 8.0
"""Number of standard deviations of the mean that count as a rise, ..."""
MIN_RISE_SHARE = 0.25
"""... if they are also this share of the mean's total fall since the start."""


@dataclass
class LossMonitor:
    """Monitor that counts skipped steps, and knows how low the loss has been."""

    limit: int
    """Number of bad steps in a row after which the run stops."""
    bad_in_a_row: int = 0
    skipped: int = 0
    """Number of bad steps in total."""
    _curve: Curve = field(default_factory=lambda: Curve(), repr=False)

    def record(self, loss: float, *, is_finite: bool) -> str:
        """Record the loss of a step, and return a note to log, or an empty string."""
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
    """Exponential mean of losses: m_t = m_{t-1} + (x_t - m_{t-1}) / min(t, MEMORY)."""

    mean: float = 0.0
    lowest: float = math.inf
    """Lowest value of the mean, once it covers enough steps."""
    _start: float = 0.0
    """Mean of the first steps."""
    _variance: float = 0.0
    """Variance of losses around the mean, with the same memory."""
    _seen: int = 0
    _up: int = 0
    """Number of steps in a row that the mean is up."""
    _has_warned: bool = False

    def rises(self, loss: float) -> bool:
        """Add a loss; return True when the mean stays up, once until it is down again."""
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
        self._has_warned &= above > rise / 4
        is_news = self._up >= MIN_STEPS_UP and not self._has_warned
        self._has_warned |= is_news
        return is_news

    @property
    def _rise(self) -> float:
        """Distance above the lowest mean that counts as a rise."""
        of_mean = math.sqrt(self._variance / (2 * MEMORY - 1))
        return max(DEVIATIONS * of_mean, MIN_RISE_SHARE * (self._start - self.lowest))
