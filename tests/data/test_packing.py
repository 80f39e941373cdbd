import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.packing import (
    Rows,
    assemble,
    best_fit,
    best_fit_of_lengths,
    best_fit_pairs,
    check_lengths,
    slots_of,
)
from encodax.errors import EncodaxError
from encodax.text.tokenizer import Encoding, Tokenizer


@given(
    lengths=st.lists(st.integers(1, 20), max_size=60),
    room=st.integers(20, 40),
    slots=st.integers(1, 6),
)
def test_every_sequence_stands_in_one_row_that_has_room(
    lengths: list[int], room: int, slots: int
) -> None:
    rows = best_fit(lengths, room, slots)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(1 <= len(row) <= slots for row in rows)
    assert all(sum(lengths[index] for index in row) <= room for row in rows)


@given(lengths=st.lists(st.integers(1, 20), max_size=40), room=st.integers(20, 40))
def test_it_is_best_fit_longest_first(lengths: list[int], room: int) -> None:
    """The plain form, a scan over all rows, needs as many rows and fills them alike."""
    left: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, space in enumerate(left) if space >= length]
        if fitting:
            left[min(fitting, key=lambda row: left[row])] -= length
        else:
            left.append(room - length)
    rows = best_fit(lengths, room, room)
    used = sorted(sum(lengths[index] for index in row) for row in rows)
    assert used == sorted(room - space for space in left)


@given(
    lengths=st.lists(st.integers(1, 30), max_size=60),
    slots=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_rows_and_their_order_are_those_of_plain_lists(
    lengths: list[int], slots: tuple[int, int]
) -> None:
    kinds = [(16, slots[0]), (30, slots[1])]
    rows: list[list[int]] = []
    left: list[tuple[int, int]] = []  # room and slots of each row
    wanted_kinds = []
    opened: dict[int, list[int]] = {}  # rows by the room that they have; the last one is taken
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        room = min((room for room, own in opened.items() if own and room >= length), default=0)
        if room:
            row = opened[room].pop()
        else:
            kind = next(kind for kind in kinds if kind[0] >= length)
            row, room = len(rows), kind[0]
            rows.append([])
            left.append(kind)
            wanted_kinds.append(kind[0])
        rows[row].append(index)
        left[row] = (room - length, left[row][1] - 1)
        if left[row][1] and left[row][0]:
            opened.setdefault(left[row][0], []).append(row)
    assert best_fit_of_lengths(lengths, kinds) == list(zip(wanted_kinds, rows, strict=True))


@given(sizes=st.lists(st.integers(0, 3), max_size=12), seed=st.integers(0, 99))
def test_rows_are_taken_in_another_order_and_named(sizes: list[int], seed: int) -> None:
    ends = np.cumsum(sizes, dtype=np.int64)
    plain = [list(range(end - size, end)) for end, size in zip(ends.tolist(), sizes, strict=True)]
    rows = Rows(np.arange(sum(sizes)), ends)
    assert list(rows) == plain
    order = np.random.default_rng(seed).permutation(len(sizes))
    assert list(rows.taken(order)) == [plain[row] for row in order]
    names = np.arange(sum(sizes)) * 10
    assert list(rows.named(names)) == [[10 * index for index in row] for row in plain]
    assert rows[1:] == plain[1:]


def test_rows_that_have_no_slot_left_take_no_more() -> None:
    assert list(best_fit([2, 2, 2, 2, 2], 100, 2)) == [[0, 1], [2, 3], [4]]


def test_equal_lengths_keep_their_order() -> None:
    assert list(best_fit([3, 3, 3, 3], 6, 9)) == [[0, 1], [2, 3]]


def test_a_sequence_as_long_as_a_row_fills_it() -> None:
    assert list(best_fit([4, 1], 4, 9)) == [[0], [1]]


def test_nothing_needs_no_rows() -> None:
    assert list(best_fit([], 8, 2)) == []


def test_a_sequence_longer_than_a_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="a sequence of 9 tokens does not fit a row of 8"):
        best_fit([3, 9], 8, 2)


