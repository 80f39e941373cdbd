"""The processes that a driver asks: the other end of `protocol.py`."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from benchmarks.harness import children


class WorkerError(Exception):
    """A worker cannot do what it was asked."""


class Worker:
    """A module in a process. It is stopped except while it answers, so that it cannot spin."""

    def __init__(self, python: str | Path, module: str, log: Path, *, stops: bool = True):
        """Start it; what it and its libraries say goes to the file `log`."""
        self._stops = stops
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("w")
        self._process = subprocess.Popen(
            children.command(python, module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=children.environment(TOKENIZERS_PARALLELISM="true"),
        )
        self.pid = self._process.pid

    def load(self, **choices: Any) -> dict[str, str]:
        """Make what answers; the versions of what it runs on."""
        return self.ask("load", **choices)["versions"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request, and wait for its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended; see {Path(self._log.name).name}")
        if self._stops:
            self._process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            stream.close()
