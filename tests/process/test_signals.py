"""SIGTERM and SIGHUP do what Ctrl-C does, and handlers are as they were afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from encodax.cli import main
from encodax.data.sources import open_output
from encodax.process import signals
from encodax.process.signals import Listener, Terminated, terminable


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in signals.TERMINATION_SIGNALS
    }
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.TERMINATION_SIGNALS)
def test_what_is_done_is_kept_and_named(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / "answers.jsonl"
    with pytest.raises(Terminated) as error, terminable(), open_output(place) as stream:
        stream.write("one\ntwo\n")
        os.kill(os.getpid(), number)
    assert (tmp_path / "answers.jsonl.partial").read_text() == "one\ntwo\n"
    assert error.value.__notes__ == [f"the 2 lines that come before it are kept in {place}.partial"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_line_ends_with_its_code(
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(main, "app", lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["encodax"])
    ends: list[int] = []
    monkeypatch.setattr(signals, "exit_process", ends.append)
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert [stop.value.code] == ends == [code]
    assert capsys.readouterr().err == f"error: stopped by {number.name}\n"


@pytest.mark.parametrize("number", signals.TERMINATION_SIGNALS)
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with terminable():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN
    signal.signal(number, signal.SIG_DFL)


CLOSED = """
import sys, time
from encodax.cli import main as cli
from encodax.data.sources import open_output
def app():
    with open_output(sys.argv[1]) as stream:
        stream.write("one\\n")
        cli.stderr_console.print("begins")
        while True:
            time.sleep(0.001)
            cli.stderr_console.print("goes on")
cli.app = app
cli.main()
"""


def test_a_terminal_that_is_closed_loses_no_answers(tmp_path: Path) -> None:
    """What is told to it then is not heard, which is no reason to end otherwise."""
    place = tmp_path / "answers.jsonl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not use
        child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", CLOSED, str(place)])
    try:
        while b"goes on" not in os.read(terminal, 1024):
            pass
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert (tmp_path / "answers.jsonl.partial").read_text() == "one\n"


def test_a_caller_is_given_what_nobody_has_acted_on() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with Listener((signal.SIGTERM,), lambda number: None, lambda number: None):
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == []
    assert heard == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_forked_process_is_not_its_parent() -> None:
    """It has the same pipe: a signal to it would count for the parent."""
    with Listener((signal.SIGTERM,), lambda number: None, lambda number: None) as listener:
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, which the child does not use
            child = os.fork()
        if child == 0:
            os.write(write, b"!")
            signal.pause()
            os._exit(0)
        os.read(read, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        os.close(read)
        os.close(write)
        assert listener.first is None


DROPPED = """
import os, signal, sys, time
from encodax.process import signals
signals.GRACE = 0.5
class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
with signals.terminable():
    Dropping()
    print("goes on", flush=True)
    time.sleep(60)
"""


def test_what_python_drops_is_not_lost() -> None:
    """What is raised in a finalizer goes no further."""
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True)
    assert done.stdout == "goes on\n"
    assert done.returncode == 143
    assert done.stderr.endswith("error: stopped by SIGTERM\n")


IMPORTING = """
import os, signal, sys
from importlib.machinery import ExtensionFileLoader
from encodax.process import signals

class Sends:
    sent = 0
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe()
        while frame is not None and not isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            frame = frame.f_back
        if frame is not None and not Sends.sent:
            Sends.sent = 1
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Sends())
try:
    with signals.terminable():
        import jax
        import time
        time.sleep(60)
except KeyboardInterrupt as error:
    print(type(error).__name__, Sends.sent)
"""


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "KeyboardInterrupt")],
)
def test_a_module_of_c_is_made_before_a_signal_is_raised(
    number: signal.Signals, raised: str
) -> None:
    """What is raised there ends the process with a hundred lines, or is told as an ImportError."""
    command = [sys.executable, "-c", IMPORTING, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == (f"{raised} 1\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_code_of_c_makes_of_it_is_still_the_signal(number: signal.Signals) -> None:
    """MLIR makes a RuntimeError of what is raised in a callback."""
    module = jax.jit(lambda x: x).lower(1.0).compiler_ir("stablehlo")

    def visit(operation: Any) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt) as error, terminable():
        module.operation.walk(visit)
    assert isinstance(error.value, Terminated) == (number == signal.SIGTERM)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_another_error_after_it_is_told() -> None:
    """As where what is kept of the work cannot be written."""
    with pytest.raises(OSError, match="disk"), terminable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise OSError("the disk is full")
