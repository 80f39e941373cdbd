"""Command line: a thin layer over the functions of the Python interface.

Answers go to standard output, everything else to standard error, so that output can be piped. An
error that the user can correct is one line, with exit code 2.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from encodax.cli import look, train, use  # noqa: F401, each adds its commands
from encodax.cli.app import app, stderr_console
from encodax.errors import EncodaxError
from encodax.process import signals
from encodax.process.signals import Terminated, terminable
from encodax.process.terminal import Screen


class _LogPrinter(logging.Handler):
    """Handler that prints the library's log messages, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr_console.print(f"note: {record.getMessage()}", soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **how: Any) -> None:
    """Print a warning of a library in one line, without its place in the code."""
    stderr_console.print(f"warning: {message}", soft_wrap=True)


STOPPED = tuple(map(signals.exit_code, (signal.SIGINT, *signals.TERMINATION_SIGNALS)))
"""Exit codes of commands that a signal ended."""


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        _run()
    except (BrokenPipeError, SystemExit) as end:  # Typer and rich turn one into the other
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            if end.code in STOPPED:
                signals.exit_process(end.code)
            raise
        _redirect_to_null()  # the reader has closed the pipe, as `head` does
        sys.exit(signals.exit_code(signal.SIGPIPE))


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Print log messages and warnings inside this context; restore the previous handlers after."""
    logger, notes, show = logging.getLogger("encodax"), _LogPrinter(), warnings.showwarning
    logger.addHandler(notes)
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show
        logger.removeHandler(notes)


@_logging_to_stderr()
def _run() -> None:
    # Orbax logs what it also raises: only the one-line error is printed.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        try:
            _open_streams()
            with terminable():
                app()
        finally:
            sys.stdout.flush()  # here, where its errors are caught
    except BrokenPipeError:
        raise
    except (EncodaxError, OSError) as error:
        code = getattr(error, "EXIT_CODE", 2)
        line = "; ".join([f"error: {error}", *_exception_notes(error)]).replace("\n", " ")
        stderr_console.print(line, style="red", soft_wrap=True)
        try:
            sys.stdout.flush()
        except OSError:  # the disk of standard output is full
            _redirect_to_null()
        sys.exit(code)
    except (KeyboardInterrupt, SystemExit) as end:
        interrupt = _interrupt_behind(end)
        if interrupt is None:
            raise
        for note in _exception_notes(interrupt):
            logging.getLogger("encodax").warning("%s", note)
        if isinstance(interrupt, Terminated):
            stderr_console.print(f"error: {interrupt}", style="red", soft_wrap=True)
        number = interrupt.signal if isinstance(interrupt, Terminated) else signal.SIGINT
        sys.exit(signals.exit_code(number))


def _open_streams() -> None:
    """Ensure that all three standard streams exist; output is UTF-8 in any locale.

    A lone surrogate, which JSON and file names may contain, is written as its escape.

    Raises:
        EncodaxError: standard output is closed.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # otherwise the next file opened would get the number of a closed stream
    os.close(number)
    is_closed = sys.stdout is None
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if is_closed:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    shown = sys.__stderr__  # not a replacement of it, as in tests
    if shown is not None and shown is sys.stderr and shown.isatty():
        raw = io.BufferedWriter(Screen(shown.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, shown.encoding, line_buffering=True)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if is_closed:
        raise EncodaxError("standard output is closed; send it to a file, or to /dev/null")


def _interrupt_behind(end: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that Typer turned into an exit, if there was one."""
    return next((each for each in signals.causes(end) if isinstance(each, KeyboardInterrupt)), None)


def _exception_notes(error: BaseException) -> list[str]:
    """Return the notes added to an error, such as what is kept of the work."""
    return list(getattr(error, "__notes__", ()))


def _redirect_to_null() -> None:
    """Redirect output to nowhere, so that nothing tries to write it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
