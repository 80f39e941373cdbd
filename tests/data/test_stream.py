"""Streams are read in windows, and packed into full batches of few shapes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data import stream
from encodax.data.batches import BatchShape
from encodax.data.stream import (
    ROW_TOKENS,
    Live,
    Packer,
    PendingSequence,
    Shapes,
    row_that_holds,
    windows,
)
from encodax.errors import EncodaxError
from encodax.text.tokenizer import Encoding
from encodax.types.batches import PackedBatch

SHAPES = Shapes(256)


def job(length: int, token: int = 1) -> PendingSequence:
    ids = np.full(length, token, np.int32)
    zeros = np.zeros_like(ids)
    return PendingSequence(
        Encoding(ids, zeros, np.stack([zeros, zeros], 1), zeros.astype(bool), zeros)
    )


def shape_of(batch: PackedBatch) -> BatchShape:
    return BatchShape(*batch.token_ids.shape, batch.starts.shape[1])


# Windows.


def test_a_window_ends_with_its_items_or_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_ITEMS", 3)
    monkeypatch.setattr(stream, "WINDOW_SIZE", 10)
    found = [window.items for window in windows(["a"] * 4 + ["b" * 30] + ["c"], len)]
    assert found == [["a", "a", "a"], ["a", "b" * 30], ["c"]]


def test_the_last_window_says_how_the_stream_ended() -> None:
    (window,) = windows(["a", "b"], len)
    assert window.items == ["a", "b"] and window.is_end and window.error is None
    assert [window.items for window in windows([], len)] == [[]]


def test_what_came_before_the_source_broke_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "WINDOW_ITEMS", 2)

    def source() -> Iterator[str]:
        yield from "abc"
        raise OSError("gone")

    first, last = windows(source(), len)
    assert (first.items, first.is_end, last.items) == (["a", "b"], False, ["c"])
    assert isinstance(last.error, OSError)


# Windows of a live source.


class Talker:
    """A source that goes on when it is told to, and not before."""

    def __init__(self, *groups: str):
        self.groups = groups
        self.go_on = threading.Semaphore(0)
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        for group in self.groups:
            for item in group:
                self.read += 1
                yield item
            assert self.go_on.acquire(timeout=60), "what had come was not answered"


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "encodax-read"]


def no_readers() -> bool:
    """Whether none is left: one that was in its source ends soon."""
    until = time.monotonic() + 60
    while readers() and time.monotonic() < until:
        time.sleep(0.01)
    return not readers()


@pytest.mark.parametrize("items", [1000, 3])
def test_a_silent_source_ends_a_window_in_time(monkeypatch: pytest.MonkeyPatch, items: int) -> None:
    """Also after a full one, of which something may wait for more."""
    monkeypatch.setattr(stream, "WINDOW_ITEMS", items)
    talker = Talker("abc", "d", "")
    heard: list[str] = []
    pauses: list[str] = []
    for window in windows(talker, len, Live(0.01, lambda: pauses.append("".join(heard)))):
        heard.extend(window.items)
        if window.is_pause and len(heard) in (3, 4):
            assert talker.read == len(heard)
            assert pauses[-1:] != ["".join(heard)]  # told once all before it is answered
            talker.go_on.release(1 if len(heard) == 3 else 2)
    assert heard == list("abcd") and window.is_end and window.error is None
    assert {"abc", "abcd"} <= set(pauses)
    assert no_readers()


def test_a_fast_source_fills_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_ITEMS", 3)
    found = list(windows("abcdefgh", len, Live(60.0)))
    assert [window.items for window in found] == [list("abc"), list("def"), list("gh")]
    assert not any(window.is_pause for window in found)


def test_a_live_source_is_read_a_window_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_ITEMS", 4)
    monkeypatch.setattr(stream, "WINDOW_SIZE", 30)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield "a" * 10 if read > 8 else "a"

    found = windows(endless(), len, Live())
    assert read == 0
    taken = 0
    for _ in range(6):
        taken += len(next(found).items)
        time.sleep(0.01)
        assert read <= taken + 4 + 1  # a window, and an item that has no room yet
    found.close()
    assert no_readers()


def test_what_came_before_a_live_source_broke_is_not_lost() -> None:
    def source() -> Iterator[str]:
        yield from "abc"
        raise OSError("gone")

    found = list(windows(source(), len, Live()))
    assert [item for window in found for item in window.items] == ["a", "b", "c"]
    assert isinstance(found[-1].error, OSError)


def test_who_leaves_does_not_wait_for_a_silent_source() -> None:
    talker = Talker("a", "b")
    found = windows(talker, len, Live(0.0))
    assert next(found).items == ["a"]
    begin = time.monotonic()
    found.close()
    assert time.monotonic() - begin < 30  # of the 60 that the source would take
    talker.go_on.release(2)
    assert no_readers()


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_wait_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(EncodaxError, match=r"max_wait = .* is not a number of seconds"):
        Live(seconds)


# Shapes.


def test_batches_have_three_heights_of_all_devices() -> None:
    assert Shapes(1024).row_counts(64) == [16, 4, 1]
    assert Shapes(1024).row_counts(256) == [4, 1]
    assert Shapes(1024).row_counts(16) == [1]
    assert Shapes(1024).row_counts(4096) == [1]
    assert Shapes(1024, devices=8).row_counts(128) == [64, 16, 8]


def test_all_shapes_end_with_the_row_that_holds_the_longest() -> None:
    assert {shape.row_tokens for shape in Shapes(1024).all(200)} == {16, 32, 64, 128, 192, 256}
    assert {shape.row_tokens for shape in Shapes(1024).all(10**6)} == set(ROW_TOKENS)
    # Many short ones share rows of the usual length.
    assert {shape.row_tokens for shape in Shapes(1024).all(9)} == {16, 32, 64}


# Packing.


@given(
    st.lists(st.lists(st.integers(1, 600), max_size=30), min_size=1, max_size=5),
    st.integers(1, 3),
)
def test_every_sequence_goes_once_within_a_window_in_a_known_shape(
    lengths: list[list[int]], devices: int
) -> None:
    shapes = Shapes(256, devices)
    packer, known = Packer(shapes), set(shapes.all(600))
    jobs: list[PendingSequence] = []
    gone: list[PendingSequence] = []
    for number, window in enumerate(lengths):
        before = list(jobs)
        jobs += (new := [job(length, 1 + len(jobs) + i) for i, length in enumerate(window)])
        for rows, batch in packer.add(new, is_last=number == len(lengths) - 1):
            assert shape_of(batch) in known
            for b, row in enumerate(rows):
                tokens = [token for each in row for token in each.encoding.token_ids]
                assert batch.token_ids[b].tolist()[: len(tokens)] == tokens
            gone += [each for row in rows for each in row]
        assert set(map(id, before)) <= set(map(id, gone))  # nobody waits twice
    assert sorted(map(id, gone)) == sorted(map(id, jobs))


def test_what_fills_no_batch_waits_for_the_next_window() -> None:
    packer = Packer(SHAPES)
    assert packer.add([job(64)] * 3, is_last=False) == []
    ((rows, batch),) = packer.add([job(64), job(64)], is_last=False)
    assert len(rows) == 4 and shape_of(batch) == BatchShape(4, 64, 16)
    ((rows, batch),) = packer.add([], is_last=True)
    assert len(rows) == 1 and shape_of(batch) == BatchShape(1, 64, 16)


@pytest.mark.parametrize(("lengths", "row"), [([5], 16), ([9, 9], 32), ([33], 64), ([70], 128)])
def test_a_few_tokens_alone_take_the_shortest_row(lengths: list[int], row: int) -> None:
    ((_, batch),) = Packer(SHAPES).add(list(map(job, lengths)), is_last=True)
    assert shape_of(batch) == BatchShape(1, row, row // 4)


def test_short_sequences_fill_what_long_ones_leave() -> None:
    ((rows, batch),) = Packer(SHAPES).add([job(100), job(20), job(8)], is_last=True)
    assert [len(each.encoding) for each in rows[0]] == [100, 20, 8]
    assert batch.token_ids.shape == (1, 128)


def test_the_row_that_holds() -> None:
    assert [row_that_holds(n) for n in (0, 16, 17, 129, 9_000)] == [16, 16, 32, 192, 8192]
