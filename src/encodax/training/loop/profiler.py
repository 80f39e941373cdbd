"""Profile of a range of steps, by JAX's profiler."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import jax

PROFILE_FOLDER = "profile"


class Profiler:
    """Profiler that traces a few steps into OUT/profile, for TensorBoard or Perfetto."""

    def __init__(self, steps: range, out: Path | None):
        """Take the steps, counted from 1; without a directory, none is profiled."""
        self._steps = steps if out is not None else range(0)
        self._folder = None if out is None else out / PROFILE_FOLDER
        self.is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def before(self, step: int) -> None:
        """Start the trace if this step is the first of the range."""
        if step in self._steps and not self.is_open:
            jax.profiler.start_trace(str(self._folder))
            self.is_open = True

    def after(self, step: int) -> None:
        """Stop the trace if this step, now done, was the last of the range."""
        if self.is_open and step + 1 not in self._steps:
            self._close()

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            jax.profiler.stop_trace()
