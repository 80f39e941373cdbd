"""SIGTERM, SIGHUP and SIGINT, heard at once, also while the main thread compiles.

Python runs a handler in the main thread, between two instructions of its own: not while XLA
compiles, a step runs or a file is written. So a thread reads the numbers of signals from a pipe
(`signal.set_wakeup_fd`), and ends a process that does not come to end by itself.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ExtensionFileLoader
from types import FrameType, TracebackType
from typing import Any, Self

GRACE = 4.0
"""Seconds from a signal to the end by force: whoever sends SIGKILL after it waits 5 or more."""
AGAIN = 0.05
"""Seconds from a signal that comes while an extension module is made to the next look."""
CLOSED = 0
"""In the pipe: no more is to be read. No signal has this number."""


ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end, beside Ctrl-C: a scheduler, or a terminal that is closed."""


class Terminated(KeyboardInterrupt):
    """One of `ENDING` has come: what is done then is what Ctrl-C does, with its own exit code."""

    def __init__(self, number: signal.Signals):
        """Say which one."""
        super().__init__(f"stopped by {number.name}")
        self.signal = number


class Listener:
    """Hears signals while it is open; outside the main thread, where none arrives, it hears none.

    What handlers there were before are there again after it, and are given a signal that has come
    without any effect. A signal that was ignored stays so.
    """

    def __init__(
        self,
        signals: Sequence[signal.Signals],
        act: Callable[[signal.Signals], None],
        leave: Callable[[signal.Signals], None],
    ):
        """Hear nothing yet.

        Args:
            signals: which ones.
            act: called in the main thread, as soon as that runs Python; what it raises is raised
                there.
            leave: called on another thread where `GRACE` has passed since the first signal, and at
                once where SIGINT comes again.
        """
        self._signals, self._act, self._leave = signals, act, leave
        self._before: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None
        self._read = self._write = self._wakeup = -1
        self._sent_again = 0
        self.first: signal.Signals | None = None
        """The first that has come."""
        self.is_answered = False
        """Whether somebody ends what is done because of it."""

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        heard = [number for number in self._signals if _is_ours(number)]
        if heard:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._thread = threading.Thread(target=self._watch, name="encodax-signals", daemon=True)
            self._thread.start()
            _open.append(self)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        _open.remove(self)
        os.write(self._write, bytes([CLOSED]))
        self._thread.join()
        self._thread = None
        os.close(self._read)
        os.close(self._write)
        if self.first is not None and not self.is_answered:
            signal.raise_signal(self.first)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or signal.Signals(number)
        if _makes_extension(frame):
            again = threading.Timer(AGAIN, self._send_again, (number,))
            again.daemon = True
            again.start()
        else:
            self._act(signal.Signals(number))

    def _send_again(self, number: int) -> None:
        if self._thread is not None:
            self._sent_again += 1
            _thread.interrupt_main(signal.Signals(number))

    def _watch(self) -> None:
        """Read numbers of signals until it is closed, or time is up."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        first, end = None, 0.0
        while True:
            if not poll.poll(None if first is None else max(end - time.monotonic(), 0) * 1e3):
                assert first is not None
                self._leave(first)
                return
            for number in os.read(self._read, 64):
                if number == CLOSED:
                    return
                if number not in self._signals:
                    continue
                if self._sent_again:
                    self._sent_again -= 1
                    continue
                if first is None:
                    first, end = signal.Signals(number), time.monotonic() + GRACE
                    self.first = self.first or first
                elif number == signal.SIGINT:
                    self._leave(signal.SIGINT)


def _is_ours(number: signal.Signals) -> bool:
    """Whether a handler may be put there: none of C is, nor is the signal ignored (`nohup`)."""
    return signal.getsignal(number) not in (None, signal.SIG_IGN)


def _makes_extension(frame: FrameType | None) -> bool:
    """Whether a module of C is being imported.

    An exception there may end the process, or become an ImportError.
    """
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


_open: list[Listener] = []


def _forget() -> None:
    """In a process that was forked: a signal to it is not one to its parent, whose pipe it has."""
    if _open:
        signal.set_wakeup_fd(-1)
        for number in {number for listener in _open for number in listener._before}:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


def exit_code(number: signal.Signals) -> int:
    """What a shell says of a process that a signal has ended."""
    return 128 + number


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, and all three when an exception may be raised.

    Raises:
        KeyboardInterrupt: SIGINT has come.
        Terminated: another one has come. Where this does not come to its end in time, the process
            does.
    """
    raised: KeyboardInterrupt | None = None

    def act(number: signal.Signals) -> None:
        nonlocal raised
        if not listener.is_answered:
            listener.is_answered = True
            raised = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
            raise raised

    def leave(number: signal.Signals) -> None:
        # What was raised may have been dropped where Python drops all, as in a finalizer.
        leave_at_once(number, str(Terminated(number)))

    listener = Listener((signal.SIGINT, *ENDING), act, leave)
    with listener:
        try:
            yield
        except Exception as error:
            if raised is None or raised in causes(error):
                raise
            raise raised from error  # code of C has made another exception of it


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def end(code: int) -> None:
    """End this process with an exit code, after all is put away and told.

    Python would take JAX down first, a second's work that whoever waits to send SIGKILL does not
    give. Processes of one run take leave of each other: there nothing is done.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def leave_at_once(number: signal.Signals, message: str) -> None:
    """Say a line on standard error, and end the process here; but not a session of somebody's.

    Whoever sits before an interpreter or a notebook and stops what it does wants to go on with it.
    """
    if number == signal.SIGINT and hasattr(sys, "ps1"):
        return
    shown = "\x1b[?25h" if os.isatty(2) else ""  # the cursor, which a live display hides
    with suppress(OSError):
        os.write(2, f"{shown}error: {message}\n".encode(errors="replace"))
    os._exit(exit_code(number))
