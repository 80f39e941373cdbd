"""Which sequences go into which training batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from encodax.data.packing import Lengths, Row, Rows, best_fit, best_fit_pairs


@dataclass(frozen=True)
class BatchShape:
    """The static shape of every batch of a run: one shape, so one compilation."""

    row_count: int
    """B."""
    row_tokens: int
    """T; of pairs S, of the sources."""
    slots: int
    """N."""
    target_tokens: int | None = None
    """Of pairs T, of the targets."""

    @classmethod
    def of(cls, lengths: Lengths, row_count: int) -> BatchShape:
        """That of so many rows of sequences, or of pairs, of these lengths."""
        lengths = np.asarray(lengths)
        if lengths.ndim == 1:
            row_tokens = row_tokens_for(lengths)
            return cls(row_count, row_tokens, slots_for(lengths, row_tokens))
        sides = [row_tokens_for(side, smallest=SMALLEST_OF_PAIRS) for side in lengths.T]
        slots = max(map(slots_for, lengths.T, sides))
        return cls(row_count, sides[0], slots, sides[1])

    @property
    def longest_row(self) -> int:
        """Tokens of a row, on the side that has more of them."""
        return max(self.row_tokens, self.target_tokens or 0)

    def packed(self, lengths: Lengths) -> Rows:
        """Sequences, or pairs, of these lengths in rows of this shape."""
        if self.target_tokens is None:
            return best_fit(lengths, self.row_tokens, self.slots)
        sources, targets = np.asarray(lengths).T
        budgets = self.row_tokens, self.target_tokens
        return best_fit_pairs((sources, targets), budgets, self.slots)


SMALLEST_OF_PAIRS = 64
"""Row of sources, or of targets, that is never less: sentences are short, and a token is scored
against all of its row."""


def row_tokens_for(lengths: Lengths, *, smallest: int = 128) -> int:
    """Room of a row: a power of two, at least `smallest`, that the longest sequence fits."""
    return max(smallest, 1 << (int(np.max(lengths)) - 1).bit_length())


class Units(Sequence[range]):
    """Sequences that belong in one batch: those from one beginning to the next."""

    def __init__(self, begins: np.ndarray, count: int):
        """Tell where units begin, among so many sequences."""
        self._begins, self._count = begins.astype(np.int32), count

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, index: int) -> range: ...
    @overload
    def __getitem__(self, index: slice) -> list[range]: ...
    def __getitem__(self, index: int | slice) -> range | list[range]:
        """The sequences of that unit."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        end = self._begins[index + 1] if index + 1 < len(self) else self._count
        return range(int(self._begins[index]), int(end))


class Batches(Sequence[list[Row]]):
    """The batches of an epoch, each made when it is asked for."""

    def __init__(self, count: int, batch: Callable[[int], list[Row]]):
        """Make none yet.

        Args:
            count: how many there are.
            batch: makes the batch of a number.
        """
        self._count, self._batch = count, batch

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> list[Row]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Row]]: ...
    def __getitem__(self, index: int | slice) -> list[Row] | list[list[Row]]:
        """The rows of that batch."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._batch(range(len(self))[index])


def plan_by_tokens(lengths: Lengths, shape: BatchShape, order: np.random.Generator) -> Batches:
    """One epoch in batches of `shape.row_count` packed rows, in random order.

    Each sequence stands in exactly one batch; the last batch may have fewer rows.
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
    """One epoch in batches of so many examples, each packed into as few rows as will do.

    Args:
        lengths: tokens of each sequence.
        units: the sequences of each example: they stand in one batch, in whichever rows.
        examples: of a batch.
        shape: of a row.
        order: shuffles the examples.
        smallest: as `parts` has it.
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
    """Where batches of that size begin and end; a last one below `smallest` joins the one before.

    So a loss that compares examples never has one that stands alone.
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < min(smallest, size):
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def slots_for(lengths: Lengths, row_tokens: int) -> int:
    """N that lets nearly every row of these sequences fill up: T over their 5th percentile."""
    return max(1, math.ceil(row_tokens / max(1.0, float(np.percentile(lengths, 5)))))
