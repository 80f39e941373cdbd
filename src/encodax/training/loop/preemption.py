"""Preemption: SIGTERM, SIGHUP or SIGINT asks a run to save and exit.

Schedulers send SIGTERM before they take a machine; SIGHUP arrives when a terminal is closed.

Work that is repeated when the run resumes stops at once; a step or a save is completed first. If
that takes too long, as compiling may, the process still exits in time (`signals.Listener`): the
newest complete checkpoint is what remains.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import jax
from jax.experimental import multihost_utils

from encodax.errors import EncodaxError
from encodax.process import signals

P = ParamSpec("P")
R = TypeVar("R")


class Stopped(EncodaxError):
    """Error of a run that a signal has stopped; its message says what is saved."""

    def __init__(self, message: str, number: signal.Signals = signal.SIGTERM):
        """Create the error for the signal that asked."""
        super().__init__(message)
        self.signal = number

    @property
    def EXIT_CODE(self) -> int:
        """Exit code of the command line: a shell's code for a process that the signal ended."""
        return signals.exit_code(self.signal)


class StopRequested(KeyboardInterrupt):
    """Request to end the run now. Like Ctrl-C, it is not caught by libraries as an error."""


class Interruption:
    """Listener for SIGTERM, SIGHUP and SIGINT while it is open."""

    def __init__(self, resume_hint: Callable[[], str]) -> None:
        """Create a listener; no signal has arrived yet.

        Args:
            resume_hint: function that returns what is saved and how to resume; called when time is
                up.
        """
        self._resume_hint = resume_hint
        self._may_stop = self._has_raised = False
        self._listener = signals.Listener(
            (*signals.TERMINATION_SIGNALS, signal.SIGINT), self._act, self._leave_at_once
        )

    def __enter__(self) -> Self:
        # With several processes JAX itself listens, so that all of them end at the same step.
        if jax.process_count() == 1:
            self._listener.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.__exit__(kind, error, trace)

    @property
    def cause(self) -> signal.Signals:
        """Signal that asked; SIGTERM if JAX received it."""
        return self._listener.first or signal.SIGTERM

    def must_stop(self, step: int) -> bool:
        """Return whether the run must end after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._heard()

    def _heard(self) -> bool:
        """Return whether a signal has arrived; the caller must then end the run."""
        self._listener.is_answered = self._listener.first is not None
        return self._listener.is_answered

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Allow interruption anywhere inside this context: nothing done in it is kept.

        Raises:
            StopRequested: a signal arrived before or inside the context.
        """
        self._may_stop, self._has_raised = True, False
        try:
            if self._heard():
                raise StopRequested
            yield
        except Exception as error:
            if self._has_raised:  # C++ code in between has replaced it by another exception
                raise StopRequested from error
            raise
        finally:
            self._may_stop = False

    def interruptible(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap a function so that it can be interrupted anywhere, see `stoppable`."""

        @functools.wraps(function)
        def stoppable(*arguments: P.args, **named: P.kwargs) -> R:
            with self.stoppable():
                return function(*arguments, **named)

        return stoppable

    def _act(self, number: signal.Signals) -> None:
        if self._may_stop and self._heard():
            self._may_stop = False  # once: the run now shuts down
            self._has_raised = True
            raise StopRequested

    def _leave_at_once(self, number: signal.Signals) -> None:
        signals.leave_at_once(
            number,
            f"stopped by {number.name} before the run could save again; {self._resume_hint()}",
        )
