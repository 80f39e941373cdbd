"""What a run watches for: losses that are not finite, and losses that jump."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SPIKE = 6.0
"""Standard deviations above the mean of late losses that are called a spike."""
MEMORY = 50
"""Steps over which that mean is taken, about."""


@dataclass
class Guard:
    """Counts steps that changed nothing, and knows what a loss usually is."""

    limit: int
    """Bad steps in a row after which a run is to stop."""
    bad_in_a_row: int = 0
    skipped: int = 0
    """Bad steps in all."""
    _seen: int = field(default=0, repr=False)
    _mean: float = field(default=0.0, repr=False)
    _square: float = field(default=0.0, repr=False)

    def sees(self, loss: float, *, is_finite: bool) -> str:
        """Take note of a step; what is worth saying of it, or nothing."""
        if not is_finite:
            self.bad_in_a_row += 1
            self.skipped += 1
            return "the loss or its gradient is not finite: the step was skipped"
        self.bad_in_a_row = 0
        usual, spread = self._mean, math.sqrt(max(self._square - self._mean**2, 0.0))
        is_spike = self._seen >= MEMORY and loss > usual + SPIKE * spread
        self._seen += 1
        share = 1 / min(self._seen, MEMORY)
        self._mean += share * (loss - self._mean)
        self._square += share * (loss**2 - self._square)
        return f"the loss jumped to {loss:.4g} from about {usual:.4g}" if is_spike else ""

    @property
    def is_over(self) -> bool:
        """Whether there were too many bad steps in a row."""
        return self.bad_in_a_row >= self.limit
