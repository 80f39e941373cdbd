"""SIGTERM does what Ctrl-C does, and handlers are as they were afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from encodax import cli, signals
from encodax.data.sources import open_output
from encodax.signals import Listener, Terminated, terminable


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, before)


def test_what_is_done_is_kept_and_named(tmp_path: Path) -> None:
    place = tmp_path / "answers.jsonl"
    with pytest.raises(Terminated) as error, terminable(), open_output(place) as stream:
        stream.write("one\ntwo\n")
        os.kill(os.getpid(), signal.SIGTERM)
    assert (tmp_path / "answers.jsonl.partial").read_text() == "one\ntwo\n"
    assert error.value.__notes__ == [f"the 2 lines that come before it are kept in {place}.partial"]


def test_the_command_line_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["encodax"])
    ends: list[int] = []
    monkeypatch.setattr(signals, "end", ends.append)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert [stop.value.code] == ends == [143]
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
from encodax import signals
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
