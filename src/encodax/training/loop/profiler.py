"""A window of steps under JAX's profiler."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import jax

PROFILE_FOLDER = "profile"


class Profiler:
    """Traces a few steps into OUT/profile, for TensorBoard or Perfetto."""

    def __init__(self, steps: range, out: Path | None):
        """Choose the steps, from 1; none where there is no place to write."""
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
        """Begin, where this step is the first of the window."""
        if step in self._steps and not self.is_open:
            jax.profiler.start_trace(str(self._folder))
            self.is_open = True

    def after(self, step: int) -> None:
        """End, where this step, which is done, was the last."""
        if self.is_open and step + 1 not in self._steps:
            self._close()

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            jax.profiler.stop_trace()
