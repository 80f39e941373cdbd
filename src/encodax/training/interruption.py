"""SIGTERM asks a run to save and end: what schedulers send before they take a machine away."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import jax
from jax.experimental import multihost_utils

from encodax.errors import EncodaxError


class Stopped(EncodaxError):
    """A run was asked to end, and has saved; the message says how to go on."""

    EXIT_CODE = 143
    """Of the command line: what a shell says of a process that SIGTERM has ended."""


class Interruption:
    """Notes a SIGTERM while it is open; the run looks at it between steps."""

    def __init__(self) -> None:
        self._is_asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Of several processes JAX itself listens, so that all of them end at the same step.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True

    def is_asked(self, step: int) -> bool:
        """Whether the run is to end after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._is_asked
