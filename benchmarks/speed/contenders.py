"""Who is compared, and the processes that they run in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.workers import Worker

BULK = frozenset({"sentences", "latency"})
ALL = BULK | {"documents", "start", "memory"}


@dataclass(frozen=True)
class Contender:
    """A library at a precision."""

    library: str
    precision: str
    module: str
    """Beside this one."""
    workloads: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.library}, {self.precision}"

    @property
    def is_ours(self) -> bool:
        return self.library == "Encodax"


CONTENDERS = (
    Contender("Encodax", "float32", "encodax_worker", ALL),
    Contender("Encodax", "bfloat16", "encodax_worker", BULK | {"documents"}),
    Contender("Encodax", "int8", "encodax_worker", BULK),
    Contender("sentence-transformers", "float32", "sentence_transformers_worker", ALL),
    Contender("sentence-transformers", "bfloat16", "sentence_transformers_worker", BULK),
    Contender("ONNX Runtime", "float32", "onnx_worker", ALL),
    Contender("ONNX Runtime", "int8", "onnx_worker", BULK),
    Contender("fastembed", "float32", "fastembed_worker", BULK),
)


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


class Process(Worker):
    """A contender's process."""

    def __init__(self, contender: Contender, setting: Setting):
        python = setting.python if contender.is_ours else setting.reference
        log = setting.logs / f"{contender.name.replace(', ', '-')}.log"
        super().__init__(python, f"{__package__}.{contender.module}", log)
        self.contender = contender
        self._setting = setting

    def begin(self) -> dict[str, str]:
        """Load the model; the versions of what it runs on."""
        setting = self._setting
        return self.load(
            model=str(setting.model),
            precision=self.contender.precision,
            cores=setting.cores,
            onnx=str(setting.onnx),
        )