def test_rows_of_real_sentences_are_97_percent_full(shared_data: Path) -> None:
    with (shared_data / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [row[0] for row in reader]
    assert len(texts) == 6_920
    tokenizer = Tokenizer.train(texts, "wordpiece", vocabulary_size=4_000)
    lengths = [len(encoding) for encoding in tokenizer.encode(texts)]
    rows = best_fit(lengths, 128, 32)
    assert sum(lengths) / (128 * len(rows)) >= 0.97


def encoding_of(length: int, seed: int) -> Encoding:
    random = np.random.default_rng(seed)
    return Encoding(
        token_ids=random.integers(1, 99, length, np.int32),
        type_ids=random.integers(0, 2, length, np.int32),
        offsets=np.zeros((length, 2), np.int32),
        is_special=np.zeros(length, bool),
        sequence_ids=np.zeros(length, np.int32),
    )


LENGTHS = st.lists(st.integers(1, 12), max_size=20)


@given(lengths=LENGTHS, slots=st.integers(1, 5), spare=st.integers(0, 2))
def test_a_batch_holds_each_sequence_where_its_slot_says(
    lengths: list[int], slots: int, spare: int
) -> None:
    encodings = [encoding_of(length, seed) for seed, length in enumerate(lengths)]
    rows = best_fit(lengths, 16, slots)
    packed = [[encodings[index] for index in row] for row in rows]
    batch = assemble(packed, row_count=len(rows) + spare, row_tokens=16, slots=slots)
    assert batch.token_ids.shape == (len(rows) + spare, 16)
    assert batch.starts.shape == batch.lengths.shape == (len(rows) + spare, slots)

    covered = np.zeros(batch.token_ids.shape, bool)
    placed = []
    for index, row, slot, tokens in slots_of(rows, batch):
        placed.append(index)
        encoding = encodings[index]
        assert not covered[row, tokens].any()
        covered[row, tokens] = True
        np.testing.assert_array_equal(batch.token_ids[row, tokens], encoding.token_ids)
        np.testing.assert_array_equal(batch.type_ids[row, tokens], encoding.type_ids)
        np.testing.assert_array_equal(batch.position_ids[row, tokens], range(len(encoding)))
        np.testing.assert_array_equal(batch.segment_ids[row, tokens], slot + 1)
        assert batch.starts[row, slot] == tokens.start
        assert batch.lengths[row, slot] == len(encoding)
    assert sorted(placed) == list(range(len(lengths)))

    for array in (batch.token_ids, batch.position_ids, batch.segment_ids, batch.type_ids):
        assert array.dtype == np.int32
        assert not array[~covered].any()
    assert batch.lengths.sum() == sum(lengths)
    for segments in batch.segment_ids:  # contiguous, in order, padding at the end
        real = segments[segments > 0]
        np.testing.assert_array_equal(segments[: len(real)], real)
        assert set(np.diff(real)) <= {0, 1}
        assert not len(real) or real[0] == 1


def test_a_batch_is_arrays_of_numpy_on_the_host() -> None:
    batch = assemble([[encoding_of(3, 0)]], row_count=2, row_tokens=4, slots=2)
    assert isinstance(batch.token_ids, np.ndarray)
    assert batch.segment_ids.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0]]
    assert batch.starts.tolist() == [[0, 0], [0, 0]]
    assert batch.lengths.tolist() == [[3, 0], [0, 0]]


@pytest.fixture(scope="module")
def three(tiny_tokenizer: Tokenizer) -> list[Encoding]:
    """Of 4, 10 and 6 tokens."""
    encodings = tiny_tokenizer.encode(["the cat", "the cat sat on the mat", "a cat sat"])
    assert [len(encoding) for encoding in encodings] == [4, 10, 6]
    return encodings


NAMES = ("first", "second", "third")


def test_sequences_within_the_limit_are_kept_as_they_are(three: list[Encoding]) -> None:
    kept, cut = check_lengths(three, 10, truncate=False, names=NAMES)
    assert cut == 0
    assert all(one is other for one, other in zip(kept, three, strict=True))


def test_a_sequence_beyond_the_limit_is_named_with_both_numbers(three: list[Encoding]) -> None:
    message = r"^second: 10 tokens, and the model takes 9; .*--truncate, truncate=True"
    with pytest.raises(EncodaxError, match=message):
        check_lengths(three, 9, truncate=False, names=NAMES)


def test_truncation_cuts_what_is_too_long_and_counts_it(three: list[Encoding]) -> None:
    kept, cut = check_lengths(three, 5, truncate=True, names=NAMES)
    assert cut == 2
    assert [len(encoding) for encoding in kept] == [4, 5, 5]
    assert kept[1].token_ids.tolist() == three[1].token_ids[[0, 1, 2, 3, 9]].tolist()


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_named(tiny_tokenizer: Tokenizer, text: str, truncate: bool) -> None:
    encodings = tiny_tokenizer.encode(["the cat", text, "a cat sat"])
    with pytest.raises(EncodaxError, match=r"^second: the text is empty$"):
        check_lengths(encodings, 10, truncate=truncate, names=NAMES)


PAIRS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 7)), max_size=30)


@given(pairs=PAIRS, slots=st.integers(1, 4))
def test_every_pair_stands_in_one_row_that_has_room_for_both(
    pairs: list[tuple[int, int]], slots: int
) -> None:
    lengths = ([source for source, _ in pairs], [target for _, target in pairs])
    rows = best_fit_pairs(lengths, (9, 7), slots)
    assert sorted(index for row in rows for index in row) == list(range(len(pairs)))
    for row in rows:
        assert 0 < len(row) <= slots
        for side, room in zip(lengths, (9, 7), strict=True):
            assert sum(side[index] for index in row) <= room


def test_a_pair_goes_where_both_sides_leave_least() -> None:
    assert list(best_fit_pairs(([6, 5, 3], [5, 6, 2]), (9, 8), 4)) == [[1, 2], [0]]


def test_pairs_that_fill_their_rows_leave_no_row_behind() -> None:
    assert list(best_fit_pairs(([4, 4, 4, 4], [2, 2, 2, 2]), (8, 8), 9)) == [[0, 1], [2, 3]]
    assert list(best_fit_pairs(([], []), (8, 8), 2)) == []


def test_a_pair_longer_than_its_row_is_named() -> None:
    with pytest.raises(ValueError, match=r"pair 1 of \[3 9\] tokens does not fit rows of \[8 8\]"):
        best_fit_pairs(([1, 3], [1, 9]), (8, 8), 2)
