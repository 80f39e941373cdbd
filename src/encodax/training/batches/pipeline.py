"""Pipeline from the plan of a run to its batches: Grain reads ahead while the devices work.

    step number -> rows of sequences -> tokens -> masks -> micro-batches of arrays

Each stage is a function of the step's number and the seed, so the only state of the pipeline is the
number of the next step: a checkpoint stores it, and a run that resumes sees the batches that it
would have seen. Each process reads the rows for its own devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grain
import jax
import numpy as np

from encodax.data.packing import Row
from encodax.tasks.dataset import Dataset, perturbed_by_row
from encodax.tasks.task import LossOptions, Targets
from encodax.training.batches.schedule import Plan
from encodax.training.step.sharding import share_of_rows
from encodax.types.batches import AnyBatch

READ_AHEAD = 4
"""Number of batches that are prepared ahead of the devices."""


@dataclass(frozen=True)
class Batch:
    """Input of a step: leaves (A, B, ...), with the rows of this process only."""

    step: int
    """Number of the step, from 0."""
    batch: AnyBatch
    targets: Targets


@dataclass(frozen=True)
class Reader:
    """Reader that makes the batch of a step."""

    data: Dataset
    plan: Plan
    loss_options: LossOptions
    seed: int

    def __call__(self, step: int) -> Batch:
        """Return the batch of this step, counted from 0."""
        shape, micro_batches = self.plan.shape, self.plan.micro_batches
        rows = self.plan.rows(step)
        own = share_of_rows(shape.row_count)
        places = [m * shape.row_count + b for m in range(micro_batches) for b in own]
        mine: list[Row] = [rows[place] if place < len(rows) else [] for place in places]
        whole = replace(shape, row_count=len(mine))
        batch, targets = self.data.batch(mine, whole)
        check: Callable[[Any], None] = self.data.model.check  # the batch is of its kind
        check(batch)
        seeds = [(self.seed, step, place) for place in places]
        batch, targets = perturbed_by_row(self.data, batch, targets, self.loss_options, seeds)

        def by_micro_batch(leaf: np.ndarray) -> np.ndarray:
            return leaf.reshape(micro_batches, len(own), *leaf.shape[1:])

        return Batch(step, *jax.tree.map(by_micro_batch, (batch, targets)))


def batches(reader: Reader, first: int = 0) -> grain.DatasetIterator[Any]:
    """Return the batches of a run from step `first` on, read ahead on a thread.

    Close it when the run ends. `get_state` and `set_state` are Grain's.
    """
    steps = grain.MapDataset.range(reader.plan.steps).map(reader)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
    iterator = iter(steps.to_iter_dataset(options))
    if first:
        iterator.set_state({"next_index": first})
    return iterator
