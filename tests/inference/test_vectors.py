"""Vectors compared, searched and stored as plain loops do it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from encodax.config import Similarity
from encodax.errors import EncodaxError
from encodax.inference import vectors
from encodax.inference.vectors import Hit

KINDS: tuple[Similarity, ...] = ("cosine", "dot", "euclidean", "manhattan")


def drawn(count: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def plain(first: np.ndarray, second: np.ndarray, by: str) -> np.ndarray:
    """Two loops over Python floats."""

    def one(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        if by == "dot":
            return dot
        if by == "cosine":
            lengths = math.hypot(*a) * math.hypot(*b)
            return dot / lengths if lengths else 0.0
        if by == "euclidean":
            return -math.dist(a, b)
        return -sum(abs(x - y) for x, y in zip(a, b, strict=True))

    return np.array([[one(a, b) for b in second.tolist()] for a in first.tolist()])


# Comparing.


@pytest.mark.parametrize("by", KINDS)
def test_similarity_is_that_of_plain_loops(by: Similarity) -> None:
    first, second = drawn(7), drawn(4, seed=1)
    first[2] = 0
    found = vectors.similarity(first, second, by)
    assert found.shape == (7, 4)
    np.testing.assert_allclose(found, plain(first, second, by), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("by", KINDS)
def test_a_vector_is_most_similar_to_itself(by: Similarity) -> None:
    rows = vectors.unit(drawn(20))
    assert vectors.similarity(rows, rows, by).argmax(axis=1).tolist() == list(range(20))


@pytest.mark.parametrize("by", KINDS)
def test_nothing_is_similar_to_nothing(by: Similarity) -> None:
    assert vectors.similarity(drawn(0), drawn(3), by).shape == (0, 3)
    assert vectors.similarity(drawn(3), drawn(0), by).shape == (3, 0)


def test_cosine_is_the_usual_kind() -> None:
    first, second = drawn(3), drawn(3, seed=1)
    np.testing.assert_array_equal(
        vectors.similarity(first, second), vectors.similarity(first, second, "cosine")
    )


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("by", KINDS)
def test_other_widths_do_not_compare(by: Similarity) -> None:
    with pytest.raises(EncodaxError, match="width 5 and of width 6 do not compare"):
        vectors.similarity(drawn(2), drawn(2, width=6), by)


def test_unit_vectors_have_length_1_and_zeros_stay() -> None:
    rows = drawn(5)
    rows[3] = 0
    lengths = np.linalg.norm(vectors.unit(rows), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 1, 0, 1], rtol=1e-6)


# Searching.


@pytest.mark.parametrize("block", [1, 2, 7, 30, 100])
@pytest.mark.parametrize("by", KINDS)
def test_a_search_finds_what_sorting_all_finds(
    by: Similarity, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BLOCK", block)
    queries, corpus = drawn(3), drawn(30, seed=1)
    scores = plain(queries, corpus, by)
    for top_k in (1, 4, 30, 99):
        found = vectors.search(queries, corpus, top_k, by)
        for hits, row in zip(found, scores, strict=True):
            wanted = sorted(range(30), key=lambda index: -row[index])[:top_k]
            assert [hit.index for hit in hits] == wanted
            np.testing.assert_allclose(
                [hit.score for hit in hits], row[wanted], rtol=1e-5, atol=2e-6
            )


@pytest.mark.parametrize("block", [1, 2, 3, 50])
def test_ties_keep_the_order_of_the_corpus(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BLOCK", block)
    corpus = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    (hits,) = vectors.search(corpus[:1], corpus, 5, "dot")
    assert hits == [Hit(0, 1.0), Hit(2, 1.0), Hit(4, 1.0), Hit(1, 0.0), Hit(3, 0.0)]


def test_an_empty_corpus_has_no_hit() -> None:
    assert vectors.search(drawn(2), drawn(0)) == [[], []]
    assert vectors.search(drawn(0), drawn(2)) == []


@pytest.mark.parametrize("top_k", [0, -1])
def test_less_than_one_hit_is_refused(top_k: int) -> None:
    with pytest.raises(EncodaxError, match=f"top_k = {top_k} is not above 0"):
        vectors.search(drawn(1), drawn(2), top_k)


# Fewer bytes.

numbers = st.floats(-4, 4, width=32)
some = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 6)), elements=numbers)


@given(some)
def test_int8_is_within_half_a_step(rows: np.ndarray) -> None:
    stored = vectors.to_int8(rows)
    assert stored.dtype == np.int8
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    step = (high - low) / 255
    back = low + (stored.astype(np.float64) + 128) * step
    assert (np.abs(back - rows) <= step / 2 + 1e-5).all()


def test_int8_uses_all_its_values() -> None:
    stored = vectors.to_int8(drawn(50))
    assert (stored.min(axis=0) == -128).all()
    assert (stored.max(axis=0) == 127).all()
    assert vectors.to_int8(np.ones((3, 2), np.float32)).tolist() == [[-128, -128]] * 3


def test_a_corpus_and_its_queries_share_their_ranges() -> None:
    ranges = np.array([[-1, 0], [1, 51]], np.float32)
    queries = np.array([[-1, 0], [1, 51], [0.2, 10.2], [-9, 99]], np.float32)
    assert vectors.to_int8(queries, ranges).tolist() == [
        [-128, -128],
        [127, 127],
        [25, -77],
        [-128, 127],
    ]


@given(some)
def test_binary_says_what_is_above_0(rows: np.ndarray) -> None:
    stored = vectors.to_binary(rows)
    assert stored.dtype == np.uint8
    assert stored.shape == (len(rows), math.ceil(rows.shape[1] / 8))
    for packed, row in zip(stored.tolist(), rows.tolist(), strict=True):
        bits = "".join(f"{byte:08b}" for byte in packed)
        assert bits == "".join("01"[value > 0] for value in row).ljust(8 * len(packed), "0")


def test_hamming_counts_the_features_that_differ() -> None:
    first, second = drawn(4, width=300), drawn(3, width=300, seed=1)
    found = vectors.hamming(vectors.to_binary(first), vectors.to_binary(second))
    wanted = [[int(((a > 0) != (b > 0)).sum()) for b in second] for a in first]
    assert found.tolist() == wanted
    assert vectors.hamming(np.zeros((0, 2), np.uint8), np.zeros((3, 2), np.uint8)).shape == (0, 3)
    opposite = vectors.hamming(np.zeros((1, 99), np.uint8), np.full((1, 99), 255, np.uint8))
    assert opposite.tolist() == [[8 * 99]]


@pytest.mark.parametrize("precision", vectors.TYPES)
def test_no_vector_takes_no_byte(precision: str) -> None:
    assert vectors.TYPES[precision](np.zeros((0, 8), np.float32)).nbytes == 0


# Files.

TEXTS = ["one", "two, «three»\n", "日本"]


@pytest.fixture(params=vectors.TYPES)
def stored(request: pytest.FixtureRequest) -> np.ndarray:
    return np.asarray(vectors.TYPES[request.param](drawn(3)))


def test_npy_is_read_back(stored: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    vectors.WRITERS["npy"](str(path), TEXTS, stored)
    found = np.load(path)
    assert found.dtype == stored.dtype
    np.testing.assert_array_equal(found, stored)


def test_parquet_is_read_back(stored: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    vectors.WRITERS["parquet"](str(path), TEXTS, stored)
    table = pyarrow.parquet.read_table(path)
    assert table["text"].to_pylist() == TEXTS
    rows = table["vector"].combine_chunks()
    assert rows.type.list_size == stored.shape[1]
    flat = rows.flatten().to_numpy()
    assert flat.dtype == stored.dtype
    np.testing.assert_array_equal(flat.reshape(stored.shape), stored)


def test_json_lines_are_read_back(stored: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    vectors.WRITERS["jsonl"](str(path), TEXTS, stored)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    found = np.array([line["vector"] for line in lines], stored.dtype)
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize("ending", vectors.WRITERS)
def test_no_vector_is_a_file_of_none(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    vectors.WRITERS[ending](str(path), [], np.zeros((0, 4), np.float32))
    assert path.is_file()


@pytest.mark.parametrize("ending", vectors.WRITERS)
def test_a_file_that_cannot_be_written_is_told(ending: str, tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=f"no/a.{ending} cannot be written"):
        vectors.WRITERS[ending](str(tmp_path / "no" / f"a.{ending}"), TEXTS, drawn(3))
