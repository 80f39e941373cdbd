"""Records are parsed once if their examples fit in memory, and are the same if they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from encodax import tasks
from encodax.data.sources import Record
from encodax.tasks import classification
from encodax.tasks import examples as module
from encodax.tasks.examples import examples_of_records
from encodax.tasks.task import Example, Task
from encodax.training.setup.prepare import prepare

RECORDS = [{"text": f"text {index}", "label": "xy"[index % 2]} for index in range(20)]


def counting(counts: Counter[str]) -> Task:
    """Classification that counts how often each record is parsed."""

    def parse(record: Record, *, labelled: bool) -> Example:
        counts[record.where] += 1
        return classification.parse(record, labelled=labelled)

    return replace(classification.TASK, parse=parse)


def records() -> list[Record]:
    return [Record(fields, f"line {number}") for number, fields in enumerate(RECORDS, 1)]


def test_examples_that_fit_in_memory_are_parsed_once() -> None:
    counts: Counter[str] = Counter()
    examples = examples_of_records(counting(counts), records())
    once, again = list(examples), [examples[index] for index in range(-len(examples), 0)]
    assert once == again == [classification.parse(each, labelled=True) for each in records()]
    prompted = examples.changed(lambda example: replace(example, text=f"q: {example.text}"))
    assert [each.text for each in prompted[:2]] == ["q: text 0", "q: text 1"]
    assert set(counts.values()) == {1}


@pytest.mark.usefixtures("unchecked_types")  # a check would read, and so parse, one of them
@pytest.mark.parametrize("kept", [0, 7])
def test_other_examples_are_parsed_again(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    task = counting(counts)
    whole = list(examples_of_records(task, records()))
    monkeypatch.setattr(module, "KEPT_BYTES", kept * (module.BYTES_OF_ONE + 40))
    counts.clear()
    examples = examples_of_records(task, [Record({"text": " ", "label": "x"}, "empty"), *records()],
                                   "skip")  # fmt: skip
    assert list(examples) == [examples[index] for index in range(20)] == whole
    assert [counts[f"line {number}"] for number in (1, 20)] == [1 if kept else 3, 3]


def test_a_run_parses_each_record_once_before_its_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new model too, whose tokenizer learns from the same texts."""
    counts: Counter[str] = Counter()
    monkeypatch.setitem(tasks.TASKS, "classification", counting(counts))
    data: Any = RECORDS
    prepare(
        "classification", train=data, eval=data[:5], class_weights="balanced",
        layers=1, width=8, heads=2, vocabulary_size=60, batch_tokens=128, steps=1,
    )  # fmt: skip
    assert sum(counts.values()) == len(RECORDS) + 5
