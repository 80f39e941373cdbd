"""Memory does not grow with the rows: what is held of a row is a few numbers, no object."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from encodax import Model
from encodax.data.records import open_records
from encodax.inference.engine import Engine
from encodax.inference.evaluation import evaluate
from encodax.tasks import classification, dataset, examples, translation
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example
from encodax.training import TrainSettings
from encodax.training.batches.examples import examples_of
from encodax.training.batches.schedule import make_plan

FEW, MANY = 512, 2_048
OF_A_ROW = 120
"""Bytes that each row may take: of numbers, where an object of Python would take hundreds."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept, and read together, is little enough to be full with the fewer rows."""
    monkeypatch.setattr(dataset, "KEPT_BYTES", 100_000)
    monkeypatch.setattr(examples, "KEPT_BYTES", 100_000)
    monkeypatch.setattr(dataset, "READ_TOGETHER", 128)


@pytest.fixture(scope="module")
def classifier(tiny_model: Model) -> Model:
    return replace(tiny_model, config=replace(tiny_model.config, labels=("no", "some", "yes")))


def records(folder: Path, count: int) -> Path:
    path = folder / f"{count}.jsonl"
    with path.open("w") as file:
        for number in range(count):
            label = ("no", "yes")[number % 2]
            file.write(json.dumps({"text": f"cat {number % 100}", "label": label}) + "\n")
    return path


def growth(work: Callable[[Path], Any], folder: Path) -> float:
    """Bytes that the peak grows by, for each row more."""
    peaks = []
    files = [records(folder, count) for count in (FEW, MANY)]
    work(files[0])  # what is compiled and imported does not count
    for file in files:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        held = work(file)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
        del held
    return (peaks[1] - peaks[0]) / (MANY - FEW)


@pytest.mark.parametrize("batches", [{"batch_tokens": 512}, {"batch_size": 32}])
def test_a_set_to_learn_from_is_held_as_numbers(
    classifier: Model, batches: dict[str, int], tmp_path: Path
) -> None:
    def plan(file: Path) -> Any:
        found = examples_of(classification.TASK, file)
        classification.labels(found)
        data = Dataset.prepare(classification.TASK, classifier, found)
        layout = make_plan(data.lengths, TrainSettings(epochs=1, **batches))
        assert sum(len(row) for row in layout.rows(0)) > 1
        return data, layout

    assert growth(plan, tmp_path) < OF_A_ROW


def test_an_evaluation_holds_a_window_of_examples(
    classifier: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 64)
    monkeypatch.setattr(dataset, "KEPT_BYTES", 0)
    monkeypatch.setattr(examples, "KEPT_BYTES", 0)
    dispatch, held = Engine.dispatch, []

    def counted(*arguments: Any) -> Any:
        objects = gc.get_objects() if len(held) % 8 == 7 else []  # a slow look
        held.append(sum(isinstance(each, Example) for each in objects))
        return dispatch(*arguments)

    monkeypatch.setattr(Engine, "dispatch", counted)
    evaluate(classifier, open_records(records(tmp_path, FEW)))
    assert 0 < max(held) < FEW / 2


def test_texts_are_compared_with_references_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "COUNTED_TOGETHER", 32)

    def compare(file: Path) -> None:
        texts = (record.fields["text"] for record in open_records(file))
        assert translation.bleu_and_chrf((text, text) for text in texts)["chrf"] == 100

    assert growth(compare, tmp_path) < OF_A_ROW
