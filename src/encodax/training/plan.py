"""The layout of a run: which examples go into which batch, and the one shape of all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from encodax.data.batches import (
    BatchShape,
    plan_by_examples,
    plan_by_tokens,
    row_tokens_for,
    slots_for,
)
from encodax.data.packing import Lengths, Row
from encodax.training.settings import TrainSettings

DEFAULT_EPOCHS = 10
DEFAULT_BATCH_TOKENS = 2_048


@dataclass(frozen=True)
class Plan:
    """Which examples go into which batch, for any epoch, and the one shape of all batches."""

    shape: BatchShape
    steps: int
    epoch: Callable[[int], list[list[Row]]]
    """Batches of an epoch, the same for the same number."""

    def batches(self) -> Iterator[list[Row]]:
        """The batches of the whole run."""
        endless = itertools.chain.from_iterable(map(self.epoch, itertools.count()))
        return itertools.islice(endless, self.steps)


def make_plan(lengths: Lengths, settings: TrainSettings) -> Plan:
    """Lay out a run over sequences of these lengths."""
    row_tokens = row_tokens_for(lengths)
    epochs = settings.epochs or DEFAULT_EPOCHS

    def order(epoch: int) -> np.random.Generator:
        return np.random.default_rng((settings.seed, epoch))

    if settings.batch_size is None:
        rows = max(1, (settings.batch_tokens or DEFAULT_BATCH_TOKENS) // row_tokens)
        shape = BatchShape(rows, row_tokens, slots_for(lengths, row_tokens))
        by_tokens = Plan(shape, 0, lambda epoch: plan_by_tokens(lengths, shape, order(epoch)))
        return replace(by_tokens, steps=settings.steps or epochs * len(by_tokens.epoch(0)))

    examples = settings.batch_size
    steps = settings.steps or epochs * math.ceil(len(lengths) / examples)

    def epoch_of(epoch: int) -> list[list[Row]]:
        return plan_by_examples(lengths, examples, row_tokens, order(epoch))

    # The tallest batch of the whole run gives the shape, so that it never changes.
    planned = list(Plan(BatchShape(0, 0, 0), steps, epoch_of).batches())
    row_count = max(len(batch) for batch in planned)
    slots = max(len(row) for batch in planned for row in batch)
    return Plan(BatchShape(row_count, row_tokens, slots), steps, epoch_of)
