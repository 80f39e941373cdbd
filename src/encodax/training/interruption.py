"""SIGTERM, SIGHUP or SIGINT asks a run to save and end.

Schedulers send SIGTERM before they take a machine; SIGHUP comes where a terminal is closed.

What may be left off at any moment, as it is done again when the run goes on, stops at once; a step
or a save comes to its end first. Where that takes too long, as compiling may, the process ends in
time all the same (`signals.Listener`): the newest checkpoint that is whole is what is left.
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

from encodax import signals
from encodax.errors import EncodaxError

P = ParamSpec("P")
R = TypeVar("R")


class Stopped(EncodaxError):
    """A run was asked to end, and has saved; the message says how to go on."""

    def __init__(self, message: str, number: signal.Signals = signal.SIGTERM):
        """Say which signal asked for it."""
        super().__init__(message)
        self.signal = number

    @property
    def EXIT_CODE(self) -> int:
        """Of the command line: what a shell says of a process that the signal has ended."""
        return signals.exit_code(self.signal)


class Asked(KeyboardInterrupt):
    """The run is to end now. Like Ctrl-C, no library takes it for an error of its own."""


class Interruption:
    """Notes SIGTERM, SIGHUP and SIGINT while it is open."""

    def __init__(self, way_on: Callable[[], str]) -> None:
        """Note none yet.

        Args:
            way_on: says what is saved, and how to go on with it; called where time is up.
        """
        self._way_on = way_on
        self._may_stop = self._has_raised = False
        self._listener = signals.Listener(
            (*signals.ENDING, signal.SIGINT), self._act, self._leave_at_once
        )

    def __enter__(self) -> Self:
        # Of several processes JAX itself listens, so that all of them end at the same step.
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
        """Which one asked; SIGTERM where JAX has heard it."""
        return self._listener.first or signal.SIGTERM

    def is_asked(self, step: int) -> bool:
        """Whether the run is to end after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._heard()

    def _heard(self) -> bool:
        """Whether a signal has come; whoever asks ends the run then."""
        self._listener.is_answered = self._listener.first is not None
        return self._listener.is_answered

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """What is done meanwhile may be left off anywhere: nothing of it is kept.

        Raises:
            Asked: a signal has come, before or meanwhile.
        """
        self._may_stop, self._has_raised = True, False
        try:
            if self._heard():
                raise Asked
            yield
        except Exception as error:
            if self._has_raised:  # code of C has made another exception of it
                raise Asked from error
            raise
        finally:
            self._may_stop = False

    def stops(self, function: Callable[P, R]) -> Callable[P, R]:
        """A function that may be left off anywhere, as `stoppable` says."""

        @functools.wraps(function)
        def stoppable(*arguments: P.args, **named: P.kwargs) -> R:
            with self.stoppable():
                return function(*arguments, **named)

        return stoppable

    def _act(self, number: signal.Signals) -> None:
        if self._may_stop and self._heard():
            self._may_stop = False  # once: what follows is the way out
            self._has_raised = True
            raise Asked

    def _leave_at_once(self, number: signal.Signals) -> None:
        signals.leave_at_once(
            number, f"stopped by {number.name} before the run could save again; {self._way_on()}"
        )
