"""SIGTERM, SIGHUP and SIGINT, handled at once, even while the main thread compiles.

Python runs a handler in the main thread, between two of its instructions: not while XLA compiles,
a step runs or a file is written. So a thread reads the numbers of signals from a pipe
(`signal.set_wakeup_fd`), and ends a process that does not end in time.
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
"""Seconds from a signal to a forced end: schedulers wait 5 or more before they send SIGKILL."""
RETRY_AFTER = 0.05
"""Seconds from a signal that comes during the import of an extension module to the next try."""
CLOSED = 0
"""Byte in the pipe after which no more is read. No signal has this number."""


TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals other than Ctrl-C that ask a process to end: of a scheduler, or a closed terminal."""


class Terminated(KeyboardInterrupt):
    """One of `TERMINATION_SIGNALS` has come: handled as Ctrl-C is, with its own exit code."""

    def __init__(self, number: signal.Signals):
        """Set the signal, and the message."""
        super().__init__(f"stopped by {number.name}")
        self.signal = number


class Listener:
    """Listener for signals while it is open; outside the main thread it receives none.

    On exit the earlier handlers are restored, and are given a signal that came and was not acted
    on. A signal that was ignored stays ignored.
    """

    def __init__(
        self,
        signals: Sequence[signal.Signals],
        act: Callable[[signal.Signals], None],
        leave: Callable[[signal.Signals], None],
    ):
        """Set the signals and handlers; listening starts on entry.

        Args:
            signals: signals to handle.
            act: called in the main thread, as soon as that runs Python; its exceptions are raised
                there.
            leave: called on another thread when `GRACE` has passed since the first signal, and at
                once when SIGINT comes again.
        """
        self._signals, self._act, self._leave = signals, act, leave
        self._before: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None
        self._read = self._write = self._wakeup = -1
        self._sent_again = 0
        self.first: signal.Signals | None = None
        """First signal that has come."""
        self.is_answered = False
        """Whether some code ends the work because of it."""

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
        if _imports_extension(frame):
            again = threading.Timer(RETRY_AFTER, self._send_again, (number,))
            again.daemon = True
            again.start()
        else:
            self._act(signal.Signals(number))

    def _send_again(self, number: int) -> None:
        if self._thread is not None:
            self._sent_again += 1
            _thread.interrupt_main(signal.Signals(number))

    def _watch(self) -> None:
        """Read numbers of signals until the listener is closed, or time is up."""
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
    """Return True if a handler may be set: the present one is Python's, and not to ignore."""
    return signal.getsignal(number) not in (None, signal.SIG_IGN)


def _imports_extension(frame: FrameType | None) -> bool:
    """Return whether an extension module is being imported.

    An exception there may end the process, or become an ImportError.
    """
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


_open: list[Listener] = []


def _forget() -> None:
    """Drop the handlers in a fork: it shares the pipe of its parent, whose signals are separate."""
    if _open:
        signal.set_wakeup_fd(-1)
        for number in {number for listener in _open for number in listener._before}:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


def exit_code(number: signal.Signals) -> int:
    """Return the exit code that a shell gives a process ended by this signal."""
    return 128 + number


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, outside the import of extension modules.

    Raises:
        KeyboardInterrupt: SIGINT has come.
        Terminated: another one has come. Where the block does not end in time, the process is
            ended.
    """
    raised: KeyboardInterrupt | None = None

    def act(number: signal.Signals) -> None:
        nonlocal raised
        if not listener.is_answered:
            listener.is_answered = True
            raised = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
            raise raised

    def leave(number: signal.Signals) -> None:
        # The exception may have been dropped where Python drops all of them, as in a finalizer.
        leave_at_once(number, str(Terminated(number)))

    listener = Listener((signal.SIGINT, *TERMINATION_SIGNALS), act, leave)
    with listener:
        try:
            yield
        except Exception as error:
            if raised is None or raised in causes(error):
                raise
            raise raised from error  # C++ code in between has replaced it


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, then those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def exit_process(code: int) -> None:
    """End this process with an exit code, after all output is flushed.

    Python would shut JAX down first, which takes a second: longer than some schedulers wait before
    SIGKILL. The processes of a distributed run must shut down together: there nothing is done.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def leave_at_once(number: signal.Signals, message: str) -> None:
    """Print a line to standard error and end the process; not on Ctrl-C in an interactive session.

    The user of an interpreter or a notebook who interrupts a command wants to continue with it.
    """
    if number == signal.SIGINT and hasattr(sys, "ps1"):
        return
    shown = "\x1b[?25h" if os.isatty(2) else ""  # the cursor, which a live display hides
    with suppress(OSError):
        os.write(2, f"{shown}error: {message}\n".encode(errors="replace"))
    os._exit(exit_code(number))
