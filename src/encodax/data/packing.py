"""Sequences of any length into rows of a fixed number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from encodax.errors import EmptyText, EncodaxError
from encodax.tokenizer import EncodedPair, Encoding
from encodax.types import PackedBatch, PairBatch

Member = TypeVar("Member")
Lengths = Sequence[int] | np.ndarray
"""Tokens of each sequence, (n,); or (n, 2) of each source and its target."""
Row = list[int]
"""Indices of the sequences that share a row, in the order of their slots."""


def best_fit(lengths: Lengths, row_tokens: int, slots: int) -> list[Row]:
    """Best fit, longest first: each sequence goes to the fullest row that still has room.

    Args:
        lengths: tokens of each sequence.
        row_tokens: T, room of a row.
        slots: N, most sequences in a row.

    Returns:
        Rows of indices into `lengths`; each index stands in exactly one row. Equal lengths keep
        their order, so that shuffled input gives shuffled rows.

    Raises:
        ValueError: a sequence is longer than a row.
    """
    return [row for _, row in best_fit_of_lengths(lengths, [(row_tokens, slots)])]


def best_fit_of_lengths(
    lengths: Lengths, kinds: Sequence[tuple[int, int]]
) -> list[tuple[int, Row]]:
    """`best_fit` into rows of several lengths: short sequences fill what long ones leave.

    Args:
        lengths: tokens of each sequence.
        kinds: (T, N) of each kind of row, shortest first. A sequence that no row has room for
            begins the shortest one that holds it.

    Returns:
        (T, row) of each row.

    Raises:
        ValueError: a sequence is longer than the longest row.
    """
    lengths = np.asarray(lengths).tolist()  # whole numbers of Python are faster, one by one
    longest = kinds[-1][0]
    if len(lengths) and max(lengths) > longest:
        raise ValueError(f"a sequence of {max(lengths)} tokens does not fit a row of {longest}")
    rows: list[tuple[int, Row]] = []
    slots_left: list[int] = []
    rows_by_room: list[list[int]] = [[] for _ in range(longest + 1)]
    with_room = 0  # bit r is set where rows_by_room[r] is not empty
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        candidates = with_room >> length
        if candidates:
            room = length + (candidates & -candidates).bit_length() - 1  # the lowest bit set
            row = rows_by_room[room].pop()
            if not rows_by_room[room]:
                with_room &= ~(1 << room)
        else:
            row, (room, slots) = len(rows), next(kind for kind in kinds if kind[0] >= length)
            rows.append((room, []))
            slots_left.append(slots)
        rows[row][1].append(index)
        slots_left[row] -= 1
        if slots_left[row]:
            rows_by_room[room - length].append(row)
            with_room |= 1 << (room - length)
    return rows


def best_fit_pairs(
    lengths: tuple[Lengths, Lengths], row_tokens: tuple[int, int], slots: int
) -> list[Row]:
    """Pairs into rows of two budgets: the two of a pair stand in the same row and the same slot.

    Best fit, longest first, by the share of its row that the larger of the two takes: a pair goes
    to the row that is fullest when it is in, as both sides count.

    Args:
        lengths: tokens of each source, and of each target.
        row_tokens: room of a row of sources (S), and of one of targets (T).
        slots: N, most pairs in a row.

    Returns:
        Rows of indices; each index stands in exactly one row.

    Raises:
        ValueError: a sequence is longer than its row.
    """
    sizes = np.stack([np.asarray(side, np.int64) for side in lengths], axis=1).reshape(-1, 2)
    budget = np.asarray(row_tokens)
    if (sizes > budget).any():
        index = int(np.flatnonzero((sizes > budget).any(1))[0])
        raise ValueError(f"pair {index} of {sizes[index]} tokens does not fit rows of {budget}")
    shares = sizes / budget
    rows: list[Row] = []
    open_rows = np.zeros(0, np.int64)
    room = np.zeros((0, 2), np.int64)  # of each open row
    for index in np.argsort(-shares.max(1), kind="stable").tolist():
        left = room - sizes[index]
        fits = np.flatnonzero((left >= 0).all(1))
        if len(fits):
            best = fits[np.argmin((left[fits] / budget).sum(1))]
            row = int(open_rows[best])
            room[best] = left[best]
        else:
            row, best = len(rows), len(open_rows)
            rows.append([])
            open_rows = np.append(open_rows, row)
            room = np.append(room, [budget - sizes[index]], axis=0)
        rows[row].append(index)
        if len(rows[row]) == slots or (room[best] <= 0).any():
            open_rows, room = np.delete(open_rows, best), np.delete(room, best, axis=0)
    return rows


def assemble(
    rows: Sequence[Sequence[Encoding]],
    *,
    row_count: int,
    row_tokens: int,
    slots: int,
) -> PackedBatch:
    """Write sequences into a batch of NumPy arrays; rows that are not given stay empty.

    Args:
        rows: at most `row_count` rows, each of the sequences that share it.
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
        before = np.cumsum(length) - length  # tokens of all sequences that stand before it
        start = before - before[np.searchsorted(row, row)]  # the same, in its own row
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
    """Write pairs into a batch: what is encoded, and what the decoder is given.

    Args:
        rows: as `assemble` has them.
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
    """(member, row, slot, tokens) of each sequence in a batch that `assemble` made of these rows.

    Members are indices, or whatever else stands for a sequence.
    """
    starts, lengths = np.asarray(batch.starts), np.asarray(batch.lengths)
    for b, row in enumerate(rows):
        for n, member in enumerate(row):
            yield member, b, n, slice(starts[b, n], starts[b, n] + lengths[b, n])


def within(
    encodings: Sequence[Encoding], limit: int, *, truncate: bool, names: Sequence[str]
) -> tuple[list[Encoding], int]:
    """Refuse sequences that are empty or too long, or cut the long ones.

    Args:
        encodings: the sequences.
        limit: most tokens the model takes.
        truncate: cut instead of refusing.
        names: what each is called in an error.

    Returns:
        The sequences, and how many of them were cut.

    Raises:
        EncodaxError: names the text, its length and the limit.
    """
    empty = [place for place, encoding in enumerate(encodings) if encoding.is_special.all()]
    if empty:
        raise EmptyText.of(names[empty[0]], empty)
    fitting, cut = [], 0
    for name, encoding in zip(names, encodings, strict=True):
        if len(encoding) > limit:
            if not truncate:
                raise EncodaxError(
                    f"{name}: {len(encoding)} tokens, and the model takes {limit}; "
                    "shorten the text, or ask for truncation (--truncate, truncate=True)"
                )
            encoding, cut = encoding.truncated(limit), cut + 1
        fitting.append(encoding)
    return fitting, cut
