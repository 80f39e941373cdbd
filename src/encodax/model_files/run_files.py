"""What a training run writes beside its model, for whoever looks at it: what it is, and its curve.

OUT/run.json         once: task, choices, batches, machine, versions
OUT/metrics.jsonl    the learning curve: an entry a step, and one an evaluation
OUT/report.html      both as a page, made by `run_report`
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from encodax.data import formats
from encodax.errors import EncodaxError
from encodax.storage import json_files, outputs

METRICS_FILE = "metrics.jsonl"
RUN_FILE = "run.json"
REPORT_FILE = "report.html"
EVALUATION = "eval_"
"""What the names of an evaluation's metrics begin with."""

AVERAGE = "average"
"""Of how many checkpoints parameters are the mean, in the entry of their evaluation: the last one
of a run that ends with such a mean (`--average`)."""

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
    data: dict[str, Any] = field(default_factory=dict)
    """Of `train` and `eval` the files, each with path, sha256 and rows, and how many examples."""
    base: dict[str, Any] | None = None
    """The model that it began from: name, commit on the hub, sha256 of its content."""
    teacher: dict[str, Any] | None = None
    """The same of the model that it learns from."""

    def write(self, path: Path) -> None:
        """Write them as a file."""
        with outputs.open_file(path) as stream:
            stream.write(json_files.written(asdict(self)))


def standing(
    found: Mapping[str, Any], metric: str, *, larger_is_better: bool
) -> tuple[float, float]:
    """How good an evaluation is: the larger is the better one, and of equal ones the later.

    The metric decides, and of equal ones the lower loss; what is no number is the worst.

    Args:
        found: numbers by name, the `loss` among them.
        metric: by which models are compared.
        larger_is_better: which way.
    """
    value = found[metric] if larger_is_better else -found[metric]
    loss = found.get("loss", math.inf)
    return _or_worst(value), _or_worst(-loss)


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value


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
            for number, line in enumerate(formats.byte_lines(stream), 1)
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
