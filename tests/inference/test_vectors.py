"""Vectors compared, searched and stored as plain loops do it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
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
    with pytest.raises(EncodaxError, match="width 5 and of width 6 cannot be compared"):
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
    monkeypatch.setattr(vectors, "MAX_NUMBERS", 5 * block)
    monkeypatch.setattr(vectors, "MAX_QUERIES", 2)
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
    monkeypatch.setattr(vectors, "MAX_NUMBERS", 2 * block)
    corpus = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    (hits,) = vectors.search(corpus[:1], corpus, 5, "dot")
    assert hits == [Hit(0, 1.0), Hit(2, 1.0), Hit(4, 1.0), Hit(1, 0.0), Hit(3, 0.0)]


@given(
    data=st.data(),
    count=st.integers(0, 40),
    queries=st.integers(1, 5),
    top_k=st.integers(1, 12),
    scores=st.integers(1, 60),
    by=st.sampled_from(KINDS),
)
def test_a_search_in_pieces_is_the_stable_sort_of_all(
    data: st.DataObject, count: int, queries: int, top_k: int, scores: int, by: Similarity
) -> None:
    """Small whole numbers have equal scores, and exact ones, whatever the pieces are."""
    whole = arrays(np.float32, st.just((count + queries, 3)), elements=st.integers(-2, 2))
    rows = data.draw(whole)
    corpus, asked = rows[:count], rows[count:]
    if by == "cosine":  # lengths of 1 or 0 are exact
        corpus, asked = (np.sign(each) * (np.arange(3) == 0) for each in (corpus, asked))
    every = vectors.similarity(asked, corpus, by)
    order = np.argsort(-every, axis=1, kind="stable")[:, :top_k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "MAX_SCORES", scores)
        patch.setattr(vectors, "MAX_QUERIES", 3)
        nearest = vectors.Nearest(asked, top_k, by)
        cut = data.draw(st.integers(0, count))
        nearest.add(corpus[:cut])
        nearest.add(corpus[cut:])
    found = nearest.hits()
    assert [[hit.index for hit in hits] for hits in found] == order.tolist()
    wanted = np.take_along_axis(every, order, axis=1).tolist()
    assert [[hit.score for hit in hits] for hits in found] == wanted
    assert nearest.places() == set(order.ravel().tolist())


@pytest.mark.parametrize("by", KINDS)
@pytest.mark.parametrize("place", [0, 1])
def test_a_score_that_is_no_number_is_refused(by: Similarity, place: int) -> None:
    queries, corpus = drawn(2), drawn(4, seed=1)
    (queries, corpus)[place][1, 2] = np.nan
    with pytest.raises(EncodaxError, match=r"query \d and vector \d of the corpus cannot be comp"):
        vectors.search(queries, corpus, 2, by)


def test_a_score_of_minus_infinity_is_one_too() -> None:
    corpus = np.array([[-np.inf], [1], [-np.inf]], np.float32)
    (hits,) = vectors.search(np.ones((1, 1), np.float32), corpus, 3, "dot")
    assert [hit.index for hit in hits] == [1, 0, 2]


def test_items_of_a_stream_are_kept_while_they_are_hits() -> None:
    rows = drawn(3_000, seed=1)
    nearest = vectors.Nearest(drawn(2), 3)
    kept = vectors.search_stream(((f"text {i}", row) for i, row in enumerate(rows)), nearest)
    hits = nearest.hits()
    assert hits == vectors.search(drawn(2), rows, 3)
    assert kept == {hit.index: f"text {hit.index}" for own in hits for hit in own}


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
    ranges = vectors.ranges_of(rows)
    if (ranges[0] == ranges[1]).all():
        return
    stored = vectors.to_int8(rows, ranges)
    assert stored.dtype == np.int8
    low, high = ranges.astype(np.float64)
    step = (high - low) / 255
    back = low + (stored.astype(np.float64) + 128) * step
    assert (np.abs(back - rows) <= step / 2 + 1e-5).all()


def test_int8_uses_all_its_values() -> None:
    rows = drawn(50)
    stored = vectors.to_int8(rows, vectors.ranges_of(rows))
    assert (stored.min(axis=0) == -128).all()
    assert (stored.max(axis=0) == 127).all()


def test_ranges_of_a_stream_are_those_of_all(tmp_path: Path) -> None:
    rows = drawn(50)
    seen = vectors.RunningRanges(5)
    for row in rows:
        seen.add(row)
    np.testing.assert_array_equal(seen.ranges, vectors.ranges_of(rows))
    seen.save(tmp_path / "r.json")
    np.testing.assert_array_equal(vectors.read_ranges(tmp_path / "r.json"), seen.ranges)


@pytest.mark.parametrize("rows", [drawn(1), drawn(0), np.full((4, 5), np.nan, np.float32)])
def test_ranges_that_tell_nothing_are_refused(rows: np.ndarray, tmp_path: Path) -> None:
    ranges = vectors.ranges_of(rows)
    with pytest.raises(EncodaxError, match=r"the ranges .* make them from a corpus"):
        vectors.to_int8(drawn(3), ranges)
    seen = vectors.RunningRanges(5)
    for row in rows:
        seen.add(row)
    with pytest.raises(EncodaxError, match="from none, and are empty"):
        seen.save(tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_ranges_of_other_vectors_are_refused() -> None:
    ranges = vectors.ranges_of(drawn(9, width=6))
    with pytest.raises(EncodaxError, match=r"of 6 numbers, and these have 5: .* another model"):
        vectors.to_int8(drawn(3), ranges)


@pytest.mark.parametrize(
    "content",
    ["{}", '{"low": [1], "high": [2, 3]}', '{"low": 1, "high": 2}', '{"low": ["x"], "high": [2]}'],
)
def test_what_is_no_file_of_ranges_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(EncodaxError, match=r"r.json is not a file of ranges, .*--save-ranges FILE"):
        vectors.read_ranges(tmp_path / "r.json")
    with pytest.raises(EncodaxError, match=r"no.json does not exist; .*--save-ranges FILE"):
        vectors.read_ranges(tmp_path / "no.json")


def test_int8_of_one_text_at_a_time_finds_what_all_at_once_find() -> None:
    """Of clusters, whose neighbours are near; recall of the ten nearest by float32."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((60, 64))
    corpus = centres.repeat(50, axis=0) + 0.7 * random.standard_normal((3_000, 64))
    queries = centres + 0.7 * random.standard_normal((60, 64))
    corpus, queries = (vectors.unit(rows.astype(np.float32)) for rows in (corpus, queries))
    ranges = vectors.ranges_of(corpus)
    stored = vectors.to_int8(corpus, ranges)
    alone = np.concatenate([vectors.to_int8(row[None], ranges) for row in queries])
    np.testing.assert_array_equal(alone, vectors.to_int8(queries, ranges))

    def found(hits: list[list[Hit]]) -> list[set[int]]:
        return [{hit.index for hit in own} for own in hits]

    wanted = found(vectors.search(queries, corpus, 10))
    of_int8 = found(vectors.search(alone, stored, 10))
    recall = np.mean([len(a & b) / 10 for a, b in zip(wanted, of_int8, strict=True)])
    assert recall > 0.8


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


@pytest.mark.parametrize("kind", vectors.TYPES)
def test_no_vector_takes_no_byte(kind: str) -> None:
    stored = vectors.converter(
        kind, vectors.ranges_of(drawn(9, width=8)) if kind == "int8" else None
    )
    assert stored(np.zeros((0, 8), np.float32)).nbytes == 0


def test_only_int8_has_ranges_and_it_wants_them() -> None:
    with pytest.raises(EncodaxError, match=r"int8 needs the ranges of a corpus.*--ranges FILE"):
        vectors.converter("int8")
    with pytest.raises(EncodaxError, match="ranges are for int8, not for binary"):
        vectors.converter("binary", vectors.ranges_of(drawn(9)))
    with pytest.raises(EncodaxError, match="'int4' is not one of: float32, int8, binary"):
        vectors.converter("int4")
