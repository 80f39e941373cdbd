"""Who is compared, and the processes that they run in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
BULK = frozenset({"sentences", "latency"})
ALL = BULK | {"documents", "start", "memory"}


@dataclass(frozen=True)
class Contender:
    """A library at a precision."""

    library: str
    precision: str
    script: str
    workloads: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.library}, {self.precision}"

    @property
    def is_ours(self) -> bool:
        return self.library == "Encodax"


CONTENDERS = (
    Contender("Encodax", "float32", "encodax_worker.py", ALL),
    Contender("Encodax", "bfloat16", "encodax_worker.py", BULK | {"documents"}),
    Contender("Encodax", "int8", "encodax_worker.py", BULK),
    Contender("sentence-transformers", "float32", "sentence_transformers_worker.py", ALL),
    Contender("sentence-transformers", "bfloat16", "sentence_transformers_worker.py", BULK),
    Contender("ONNX Runtime", "float32", "onnx_worker.py", ALL),
    Contender("ONNX Runtime", "int8", "onnx_worker.py", BULK),
    Contender("fastembed", "float32", "fastembed_worker.py", BULK),
)


class WorkerError(Exception):
    """A contender cannot do what it was asked."""


@dataclass(frozen=True)
class Setting:
    """What every process is started with."""

    python: Path
    """Of this project."""
    reference: Path
    """Python of the environment with the other libraries."""
    model: Path
    onnx: Path
    cores: int
    logs: Path


class Worker:
    """A contender's process. It is stopped except while it answers, so that it cannot spin."""

    def __init__(self, contender: Contender, setting: Setting):
        python = setting.python if contender.is_ours else setting.reference
        setting.logs.mkdir(parents=True, exist_ok=True)
        self._log = (setting.logs / f"{contender.name.replace(', ', '-')}.log").open("w")
        self._process = subprocess.Popen(
            [python, HERE / contender.script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
        )
        self.contender = contender
        self.pid = self._process.pid
        self._setting = setting

    def load(self) -> dict[str, Any]:
        """Load the model; the versions of what it runs on."""
        setting = self._setting
        return self.ask(
            "load",
            model=str(setting.model),
            precision=self.contender.precision,
            cores=setting.cores,
            onnx=str(setting.onnx),
        )["versions"]

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
