"""Batches are a function of the step: read ahead, taken up anywhere, shared out by rows."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np
import pytest
from toys import DAYS, tagger

from encodax.data.sources import records_of
from encodax.options.training import TrainSettings
from encodax.tasks import task_of
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import LossOptions
from encodax.training.batches.pipeline import Batch, Reader, batches
from encodax.training.batches.schedule import make_plan


@pytest.fixture(scope="module")
def data() -> Dataset:
    model = tagger().model
    task = task_of(model.config)
    examples = [task.parse(record, labelled=True) for record in records_of(4 * DAYS)]
    return Dataset.prepare(task, model, examples)


def reader(data: Dataset, **choices: Any) -> Reader:
    settings = TrainSettings(steps=9, batch_tokens=512, **choices)
    return Reader(data, make_plan(data.lengths, settings), LossOptions(), settings.seed)


def equal(first: Batch, second: Batch) -> bool:
    pairs = [(item.step, item.batch, item.targets) for item in (first, second)]
    return jax.tree.all(jax.tree.map(np.array_equal, *pairs))


def test_a_run_that_is_taken_up_sees_the_same_batches(data: Dataset) -> None:
    with contextlib.closing(batches(reader(data))) as source:
        whole = list(source)
    assert [item.step for item in whole] == list(range(9))
    with contextlib.closing(batches(reader(data), first=4)) as source:
        rest = list(source)
    assert all(equal(*pair) for pair in zip(rest, whole[4:], strict=True))
    assert not equal(whole[0], whole[1])


def test_the_position_is_that_of_what_was_taken(data: Dataset) -> None:
    with contextlib.closing(batches(reader(data))) as source:
        for _ in range(3):
            next(source)
        assert source.get_state() == {"next_index": 3}  # though more has been read


def test_a_batch_is_cut_into_micro_batches(data: Dataset) -> None:
    (whole,), (parts,) = ([reader(data, accumulate=a)(0)] for a in (1, 2))
    assert whole.batch.token_ids.shape == (1, 4, 128)
    assert parts.batch.token_ids.shape == (2, 2, 128)
    for one, two in zip(jax.tree.leaves(whole.batch), jax.tree.leaves(parts.batch), strict=True):
        np.testing.assert_array_equal(one.reshape(two.shape), two)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_process_reads_its_own_rows(
    data: Dataset, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reader(data, accumulate=accumulate)
    whole = read(0)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parts = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(read(0))
    joined = jax.tree.map(
        lambda *leaves: np.concatenate(leaves, axis=1), *(part.batch for part in parts)
    )
    jax.tree.map(np.testing.assert_array_equal, joined, whole.batch)
