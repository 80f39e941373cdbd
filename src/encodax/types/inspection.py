"""Inspection of one text: the arrays that the explorer shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Token:
    """Token, as text and as an entry of the vocabulary."""

    text: str
    """Part of the text that the token stands for; the name of a special token."""
    entry: str
    """Entry of the vocabulary."""
    token_id: int


@dataclass(frozen=True)
class TopWeights:
    """The k largest attention weights of each row, in descending order."""

    keys: Int[np.ndarray, "L M T k"]
    weights: Float[np.ndarray, "L M T k"]


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of one stack, of every layer and head.

    Cell (t, s) is the weight that query t gives to key s. For a long text, a cell stands for a
    block of b x b tokens: the weight that one of its queries, on average, gives to all of its
    keys, so that a row still adds up to 1.
    """

    name: str
    """Name of this attention: the queries and the keys it joins."""
    queries: tuple[Token, ...]
    """T tokens of the queries."""
    keys: tuple[Token, ...]
    """S tokens of the keys."""
    views: tuple[str, ...]
    """Names of the M maps of a layer: its heads, their mean and, where there is one, rollout."""
    cells: Float[np.ndarray, "L M rows columns"]
    """Weights in T x S cells, or in T / b x S / b, rounded up."""
    block: int = 1
    """b, tokens on each side of a cell."""
    strongest: TopWeights | None = None
    """Largest exact weights, where cells are blocks; None where cells are exact."""


@dataclass(frozen=True)
class Attribution:
    """Contribution of each token of the text to one score of the model."""

    target: str
    """Name of the score's class or token."""
    score: float
    """Score of the model, before softmax."""
    baseline: float
    """Score of the text with every token hidden."""
    shares: Float[np.ndarray, " T"]
    """Contribution of each token; they add up to `score - baseline`, except for the error of
    integration."""


@dataclass(frozen=True)
class MaskGuesses:
    """Tokens predicted for a mask, were the model to end after each layer."""

    place: int
    """Index of the mask among the tokens of the text."""
    layers: tuple[tuple[tuple[str, float], ...], ...]
    """L + 1 lists, the embeddings first: the likeliest tokens as text, with their probabilities."""


@dataclass(frozen=True)
class Norms:
    """|h|, the norm of every token's state after the embeddings and after each layer."""

    name: str
    tokens: tuple[Token, ...]
    values: Float[np.ndarray, "states T"]
    """L + 1 norms of each token."""


@dataclass(frozen=True)
class Inspection:
    """Everything that the explorer shows of one text."""

    tokens: tuple[Token, ...]
    """Tokens of the text, or of both; of a translation, the source."""
    answer: tuple[tuple[str, str], ...]
    """Answer of the model: names and values."""
    attention: tuple[AttentionMaps, ...]
    norms: tuple[Norms, ...]
    attributions: tuple[Attribution, ...] = ()
    masks: tuple[MaskGuesses, ...] = ()
