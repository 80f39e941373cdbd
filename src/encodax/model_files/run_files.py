"""Files that a training run writes for its reader: a description of the run, and its curve.

OUT/run.json         written once: task, choices, batches, machine, versions
OUT/metrics.jsonl    learning curve: one entry for each step and each evaluation
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
EVALUATION_PREFIX = "eval_"
"""Prefix of the metrics of an evaluation."""

AVERAGED_COUNT_KEY = "average"
"""Number of checkpoints whose parameters were averaged, in the entry of their evaluation: the last
entry of a run with `--average`."""

Entry = dict[str, Any]
"""Entry of a learning curve: `step`, and numbers by name."""


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run that do not change while it goes on; all are JSON values."""

    task: str
    metric: str
    """Metric by which models are compared."""
    larger_is_better: bool
    steps: int
    """Number of steps of the complete run."""
    choices: dict[str, Any]
    """Options that have a value."""
    model: dict[str, Any]
    batch: dict[str, Any]
    surroundings: dict[str, str]
    versions: dict[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    """For `train` and `eval`: the files with path, sha256 and rows, and the number of examples."""
    base: dict[str, Any] | None = None
    """Model that training started from: name, commit on the hub, sha256 of its content."""
    teacher: dict[str, Any] | None = None
    """Teacher in distillation, with the same entries."""

    def write(self, path: Path) -> None:
        """Write the facts to a file."""
        with outputs.open_file(path) as stream:
            stream.write(json_files.written(asdict(self)))


def evaluation_sort_key(
    found: Mapping[str, Any], metric: str, *, larger_is_better: bool
) -> tuple[float, float]:
    """Return a sort key for evaluations: the larger, the better; of equal ones the later wins.

    The metric decides, then the lower loss; values that are not numbers rank last.

    Args:
        found: numbers by name, `loss` among them.
        metric: name of the metric by which models are compared.
        larger_is_better: whether a larger metric is better.
    """
    value = found[metric] if larger_is_better else -found[metric]
    loss = found.get("loss", math.inf)
    return _or_worst(value), _or_worst(-loss)


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def read_facts(path: Path) -> RunFacts:
    """Read the facts about a run.

    Raises:
        EncodaxError: the file is missing, or a key or value is not one that a run writes.
    """
    content = json_files.read(path, hint=": a training run writes it")
    return json_files.from_json(RunFacts, content, path)


def read_curve(path: Path) -> list[Entry]:
    """Read a learning curve, even of an unfinished run: an incomplete last line is skipped.

    Raises:
        EncodaxError: the file is missing, or a line is not an entry.
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
        raise EncodaxError(f"{where}: needs a 'step', and a number for each name")
    return dict(entry)


def _is_number(value: object) -> bool:
    """Return whether a value is a number, and small enough for a chart."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
