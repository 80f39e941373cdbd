"""Assignment of sequences to training batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from encodax.data.packing import Lengths, Row, Rows, best_fit, best_fit_pairs


@dataclass(frozen=True)
class BatchShape:
    """Static shape of every batch of a run: one shape, so one compilation."""

    row_count: int
    """B, number of rows."""
    row_tokens: int
    """T, tokens of a row; for pairs S, tokens of a row of sources."""
    slots: int
    """N, slots of a row."""
    target_tokens: int | None = None
    """T for pairs, tokens of a row of targets."""

    @classmethod
    def of(cls, lengths: Lengths, row_count: int) -> BatchShape:
        """Return the shape of `row_count` rows for sequences, or pairs, of these lengths."""
        lengths = np.asarray(lengths)
        if lengths.ndim == 1:
            row_tokens = row_tokens_for(lengths)
            return cls(row_count, row_tokens, slots_for(lengths, row_tokens))
        sides = [row_tokens_for(side, smallest=SMALLEST_OF_PAIRS) for side in lengths.T]
        slots = max(map(slots_for, lengths.T, sides))
        return cls(row_count, sides[0], slots, sides[1])

    @property
    def longest_row(self) -> int:
        """Number of tokens of a row, on the side that has more of them."""
        return max(self.row_tokens, self.target_tokens or 0)

    def packed(self, lengths: Lengths) -> Rows:
        """Pack sequences, or pairs, of these lengths into rows of this shape."""
        if self.target_tokens is None:
            return best_fit(lengths, self.row_tokens, self.slots)
        sources, targets = np.asarray(lengths).T
        budgets = self.row_tokens, self.target_tokens
        return best_fit_pairs((sources, targets), budgets, self.slots)


SMALLEST_OF_PAIRS = 64
"""Smallest length of rows of sources, or of targets: sentences are short, and every token attends
to all of its row."""


def row_tokens_for(lengths: Lengths, *, smallest: int = 128) -> int:
    """Return the tokens of a row: a power of two >= `smallest` that holds the longest sequence."""
    return max(smallest, 1 << (int(np.max(lengths)) - 1).bit_length())


class Units(Sequence[range]):
    """Units of sequences that belong in one batch: contiguous ranges."""

    def __init__(self, begins: np.ndarray, count: int):
        """Set the first sequence of each unit, and the number `count` of all sequences."""
        self._begins, self._count = begins.astype(np.int32), count

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, index: int) -> range: ...
    @overload
    def __getitem__(self, index: slice) -> list[range]: ...
    def __getitem__(self, index: int | slice) -> range | list[range]:
        """Return the sequences of the unit with this index."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        end = self._begins[index + 1] if index + 1 < len(self) else self._count
        return range(int(self._begins[index]), int(end))


class Batches(Sequence[list[Row]]):
    """Batches of an epoch, each made when it is accessed."""

    def __init__(self, count: int, batch: Callable[[int], list[Row]]):
        """Set the number of batches, and how to make one.

        Args:
            count: number of batches.
            batch: function that returns the batch with an index.
        """
        self._count, self._batch = count, batch

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> list[Row]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Row]]: ...
    def __getitem__(self, index: int | slice) -> list[Row] | list[list[Row]]:
        """Return the rows of the batch with this index."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._batch(range(len(self))[index])


def plan_by_tokens(lengths: Lengths, shape: BatchShape, order: np.random.Generator) -> Batches:
    """Plan one epoch in batches of `shape.row_count` packed rows, in random order.

    Each sequence is in exactly one batch; the last batch may have fewer rows.
    """
    shuffled = order.permutation(len(lengths)).astype(np.int32)
    packed = shape.packed(np.asarray(lengths)[shuffled])
    rows = packed.named(shuffled).taken(order.permutation(len(packed)))
    height = shape.row_count
    return Batches(math.ceil(len(rows) / height), lambda i: rows[i * height : (i + 1) * height])


def plan_by_examples(
    lengths: Lengths,
    units: Sequence[Sequence[int]],
    examples: int,
    shape: BatchShape,
    order: np.random.Generator,
    *,
    smallest: int = 1,
) -> Batches:
    """Plan one epoch in batches of `examples` examples, each packed into as few rows as possible.

    Args:
        lengths: tokens of each sequence.
        units: the sequences of each example: they are in one batch, in any of its rows.
        examples: number of examples in a batch.
        shape: shape of a row.
        order: generator that shuffles the examples.
        smallest: as in `parts`.
    """
    lengths = np.asarray(lengths)
    shuffled = order.permutation(len(units)).astype(np.int32)
    bounds = parts(len(shuffled), examples, smallest)

    def batch(number: int) -> list[Row]:
        start, end = bounds[number]
        chosen = np.asarray(
            [index for unit in shuffled[start:end].tolist() for index in units[unit]]
        )
        return list(shape.packed(lengths[chosen]).named(chosen))

    return Batches(len(bounds), batch)


def parts(count: int, size: int, smallest: int = 1) -> list[tuple[int, int]]:
    """Return (start, end) of batches of `size`; a last one below `smallest` joins the one before.

    So a loss that compares examples never gets a single one.
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < min(smallest, size):
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def slots_for(lengths: Lengths, row_tokens: int) -> int:
    """Return N with which nearly every row can fill up: T over the 5th percentile of lengths."""
    return max(1, math.ceil(row_tokens / max(1.0, float(np.percentile(lengths, 5)))))
