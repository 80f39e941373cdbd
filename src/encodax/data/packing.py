"""Packing of sequences of any length into rows of a fixed number of tokens."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

import numpy as np

from encodax.errors import EmptyText, TooLong
from encodax.text.tokenizer import EncodedPair, Encoding
from encodax.types.batches import PackedBatch, PairBatch

Member = TypeVar("Member")
Lengths = Sequence[int] | np.ndarray
"""Number of tokens of each sequence, (n,); or (n, 2) of each source and its target."""
Row = list[int]
"""Indices of the sequences that share a row, in the order of their slots."""


class Rows(Sequence[Row]):
    """Rows of sequences, in two arrays of numbers: a million rows do not need a million lists."""

    def __init__(self, members: np.ndarray, ends: np.ndarray):
        """Set the rows.

        Args:
            members: the sequences of all rows, in order.
            ends: for each row, where the next one begins in `members`.
        """
        self._members = members.astype(np.int32)  # (sequences,)
        self._ends = ends.astype(np.int32)  # (rows,)

    @classmethod
    def of_places(cls, order: np.ndarray, rows: np.ndarray, count: int) -> Rows:
        """Return rows from the row of each sequence in `order`; a row keeps that order."""
        ends = np.cumsum(np.bincount(rows, minlength=count))
        return cls(order[np.argsort(rows, kind="stable")], ends)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Return the sequences of the row with this index."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        begin = self._ends[index - 1] if index else 0
        row: Row = self._members[begin : self._ends[index]].tolist()
        return row

    def named(self, names: np.ndarray) -> Rows:
        """Return the same rows with each index i replaced by `names[i]`."""
        return Rows(names[self._members], self._ends)

    def taken(self, order: np.ndarray) -> Rows:
        """Return the rows with these indices, in this order."""
        sizes = np.diff(self._ends, prepend=0)[order]
        ends = np.cumsum(sizes)
        # For each sequence, its old position: its row's beginning, and its place in the row.
        shift = (self._ends[order] - sizes) - (ends - sizes)
        places = np.arange(len(self._members), dtype=np.int32) + np.repeat(shift, sizes)
        return Rows(self._members[places], ends)


def best_fit(lengths: Lengths, row_tokens: int, slots: int) -> Rows:
    """Pack by best fit, longest first: each sequence goes to the fullest row that has space.

    Args:
        lengths: tokens of each sequence.
        row_tokens: T, tokens of a row.
        slots: N, largest number of sequences in a row.

    Returns:
        Rows of indices into `lengths`; each index is in exactly one row. Equal lengths keep
        their order, so that shuffled input gives shuffled rows.

    Raises:
        ValueError: a sequence is longer than a row.
    """
    return _best_fit(lengths, [(row_tokens, slots)])[0]


def best_fit_of_lengths(
    lengths: Lengths, kinds: Sequence[tuple[int, int]]
) -> list[tuple[int, Row]]:
    """Pack by `best_fit` into rows of several lengths: short sequences fill gaps of long ones.

    Args:
        lengths: tokens of each sequence.
        kinds: (T, N) of each kind of row, shortest first. A sequence for which no row has space
            begins the shortest one that holds it.

    Returns:
        (T, row) of each row.

    Raises:
        ValueError: a sequence is longer than the longest row.
    """
    rows, rooms = _best_fit(lengths, kinds)
    return list(zip(rooms, rows, strict=True))


def _best_fit(lengths: Lengths, kinds: Sequence[tuple[int, int]]) -> tuple[Rows, Sequence[int]]:
    """Return the rows, and the length of each."""
    lengths = np.asarray(lengths)
    longest = kinds[-1][0]
    if len(lengths) and lengths.max() > longest:
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit a row of {longest}")
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    row_of = array("i")  # row of each sequence, in that order
    rooms, slots_left = array("i"), array("i")  # of each row
    rows_by_room = [array("i") for _ in range(longest + 1)]
    with_room = 0  # bit r is set where rows_by_room[r] is not empty
    for length in _whole_numbers(lengths, order):
        candidates = with_room >> length
        if candidates:
            room = length + (candidates & -candidates).bit_length() - 1  # the lowest bit set
            row = rows_by_room[room].pop()
            if not rows_by_room[room]:
                with_room &= ~(1 << room)
        else:
            row, (room, slots) = len(rooms), next(kind for kind in kinds if kind[0] >= length)
            rooms.append(room)
            slots_left.append(slots)
        row_of.append(row)
        slots_left[row] -= 1
        if slots_left[row]:
            rows_by_room[room - length].append(row)
            with_room |= 1 << (room - length)
    return Rows.of_places(order, np.asarray(row_of, np.int32), len(rooms)), rooms


def _whole_numbers(values: np.ndarray, order: np.ndarray, together: int = 65_536) -> Iterator[int]:
    """Yield values in this order as Python integers, which are faster one by one."""
    for start in range(0, len(order), together):
        yield from values[order[start : start + together]].tolist()


def best_fit_pairs(
    lengths: tuple[Lengths, Lengths], row_tokens: tuple[int, int], slots: int
) -> Rows:
    """Pack pairs into rows of two budgets: both texts of a pair take the same row and slot.

    Best fit, longest first, by the larger of the shares of a row that the two texts take: a pair
    goes to the row that is fullest with it, counting both sides.

    Args:
        lengths: tokens of each source, and of each target.
        row_tokens: tokens of a row of sources (S), and of one of targets (T).
        slots: N, largest number of pairs in a row.

    Returns:
        Rows of indices; each index is in exactly one row.

    Raises:
        ValueError: a sequence is longer than its row.
    """
    sizes = np.stack([np.asarray(side, np.int64) for side in lengths], axis=1).reshape(-1, 2)
    budget = np.asarray(row_tokens)
    if (sizes > budget).any():
        index = int(np.flatnonzero((sizes > budget).any(1))[0])
        raise ValueError(f"pair {index} of {sizes[index]} tokens does not fit rows of {budget}")
    order = np.argsort(-(sizes / budget).max(1), kind="stable").astype(np.int32)
    row_of = array("i")  # row of each pair, in that order
    in_row = array("i")  # number of pairs in each row
    open_rows = np.zeros(0, np.int64)
    room = np.zeros((0, 2), np.int64)  # tokens left in each open row
    for index in order:
        left = room - sizes[index]
        fits = np.flatnonzero((left >= 0).all(1))
        if len(fits):
            best = fits[np.argmin((left[fits] / budget).sum(1))]
            row = int(open_rows[best])
            room[best] = left[best]
        else:
            row, best = len(in_row), len(open_rows)
            in_row.append(0)
            open_rows = np.append(open_rows, row)
            room = np.append(room, [budget - sizes[index]], axis=0)
        row_of.append(row)
        in_row[row] += 1
        if in_row[row] == slots or (room[best] <= 0).any():
            open_rows, room = np.delete(open_rows, best), np.delete(room, best, axis=0)
    return Rows.of_places(order, np.asarray(row_of, np.int32), len(in_row))


def assemble(
    rows: Sequence[Sequence[Encoding]],
    *,
    row_count: int,
    row_tokens: int,
    slots: int,
) -> PackedBatch:
    """Write sequences into a batch of NumPy arrays; the remaining rows stay empty.

    Args:
        rows: at most `row_count` rows, each a list of the sequences that share it.
        row_count: B.
        row_tokens: T.
        slots: N.
    """
    places = [(b, n) for b, row in enumerate(rows) for n in range(len(row))]
    members = [encoding for row in rows for encoding in row]
    tokens = np.zeros((4, row_count * row_tokens), np.int32)
    starts, lengths = np.zeros((2, row_count, slots), np.int32)
    if members:
        row, slot = np.array(places).T  # of each sequence
        length = np.array([len(encoding) for encoding in members])
        before = np.cumsum(length) - length  # tokens of all sequences before it
        start = before - before[np.searchsorted(row, row)]  # tokens before it in its row
        starts[row, slot], lengths[row, slot] = start, length
        position = np.arange(length.sum()) - np.repeat(before, length)  # of each token
        place = position + np.repeat(row * row_tokens + start, length)
        tokens[:, place] = (
            np.concatenate([encoding.token_ids for encoding in members]),
            position,
            np.repeat(slot + 1, length),
            np.concatenate([encoding.type_ids for encoding in members]),
        )
    token_ids, position_ids, segment_ids, type_ids = tokens.reshape(4, row_count, row_tokens)
    return PackedBatch(token_ids, position_ids, segment_ids, type_ids, starts, lengths)


def assemble_pairs(
    rows: Sequence[Sequence[EncodedPair]],
    *,
    row_count: int,
    row_tokens: tuple[int, int],
    slots: int,
) -> PairBatch:
    """Write pairs into a batch: sources, and inputs of the decoder.

    Args:
        rows: as in `assemble`.
        row_count: B.
        row_tokens: S and T.
        slots: N.
    """
    source, target = (
        assemble(side, row_count=row_count, row_tokens=tokens, slots=slots)
        for side, tokens in zip(
            (
                [[pair.source for pair in row] for row in rows],
                [[pair.given for pair in row] for row in rows],
            ),
            row_tokens,
            strict=True,
        )
    )
    return PairBatch(source, target)


def slots_of(
    rows: Sequence[Sequence[Member]], batch: PackedBatch
) -> Iterator[tuple[Member, int, int, slice]]:
    """Yield (member, row, slot, tokens) for each sequence of a batch made by `assemble(rows)`.

    Members are indices, or anything else that stands for a sequence.
    """
    starts, lengths = np.asarray(batch.starts), np.asarray(batch.lengths)
    for b, row in enumerate(rows):
        for n, member in enumerate(row):
            yield member, b, n, slice(starts[b, n], starts[b, n] + lengths[b, n])


def refuse_empty(encodings: Sequence[Encoding], names: Sequence[str]) -> None:
    """Refuse sequences without a token of a text.

    Args:
        encodings: the sequences.
        names: name of each in error messages.

    Raises:
        EmptyText: some are empty; the message names the first, `places` holds all.
    """
    empty = [place for place, encoding in enumerate(encodings) if encoding.is_special.all()]
    if empty:
        raise EmptyText.of(names[empty[0]], empty)


def check_lengths(
    encodings: Sequence[Encoding], limit: int, *, truncate: bool, names: Sequence[str]
) -> tuple[list[Encoding], int]:
    """Refuse sequences that are empty or too long, or cut the long ones.

    Args:
        encodings: the sequences.
        limit: largest number of tokens the model takes.
        truncate: cut instead of refusing.
        names: name of each in error messages.

    Returns:
        The sequences, and how many of them were cut.

    Raises:
        EncodaxError: a text is empty or too long; the message names it, and for a long one its
            length and the limit.
    """
    fitting: list[Encoding] = []
    empty: list[int] = []
    long: list[int] = []
    for place, encoding in enumerate(encodings):
        if encoding.is_special.all():
            empty.append(place)
        if len(encoding) > limit:
            long.append(place)
            encoding = encoding.truncated(limit)
        fitting.append(encoding)
    if empty:
        raise EmptyText.of(names[empty[0]], empty)
    if long and not truncate:
        raise TooLong(
            f"{names[long[0]]}: {len(encodings[long[0]])} tokens, and the model takes {limit}; "
            "shorten the text, or ask for truncation (--truncate, truncate=True)"
        )
    return fitting, len(long)
