"""What a training run writes beside its model, for whoever looks at it: what it is, and its curve.

OUT/run.json         once: task, choices, batches, machine, versions
OUT/metrics.jsonl    the learning curve: an entry a step, and one an evaluation
OUT/report.html      both as a page, made by `run_report`
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encodax import json_files
from encodax.errors import EncodaxError

METRICS_FILE = "metrics.jsonl"
RUN_FILE = "run.json"
REPORT_FILE = "report.html"
EVALUATION = "eval_"
"""What the names of an evaluation's metrics begin with."""

Entry = dict[str, Any]
"""Of a learning curve: `step`, and numbers by name."""


@dataclass(frozen=True)
class RunFacts:
    """What does not change while a run goes on, all of it JSON."""

    task: str
    metric: str
    """By which one model is better than another."""
    larger_is_better: bool
    steps: int
    """That the run is to have."""
    choices: dict[str, Any]
    """Those that have a value."""
    model: dict[str, Any]
    batch: dict[str, Any]
    surroundings: dict[str, str]
    versions: dict[str, str]

    def write(self, path: Path) -> None:
        """Write them as a file."""
        json_files.write(path, asdict(self))


def read_facts(path: Path) -> RunFacts:
    """What a run is.

    Raises:
        EncodaxError: the file is missing, or names a key that no run would write so.
    """
    content = json_files.read(path, hint=": a training run writes it")
    return json_files.built(RunFacts, content, path)


def read_curve(path: Path) -> list[Entry]:
    """A learning curve, also while a run writes it: a last line without its end is left out.

    Raises:
        EncodaxError: the file is missing, or a line is no entry.
    """
    if not path.is_file():
        raise EncodaxError(f"{path} does not exist: a training run writes it")
    with path.open("rb") as stream:
        return [
            _entry(line, f"{path}, line {number}")
            for number, line in enumerate(stream, 1)
            if line.endswith(b"\n")
        ]


def _entry(line: bytes, where: str) -> Entry:
    try:
        entry = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise EncodaxError(f"{where}: is not JSON: {error}") from error
    is_entry = isinstance(entry, dict) and type(entry.get("step")) is int
    if not is_entry or not all(map(_is_number, entry.values())):
        raise EncodaxError(f"{where}: wants a step, and numbers by name")
    return dict(entry)


def _is_number(value: object) -> bool:
    """Whether a value is one, and not beyond those that a picture has a place for."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
