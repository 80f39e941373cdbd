"""Layout of a run: the sequences of each batch, and the one shape of all batches."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encodax.data.batches import (
    Batches,
    BatchShape,
    Units,
    parts,
    plan_by_examples,
    plan_by_tokens,
)
from encodax.data.packing import Lengths, Row
from encodax.errors import EncodaxError
from encodax.options.training import LARGEST, TrainSettings

DEFAULT_EPOCHS = 10
DEFAULT_BATCH_TOKENS = 2_048
DEFAULT_BATCH_EXAMPLES = 32
"""Default number of examples in a batch, for losses that compare examples."""
SMALLEST_COMPARED = 2
"""Least number of examples in the last batch of such a loss: one alone teaches nothing."""


@dataclass(frozen=True)
class Plan:
    """Plan of the sequences in each batch, a function of the step's number alone.

    So a run can be resumed at any step, and each process can read its own rows.
    """

    shape: BatchShape
    """Shape of a micro-batch, on all devices together."""
    micro_batches: int
    """A, the number of micro-batches in a batch."""
    steps: int
    steps_of_epoch: int
    epoch: Callable[[int], Sequence[list[Row]]]
    """Function from the number of an epoch to its batches; it always returns the same ones."""

    def rows(self, step: int) -> list[Row]:
        """Return the rows of a step's batch; steps are counted from 0."""
        epoch, index = divmod(step, self.steps_of_epoch)
        return self.epoch(epoch)[index]

    def batches(self) -> Iterator[list[Row]]:
        """Return the batches of the whole run."""
        return map(self.rows, range(self.steps))


def make_plan(
    lengths: Lengths,
    settings: TrainSettings,
    *,
    units: Sequence[Sequence[int]] | None = None,
    devices: int = 1,
) -> Plan:
    """Lay out a run over sequences of these lengths.

    Args:
        lengths: number of tokens of each sequence, (n,); or (n, 2) of each source and target.
        settings: settings of the run.
        units: sequences that belong in one batch, if the loss compares them; a batch then has
            `batch_size` units. None for each sequence on its own.
        devices: number of devices that share the rows of a micro-batch.

    Raises:
        EncodaxError: a batch of `batch_tokens` cannot be divided among the devices.
    """
    if settings.batch_size is None and units is None:
        return _plan_by_tokens(lengths, settings, devices)
    if settings.batch_tokens is not None:
        raise EncodaxError("batch_tokens is not for a loss that compares examples: give batch_size")
    return _plan_by_examples(lengths, settings, units, devices)


def _plan_by_tokens(lengths: Lengths, settings: TrainSettings, devices: int) -> Plan:
    """Plan batches of a fixed number of rows, each filled with sequences."""
    one_row = BatchShape.of(lengths, 1)
    row_tokens = one_row.longest_row
    rows = max(1, (settings.batch_tokens or DEFAULT_BATCH_TOKENS) // row_tokens)
    shares = settings.accumulate * devices
    if rows % shares:
        raise EncodaxError(
            f"a batch of {rows} rows of {row_tokens} tokens cannot be divided among {devices} "
            f"devices x {settings.accumulate} micro-batches; give batch_tokens as a multiple of "
            f"{shares * row_tokens}"
        )
    whole = replace(one_row, row_count=rows)

    @functools.lru_cache(maxsize=2)
    def epoch_batches(epoch: int) -> Batches:
        return plan_by_tokens(lengths, whole, _random(settings, epoch))

    steps_of_epoch = len(epoch_batches(0))
    shape = replace(whole, row_count=rows // settings.accumulate)
    steps = steps_in_all(settings, steps_of_epoch)
    return Plan(shape, settings.accumulate, steps, steps_of_epoch, epoch_batches)


def _plan_by_examples(
    lengths: Lengths,
    settings: TrainSettings,
    units: Sequence[Sequence[int]] | None,
    devices: int,
) -> Plan:
    """Plan batches of a fixed number of examples; the tallest one sets the shape of all."""
    one_row = BatchShape.of(lengths, 1)
    roomy = replace(one_row, slots=one_row.longest_row)  # as many sequences as a row can hold
    examples = settings.batch_size or DEFAULT_BATCH_EXAMPLES
    count = len(lengths)
    chosen = Units(np.arange(count), count) if units is None else units  # each on its own
    smallest = 1 if units is None else SMALLEST_COMPARED
    steps_of_epoch = len(parts(len(chosen), examples, smallest))
    steps = steps_in_all(settings, steps_of_epoch)

    @functools.lru_cache(maxsize=2)
    def epoch_batches(epoch: int) -> Batches:
        random = _random(settings, epoch)
        return plan_by_examples(lengths, chosen, examples, roomy, random, smallest=smallest)

    row_count = slots = 1
    for epoch in range(math.ceil(steps / steps_of_epoch)):
        for batch in itertools.islice(epoch_batches(epoch), steps - epoch * steps_of_epoch):
            row_count = max(row_count, len(batch))
            slots = max(slots, max(map(len, batch)))
    row_count = devices * math.ceil(row_count / (settings.accumulate * devices))
    shape = replace(one_row, row_count=row_count, slots=slots)
    return Plan(shape, settings.accumulate, steps, steps_of_epoch, epoch_batches)


def _random(settings: TrainSettings, epoch: int) -> np.random.Generator:
    """Return the generator of an epoch's order."""
    return np.random.default_rng((settings.seed, epoch))


def steps_in_all(settings: TrainSettings, steps_of_epoch: int) -> int:
    """Return the number of steps of a run: as requested, or for its epochs, rounded up.

    Raises:
        EncodaxError: the epochs have more steps than an int32 holds.
    """
    if settings.steps is not None:
        return settings.steps
    epochs = DEFAULT_EPOCHS if settings.epochs is None else settings.epochs
    steps = max(1, math.ceil(round(epochs * steps_of_epoch, 6)))  # 0.07 x 100 is slightly above 7
    if steps > LARGEST:
        raise EncodaxError(
            f"epochs = {epochs} of {steps_of_epoch} steps are {steps} steps, which is above "
            f"{LARGEST}: give at most {LARGEST // steps_of_epoch} epochs"
        )
    return steps
