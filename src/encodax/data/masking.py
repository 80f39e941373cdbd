"""Masking of tokens: inputs and targets of masked language modelling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from encodax.types.batches import PackedBatch

MASKED_SHARE = 0.8
"""Share of the chosen tokens that become the mask token."""
REPLACED_SHARE = 0.1
"""Share of the chosen tokens that become a random one; the others stay as they are."""


@dataclass(frozen=True)
class Masked:
    """Batch with masked tokens, and its labels; M places in each row, some of them empty."""

    batch: PackedBatch
    tokens: Int[np.ndarray, "B M"]
    """Row indices of the chosen tokens; 0 at an empty place."""
    labels: Int[np.ndarray, "B M"]
    """Original tokens at these places; 0 at an empty place."""
    weights: Float[np.ndarray, "B M"]
    """Weight of each place: 1, or 0 at an empty place."""


def most_masked(rate: float, row_tokens: int) -> int:
    """Return M, places of a row: never less than max(1, round(rate * c)) of c <= T tokens."""
    return math.ceil(rate * row_tokens)


def mask(
    batch: PackedBatch,
    words: Int[np.ndarray, "B T"],
    random: np.random.Generator,
    *,
    rate: float,
    mask_id: int,
    ordinary: Int[np.ndarray, " ordinary"],
    whole_words: bool = False,
) -> Masked:
    """Choose tokens of each row at random, and mask them (Devlin et al. 2019, appendix A.1).

    Of a row with c tokens that may be chosen, round(rate * c) are chosen, and at least one where c
    is not 0. Of the chosen tokens 80 % become the mask token, 10 % a random one, and 10 % stay.

    With whole words, words are chosen until there are that many tokens. The last word may bring
    more, up to M; where it would exceed M it is left out.

    Args:
        batch: NumPy batch to mask.
        words: (B, T), 0 where a token may not be chosen, else the number of its word in its
            sequence; the tokens of a word are adjacent.
        random: generator of all random choices.
        rate: share of the tokens that are chosen.
        mask_id: id of the mask token.
        ordinary: ids that a random token is drawn from: all that are not special.
        whole_words: choose all tokens of a word or none.
    """
    most = most_masked(rate, words.shape[1])
    tokens, is_chosen = _chosen(batch, words, random, rate, most, whole_words)  # (B, M)
    token_ids = np.asarray(batch.token_ids)
    rows, places = np.nonzero(is_chosen)
    columns = tokens[rows, places]
    labels = np.zeros_like(tokens)
    labels[rows, places] = token_ids[rows, columns]

    fate = random.random(len(rows))
    shown = np.where(fate < MASKED_SHARE, mask_id, labels[rows, places])
    is_replaced = (fate >= MASKED_SHARE) & (fate < MASKED_SHARE + REPLACED_SHARE)
    shown[is_replaced] = random.choice(ordinary, np.count_nonzero(is_replaced))
    hidden = token_ids.copy()
    hidden[rows, columns] = shown
    return Masked(
        batch=replace(batch, token_ids=hidden),
        tokens=np.where(is_chosen, tokens, 0),
        labels=labels,
        weights=is_chosen.astype(np.float32),
    )


def _chosen(
    batch: PackedBatch,
    words: np.ndarray,
    random: np.random.Generator,
    rate: float,
    most: int,
    whole_words: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return row indices (B, M) of tokens in random order, and True for those that are chosen."""
    places = np.broadcast_to(np.arange(words.shape[1]), words.shape)  # (B, T)
    first = _first_of_word(batch, words) if whole_words else places  # (B, T)
    size = np.take_along_axis(_counts(first), first, axis=1)  # of the token's word
    may_be = words > 0
    count = may_be.sum(axis=1, keepdims=True)  # (B, 1)
    wanted = np.maximum(1, np.rint(rate * count))
    order = np.take_along_axis(random.random(words.shape), first, axis=1)
    # Tokens that may not be chosen come last. Tokens of a word stay together: the sort is stable.
    tokens = np.argsort(np.where(may_be, order, 2.0), axis=1, kind="stable")  # (B, T)
    first, size = (np.take_along_axis(array, tokens, axis=1) for array in (first, size))
    begin = np.maximum.accumulate(np.where(_differs(first), places, 0), axis=1)  # of the word
    # The first word is chosen even where it does not fit: as many of its tokens as fit.
    fits = (begin + size <= most) | (begin == 0)
    is_chosen = (places < count) & (begin < wanted) & fits  # (B, T)
    return tokens[:, :most].astype(np.int32), is_chosen[:, :most]


def _first_of_word(batch: PackedBatch, words: np.ndarray) -> np.ndarray:
    """Return for each token the row index of the first token of its word, (B, T)."""
    begins = _differs(words) | _differs(np.asarray(batch.segment_ids))
    first: np.ndarray = np.maximum.accumulate(begins * np.arange(words.shape[1]), axis=1)
    return first


def _differs(array: np.ndarray) -> np.ndarray:
    """Return True where an entry of (B, T) differs from the one before, and at a row's first."""
    differs: np.ndarray = np.diff(array, axis=1, prepend=-1) != 0
    return differs


def _counts(indices: np.ndarray) -> np.ndarray:
    """Return how often each index occurs in its row, (B, T)."""
    rows, width = indices.shape
    flat = indices + np.arange(rows)[:, None] * width
    return np.bincount(flat.ravel(), minlength=rows * width).reshape(rows, width)
