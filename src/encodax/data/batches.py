"""Which sequences go into which training batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encodax.data.packing import Lengths, Row, best_fit


@dataclass(frozen=True)
class BatchShape:
    """The static shape of every batch of a run: one shape, so one compilation."""

    row_count: int
    """B."""
    row_tokens: int
    """T."""
    slots: int
    """N."""


def row_tokens_for(lengths: Lengths, *, smallest: int = 128) -> int:
    """Room of a row: a power of two, at least `smallest`, that the longest sequence fits."""
    return max(smallest, 1 << (int(max(lengths)) - 1).bit_length())


def plan_by_tokens(
    lengths: Lengths, shape: BatchShape, order: np.random.Generator
) -> list[list[Row]]:
    """One epoch in batches of `shape.row_count` packed rows, in random order.

    Each sequence stands in exactly one batch; the last batch may have fewer rows.
    """
    shuffled = order.permutation(len(lengths))
    packed = best_fit(np.asarray(lengths)[shuffled], shape.row_tokens, shape.slots)
    rows = [[int(shuffled[i]) for i in packed[r]] for r in order.permutation(len(packed))]
    return [rows[i : i + shape.row_count] for i in range(0, len(rows), shape.row_count)]


def plan_by_examples(
    lengths: Lengths,
    units: Sequence[Sequence[int]],
    examples: int,
    row_tokens: int,
    order: np.random.Generator,
) -> list[list[Row]]:
    """One epoch in batches of so many examples, each packed into as few rows as will do.

    Args:
        lengths: tokens of each sequence.
        units: the sequences of each example: they stand in one batch, in whichever rows.
        examples: of a batch.
        row_tokens: T.
        order: shuffles the examples.
    """
    shuffled = order.permutation(len(units))
    batches = []
    for start in range(0, len(shuffled), examples):
        chosen = [index for unit in shuffled[start : start + examples] for index in units[unit]]
        packed = best_fit(np.asarray(lengths)[chosen], row_tokens, row_tokens)
        batches.append([[int(chosen[i]) for i in row] for row in packed])
    return batches


def slots_for(lengths: Lengths, row_tokens: int) -> int:
    """N that lets nearly every row of these sequences fill up: T over their 5th percentile."""
    return max(1, math.ceil(row_tokens / max(1.0, float(np.percentile(lengths, 5)))))
