"""A stream of sequences into full packed batches, a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from encodax.data.batches import BatchShape
from encodax.data.packing import assemble, best_fit_of_lengths
from encodax.tokenizer import Encoding
from encodax.types import PackedBatch

ROW_TOKENS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
"""Lengths of rows: few, so that few shapes are ever compiled."""
USUAL_ROW = 64
"""None is shorter where there is enough to fill it; less than that takes the shortest that fits."""
TOKENS_PER_SLOT = 4
"""A row has a slot for every so many tokens."""
WINDOW_ITEMS = 1024
"""Texts that are read together, ..."""
WINDOW_SIZE = 262_144
"""... or characters, where these come first: both bound the memory."""

Item = TypeVar("Item")


def windows(
    source: Iterable[Item], size_of: Callable[[Item], int]
) -> Iterator[tuple[list[Item], Exception | None]]:
    """Pieces of a stream: a window, and how the stream ended where this was its last.

    It ends with StopIteration, or with what the source raised: what came before is answered first.
    """
    stream = iter(source)
    window: list[Item] = []
    size = 0
    while True:
        try:
            item = next(stream)
        except Exception as end:
            yield window, end
            return
        window.append(item)
        size += size_of(item)
        if len(window) == WINDOW_ITEMS or size >= WINDOW_SIZE:
            yield window, None
            window, size = [], 0


Tokenized = TypeVar("Tokenized")


def until_error(
    window: Sequence[Item], tokenize: Callable[[list[Item]], tuple[Sequence[Tokenized], int]]
) -> tuple[list[Item], list[Tokenized], int, Exception | None]:
    """Tokenize a window, up to the first item that cannot be.

    Args:
        window: the items.
        tokenize: gives something of each item, and how many items were cut.

    Returns:
        The items before it, what became of each, how many of them were cut, and what was raised.
    """
    try:
        found, cut = tokenize(list(window))
    except Exception:  # one of them: each alone, then
        found, cut = [], 0
    else:
        return list(window), list(found), cut, None
    each: list[Tokenized] = []
    for place, item in enumerate(window):
        try:
            found, cut_here = tokenize([item])
        except Exception as error:
            return list(window[:place]), each, cut, error
        each += found
        cut += cut_here
    return list(window), each, cut, None


@dataclass(eq=False)
class Job:
    """A sequence on its way through a model."""

    encoding: Encoding
    has_waited: bool = False
    """Whether a window before had no full batch for it."""
    result: Any = None
    is_done: bool = False


@dataclass(frozen=True)
class Shapes:
    """The shapes of batches that a device is given, and no others."""

    batch_tokens: int
    """Tokens in a full batch of one device."""
    devices: int = 1
    """Rows are a multiple of these: each has its share."""

    def row_counts(self, row_tokens: int) -> list[int]:
        """B of batches of such rows, largest first: full, a quarter of that, and one row."""
        full = max(1, self.batch_tokens // row_tokens) if row_tokens >= USUAL_ROW else 1
        return [
            self.devices * count for count in sorted({full, max(1, full // 4), 1}, reverse=True)
        ]

    def all(self, longest: int) -> list[BatchShape]:
        """Every shape that sequences of up to so many tokens can take."""
        return [
            BatchShape(row_count, row_tokens, slots_of_row(row_tokens))
            for row_tokens in ROW_TOKENS
            if row_tokens <= row_that_holds(longest)
            for row_count in self.row_counts(row_tokens)
        ]


def slots_of_row(row_tokens: int) -> int:
    """N of a row."""
    return row_tokens // TOKENS_PER_SLOT


def row_that_holds(tokens: int) -> int:
    """The shortest row for a sequence; the longest of all where none is long enough."""
    return next((row for row in ROW_TOKENS if row >= tokens), ROW_TOKENS[-1])


class Packer:
    """Packs window after window; sequences that fill no batch wait for the next one, once."""

    def __init__(self, shapes: Shapes):
        """Begin with nothing that waits."""
        self._shapes = shapes
        self._waiting: list[Job] = []

    def add(
        self, jobs: Sequence[Job], *, is_last: bool
    ) -> list[tuple[list[list[Job]], PackedBatch]]:
        """The batches that can go now, each with the jobs of its rows.

        Args:
            jobs: of a window.
            is_last: nothing comes after it, so that nothing waits.
        """
        jobs = [*self._waiting, *jobs]
        lengths = [len(job.encoding) for job in jobs]
        smallest = min(USUAL_ROW, row_that_holds(sum(lengths))) if is_last else USUAL_ROW
        longest = max(smallest, row_that_holds(max(lengths, default=0)))
        kinds = [(row, slots_of_row(row)) for row in ROW_TOKENS if smallest <= row <= longest]
        by_length: dict[int, list[list[Job]]] = {}
        for row_tokens, row in best_fit_of_lengths(lengths, kinds):
            by_length.setdefault(row_tokens, []).append([jobs[index] for index in row])
        batches, self._waiting = [], []
        for row_tokens, rows in by_length.items():
            going, waiting = self._split(rows, row_tokens, is_last)
            batches += [
                (taken, _assembled(taken, row_count, row_tokens)) for row_count, taken in going
            ]
            self._waiting += [job for row in waiting for job in row]
        for job in self._waiting:
            job.has_waited = True
        return batches

    def _split(
        self, rows: list[list[Job]], row_tokens: int, is_last: bool
    ) -> tuple[list[tuple[int, list[list[Job]]]], list[list[Job]]]:
        """Rows in batches, each with its B; and those that wait: they fill none, and may."""
        row_counts = self._shapes.row_counts(row_tokens)
        rows = sorted(rows, key=lambda row: not _must_go(row))
        going = []
        while rows and (is_last or len(rows) >= row_counts[0] or _must_go(rows[0])):
            fitting = (count for count in row_counts if count <= len(rows))
            count = next(fitting, row_counts[-1])
            going.append((count, rows[:count]))
            rows = rows[count:]
        return going, rows


def _assembled(rows: list[list[Job]], row_count: int, row_tokens: int) -> PackedBatch:
    return assemble(
        [[job.encoding for job in row] for row in rows],
        row_count=row_count,
        row_tokens=row_tokens,
        slots=slots_of_row(row_tokens),
    )


def _must_go(row: list[Job]) -> bool:
    return any(job.has_waited for job in row)
