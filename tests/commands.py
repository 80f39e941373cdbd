"""Helpers to call the command line: in this process, or in a separate one."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encodax.cli import main
from encodax.process import signals

COMMAND = [sys.executable, "-W", "error", "-m", "encodax"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: object
    out: str
    err: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Standard output, which holds JSON Lines and nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]


Call = Callable[..., Outcome]


@pytest.fixture
def call(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `main` in this process, in the folder `site`."""
    monkeypatch.chdir(site)

    def call(*arguments: str, stdin: bytes | None = None) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["encodax", *arguments])
        stream = Terminal() if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        monkeypatch.setattr(sys, "stdin", stream)
        monkeypatch.setattr(
            signals, "exit_process", lambda code: None
        )  # this process is not the command's
        with pytest.raises(SystemExit) as stop:
            main.main()
        captured = capsys.readouterr()
        return Outcome(stop.value.code or 0, captured.out, captured.err)

    return call


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def real(site: Path, *arguments: str, limit: int | None = None, **how: Any) -> Outcome:
    """Runs the command in a process of its own; `limit` is the size of a file, in 512 bytes."""
    command = [*COMMAND, *arguments]
    if limit is not None:
        command = ["sh", "-c", f'ulimit -f {limit}; exec "$@"', "sh", *command]
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **how}
    done = subprocess.run(command, cwd=site, stderr=subprocess.PIPE, **how)
    return Outcome(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def assert_refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert re.fullmatch(rf"error: .*{message}.*", lines[-1]), outcome.err
    # A run tells of its steps before it fails.
    assert [line for line in lines[:-1] if not line.startswith("step ")] == []
    assert "Traceback" not in outcome.err
    assert outcome.out == "" or outcome.out.endswith("\n")  # what came before is answered
