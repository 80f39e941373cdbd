"""What a run writes is read back, and what is damaged is one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from encodax.errors import EncodaxError
from encodax.model_files.run_files import RunFacts, read_curve, read_facts

FACTS = RunFacts("classification", "f1", True, 4, {"widths": [8]}, {}, {}, {"jax": "1"}, {})


def test_facts_are_read_back(tmp_path: Path) -> None:
    FACTS.write(tmp_path / "run.json")
    assert read_facts(tmp_path / "run.json") == FACTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run\.json does not exist: a training run writes it"),
        ("{", r"run\.json is not JSON"),
        ("{}", r"run\.json: task is missing"),
        ('{"a": 1}', r"run\.json: a is not known; remove it"),
    ],
)
def test_facts_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(EncodaxError, match=message):
        read_facts(tmp_path / "run.json")


def test_a_curve_is_read_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1}\n{"step": 3, "lo')
    assert [entry["step"] for entry in read_curve(file)] == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: a training run writes it"),
        (b'{"step": 1}\nolder\n', "line 2: is not JSON"),
        (b"\xff\n", "line 1: is not JSON"),
        (b"[1]\n", "line 1: needs a 'step', and a number for each name"),
        (b'{"loss": 1.0}\n', "line 1: needs a 'step'"),
        (b'{"step": 1, "loss": "low"}\n', "line 1: needs a 'step', and a number"),
    ],
)
def test_a_curve_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "metrics.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EncodaxError, match=message):
        read_curve(file)
