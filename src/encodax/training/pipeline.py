"""From the plan of a run to its batches: Grain reads ahead while the devices work.

    step number -> rows of sequences -> tokens -> masks -> micro-batches of arrays

Each stage is a function of the step's number and the seed, so the only state of the pipeline is the
number of the next step: a checkpoint holds it, and a run that is taken up sees the batches that it
would have seen. Each process reads the rows that its own devices take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np

from encodax.data.batches import BatchShape
from encodax.data.packing import Row
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Objective, Targets, unchanged
from encodax.training.plan import Plan
from encodax.training.sharding import share_of_rows
from encodax.types import PackedBatch

READ_AHEAD = 4
"""Batches that wait for the devices."""


@dataclass(frozen=True)
class Batch:
    """What a step takes: leaves (A, B, ...), of this process's rows alone."""

    step: int
    """Number of the step, from 0."""
    batch: PackedBatch
    targets: Targets


@dataclass(frozen=True)
class Reader:
    """Makes the batch of a step."""

    data: Dataset
    plan: Plan
    objective: Objective
    seed: int

    def __call__(self, step: int) -> Batch:
        """The batch of that number."""
        shape, micro_batches = self.plan.shape, self.plan.micro_batches
        rows = self.plan.rows(step)
        own = share_of_rows(shape.row_count)
        places = [m * shape.row_count + b for m in range(micro_batches) for b in own]
        mine: list[Row] = [rows[place] if place < len(rows) else [] for place in places]
        whole = BatchShape(len(mine), shape.row_tokens, shape.slots)
        batch, targets = self.data.batch(mine, whole)
        self.data.model.check(batch)
        batch, targets = self._perturbed(batch, targets, step, places)

        def by_micro_batch(leaf: np.ndarray) -> np.ndarray:
            return leaf.reshape(micro_batches, len(own), *leaf.shape[1:])

        return Batch(step, *jax.tree.map(by_micro_batch, (batch, targets)))

    def _perturbed(
        self, batch: PackedBatch, targets: Targets, step: int, places: Sequence[int]
    ) -> tuple[PackedBatch, Targets]:
        """Changed at random, row by row: the same whichever process reads a row."""
        task = self.data.task
        if task.perturb is unchanged:
            return batch, targets
        changed = []
        for index, place in enumerate(places):
            row: tuple[PackedBatch, Targets] = jax.tree.map(
                lambda leaf, i=index: leaf[i : i + 1], (batch, targets)
            )
            random = np.random.default_rng((self.seed, step, place))
            changed.append(task.perturb(*row, self.data.model, self.objective, random))
        joined: tuple[PackedBatch, Targets] = jax.tree.map(
            lambda *leaves: np.concatenate(leaves), *changed
        )
        return joined


def batches(reader: Reader, first: int = 0) -> grain.DatasetIterator[Any]:
    """The batches of a run from step `first` on, read ahead on a thread.

    Close it when the run ends. `get_state` and `set_state` are Grain's.
    """
    steps = grain.MapDataset.range(reader.plan.steps).map(reader)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
    iterator = iter(steps.to_iter_dataset(options))
    if first:
        iterator.set_state({"next_index": first})
    return iterator
