"""What a model did with one text: the arrays that the explorer shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Token:
    """A token, as a reader knows it and as the model does."""

    text: str
    """The piece of the text that it stands for; of a special token, its name."""
    entry: str
    """The entry of the vocabulary."""
    token_id: int


@dataclass(frozen=True)
class Strongest:
    """Of each row of attention weights, the k largest, in order."""

    keys: Int[np.ndarray, "L M T k"]
    weights: Float[np.ndarray, "L M T k"]


@dataclass(frozen=True)
class AttentionMaps:
    """The weights of one stack's attention, of every layer and head.

    A cell (t, s) is how much query t looks at key s. Where a text is long, a cell stands for a
    block of b tokens either way: the weight that one of its queries, on the average, gives to all
    of its keys, so that a row still adds up to 1.
    """

    name: str
    """What attends to what."""
    queries: tuple[Token, ...]
    """T tokens that look."""
    keys: tuple[Token, ...]
    """S tokens that are looked at."""
    views: tuple[str, ...]
    """Names of the M maps of a layer: its heads, their mean, and where there is one the rollout."""
    cells: Float[np.ndarray, "L M rows columns"]
    """T x S of them, or T / b x S / b, rounded up."""
    block: int = 1
    """b, tokens a cell stands for."""
    strongest: Strongest | None = None
    """The exact weights that matter most, where cells are blocks; None where they are exact."""


@dataclass(frozen=True)
class Attribution:
    """How much each token of the text has to do with one score of the model."""

    target: str
    """Whose score it is."""
    score: float
    """What the model gives, before softmax."""
    baseline: float
    """The same for the text with every token hidden."""
    shares: Float[np.ndarray, " T"]
    """Of each token; they add up to `score - baseline`, but for the error of integration."""


@dataclass(frozen=True)
class MaskGuesses:
    """What a mask would be filled with, were the model to end after each layer."""

    place: int
    """Which token of the text the mask is."""
    layers: tuple[tuple[tuple[str, float], ...], ...]
    """L + 1 lists, the embeddings first: the likeliest tokens, as a reader knows them, with their
    probabilities."""


@dataclass(frozen=True)
class Norms:
    """|h|, the length of the state of every token after the embeddings and each layer."""

    name: str
    tokens: tuple[Token, ...]
    values: Float[np.ndarray, "states T"]
    """L + 1 states of each token."""


@dataclass(frozen=True)
class Inspection:
    """All that the explorer shows of one text."""

    tokens: tuple[Token, ...]
    """Of the text, or of both; of a translation, the source."""
    answer: tuple[tuple[str, str], ...]
    """What the model says of it: names and values."""
    attention: tuple[AttentionMaps, ...]
    norms: tuple[Norms, ...]
    attributions: tuple[Attribution, ...] = ()
    masks: tuple[MaskGuesses, ...] = ()
