"""Which tokens are hidden, and what is put in their places."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import packed
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.masking import Masked, mask, most_masked
from encodax.types.batches import PackedBatch

MASK = 4
ORDINARY = np.arange(5, 60, dtype=np.int32)


def rows_of(words: list[list[list[int]]], tokens: int) -> tuple[PackedBatch, np.ndarray]:
    """Rows of sequences of these word numbers, all their tokens different, and the numbers."""
    sequences, numbers, rows = [], np.zeros((len(words), tokens), np.int32), []
    for b, row in enumerate(words):
        rows.append(list(range(len(sequences), len(sequences) + len(row))))
        sequences += [[100 + 64 * b + len(own) + t for t in range(len(own))] for own in row]
        flat = [number for own in row for number in own]
        numbers[b, : len(flat)] = flat
    return packed(sequences, rows, tokens=tokens, slots=4), numbers


def masked(words: list[list[list[int]]], *, tokens: int = 32, **changes: object) -> Masked:
    batch, numbers = rows_of(words, tokens)
    options = {"rate": 0.15, "mask_id": MASK, "ordinary": ORDINARY, **changes}
    return mask(batch, numbers, np.random.default_rng(options.pop("seed", 0)), **options)


def sequence(words: list[int]) -> list[int]:
    """Word numbers of a sequence with words of these lengths, special tokens around."""
    return [0, *(n for n, length in enumerate(words, 1) for _ in range(length)), 0]


ROWS = st.lists(
    st.lists(st.lists(st.integers(1, 3), max_size=4), max_size=2).map(
        lambda row: [sequence(words) for words in row]
    ),
    min_size=1,
    max_size=3,
)


@given(ROWS, st.floats(0.01, 0.9), st.booleans(), st.integers(0, 99))
def test_chosen_tokens_are_some_that_may_be(
    words: list[list[list[int]]], rate: float, whole_words: bool, seed: int
) -> None:
    batch, numbers = rows_of(words, 32)
    found = masked(words, rate=rate, whole_words=whole_words, seed=seed)
    assert found.tokens.shape == (len(words), most_masked(rate, 32))
    for b in range(len(words)):
        is_real = found.weights[b] > 0
        chosen = found.tokens[b, is_real]
        assert len(set(chosen.tolist())) == len(chosen)
        assert (numbers[b, chosen] > 0).all()
        np.testing.assert_array_equal(found.labels[b, is_real], batch.token_ids[b, chosen])
        assert not found.tokens[b, ~is_real].any()
        assert not found.labels[b, ~is_real].any()
        others = np.setdiff1d(np.arange(32), chosen)
        np.testing.assert_array_equal(found.batch.token_ids[b, others], batch.token_ids[b, others])
        candidates = np.count_nonzero(numbers[b])
        wanted = max(1, round(rate * candidates)) if candidates else 0
        if not whole_words:
            assert len(chosen) == wanted
        else:
            assert bool(len(chosen)) == bool(wanted)
            _assert_whole(numbers[b], np.asarray(batch.segment_ids)[b], chosen, most=len(is_real))


def _assert_whole(words: np.ndarray, segments: np.ndarray, chosen: np.ndarray, most: int) -> None:
    """All of a word or none, but for one word alone that has no room."""
    own = {(segments[t], words[t]) for t in chosen.tolist()}
    sizes = [np.count_nonzero((segments == s) & (words == w)) for s, w in own]
    assert sum(sizes) == len(chosen) or (len(own) == 1 and len(chosen) == most)


def test_whole_words_reach_the_count() -> None:
    words = [[sequence([2] * 12)]]
    for seed in range(20):
        found = masked(words, rate=0.2, whole_words=True, seed=seed)
        assert found.weights.sum() == 6  # of 24 tokens 5 are wanted, and words have 2


def test_words_of_sequences_in_one_row_are_told_apart() -> None:
    words = [[[1, 1], [1, 1]]]  # the same number, side by side
    sizes = {masked(words, rate=0.4, whole_words=True, seed=s).weights.sum() for s in range(9)}
    assert sizes == {2.0}


def test_a_token_of_few_is_chosen_and_none_of_none() -> None:
    found = masked([[sequence([1])], [[0, 0]], []], rate=0.01)
    assert found.weights.sum(axis=1).tolist() == [1, 0, 0]


def test_of_the_chosen_eight_in_ten_are_hidden_one_is_replaced_and_one_stays() -> None:
    words = [[sequence([1] * 1000)] for _ in range(40)]
    found = masked(words, tokens=1024, rate=0.5)
    chosen = np.take_along_axis(found.batch.token_ids, found.tokens, axis=1)[found.weights > 0]
    labels = found.labels[found.weights > 0]
    count = len(chosen)
    assert count == 40 * 500
    # Within 5 standard deviations of a binomial share.
    for share, is_so in (
        (0.8, chosen == MASK),
        (0.1, chosen == labels),
        (0.1, np.isin(chosen, ORDINARY)),
    ):
        assert abs(is_so.mean() - share) < 5 * np.sqrt(share * (1 - share) / count)
    assert (np.isin(chosen, ORDINARY) | (chosen == MASK) | (chosen == labels)).all()
    assert len(np.unique(chosen[np.isin(chosen, ORDINARY)])) == len(ORDINARY)


def test_all_tokens_are_chosen_alike() -> None:
    words = [[sequence([1] * 20)] for _ in range(2000)]
    found = masked(words, rate=0.25)
    counts = np.bincount(found.tokens[found.weights > 0], minlength=32)[1:21]
    assert counts.sum() == 2000 * 5
    assert np.all(np.abs(counts - 500) < 5 * np.sqrt(500 * 0.75))


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_seed_settles_all(whole_words: bool) -> None:
    words = [[sequence([2, 1, 3, 1])]] * 3
    first, second, other = (
        masked(words, rate=0.4, whole_words=whole_words, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.batch.token_ids, second.batch.token_ids)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert not np.array_equal(first.tokens, other.tokens)
