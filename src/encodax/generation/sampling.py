"""Sampling: temperature, and restrictions to the more probable tokens.

The restrictions are applied in the order of transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from encodax.errors import EncodaxError
from encodax.generation.logits import FLOAT32
from encodax.nn.kernels.numerics import MASK_VALUE

MOST_OF_TOP_H = 100
"""Number of the most probable tokens that `top_h` considers."""


def check_count(name: str, count: Any) -> None:
    """Check that a value is a positive integer.

    Raises:
        EncodaxError: it is not an integer, or is below 1.
    """
    if not isinstance(count, Integral):
        raise EncodaxError(f"{name} = {count!r} is not a whole number")
    if count < 1:
        raise EncodaxError(f"{name} = {count} is below 1")


@dataclass(frozen=True)
class Sampling:
    """Settings for sampling a token (Holtzman et al. 2020, arXiv:1904.09751, section 3)."""

    temperature: float = 1.0
    """Divisor of the scores; towards 0, only the most probable token is left."""
    top_k: int | None = None
    """Number of the most probable tokens to sample from."""
    top_p: float = 1.0
    """Sample from the fewest, most probable tokens whose probabilities sum to at least this."""
    min_p: float | None = None
    """Sample from tokens with at least this fraction of the largest probability."""
    typical_p: float = 1.0
    """Sample from the tokens whose information is nearest to the entropy, and whose probabilities
    sum to at least this (Meister et al. 2023, arXiv:2202.00666)."""
    epsilon_cutoff: float = 0.0
    """Sample from tokens of at least this probability (Hewitt et al. 2022, arXiv:2210.15191)."""
    eta_cutoff: float = 0.0
    """Minimum probability like `epsilon_cutoff`, but lower where the entropy is high."""
    top_h: float | None = None
    """Sample from the most probable tokens whose share of the entropy is at most this."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise EncodaxError(f"temperature = {self.temperature} is not above 0 and finite")
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        for name in ("top_p", "typical_p", "top_h"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise EncodaxError(f"{name} = {value} is not in 0..1")
        for name in ("min_p", "epsilon_cutoff", "eta_cutoff"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise EncodaxError(f"{name} = {value} is not in 0..1")


def apply_filters(scores: Float[Array, "B V"], sampling: Sampling) -> Float[Array, "B V"]:
    """Return the scores divided by the temperature, with `MASK_VALUE` for excluded tokens.

    The score of the most probable token becomes 0, so that some token is left at any temperature.
    """
    best = jnp.max(scores, axis=-1, keepdims=True)
    temperature = np.clip(sampling.temperature, FLOAT32.tiny, FLOAT32.max).item()
    scores = jnp.where(scores > MASK_VALUE / 2, (scores - best) / temperature, MASK_VALUE)
    if sampling.top_h is not None:
        scores = _kept(scores, _within_entropy(scores, sampling.top_h))
    if sampling.top_k is not None:
        smallest = jax.lax.top_k(scores, min(sampling.top_k, scores.shape[-1]))[0][:, -1:]
        scores = _kept(scores, scores >= smallest)
    if sampling.top_p < 1:
        ordered = jnp.sort(scores, axis=-1, descending=True)
        chances = jax.nn.softmax(ordered)
        before = jnp.cumsum(chances, axis=-1) - chances
        share = max(sampling.top_p, FLOAT32.tiny.item())
        smallest = jnp.min(jnp.where(before < share, ordered, jnp.inf), -1, keepdims=True)
        scores = _kept(scores, scores >= smallest)
    if sampling.min_p is not None:
        chances = jax.nn.softmax(scores)
        scores = _kept(scores, chances >= sampling.min_p * jnp.max(chances, -1, keepdims=True))
    if sampling.typical_p < 1:
        # The token nearest to the entropy always stays, even if it is not the most probable.
        scores = jnp.where(_is_typical(scores, sampling.typical_p), scores, MASK_VALUE)
    if 0 < sampling.epsilon_cutoff < 1:
        scores = _kept(scores, jax.nn.softmax(scores) >= sampling.epsilon_cutoff)
    if 0 < (epsilon := sampling.eta_cutoff) < 1:
        lower = math.sqrt(epsilon) * jnp.exp(-_entropy(scores))
        scores = _kept(scores, jax.nn.softmax(scores) >= jnp.minimum(epsilon, lower))
    return scores


def _kept(scores: Float[Array, "B V"], keep: Bool[Array, "B V"]) -> Float[Array, "B V"]:
    """Return the scores with all but these tokens and the most probable one masked."""
    keep |= scores >= jnp.max(scores, axis=-1, keepdims=True)
    return jnp.where(keep, scores, MASK_VALUE)


def _entropy(scores: Float[Array, "B V"]) -> Float[Array, "B 1"]:
    logs = jax.nn.log_softmax(scores)
    chances = jnp.exp(logs)
    return -jnp.sum(jnp.where(chances > 0, chances * logs, 0.0), axis=-1, keepdims=True)


def _is_typical(scores: Float[Array, "B V"], mass: float) -> Bool[Array, "B V"]:
    """Return a mask of the tokens nearest to the entropy, whose probabilities sum to `mass`."""
    logs = jax.nn.log_softmax(scores)
    away = jnp.abs(-logs - _entropy(scores))
    order = jnp.argsort(away, axis=-1)
    reached = jnp.cumsum(jnp.take_along_axis(jnp.exp(logs), order, -1), axis=-1)
    last = jnp.minimum((reached < mass).sum(-1, keepdims=True), scores.shape[-1] - 1)
    farthest = jnp.take_along_axis(jnp.take_along_axis(away, order, -1), last, -1)
    return away <= farthest


def _within_entropy(scores: Float[Array, "B V"], share: float) -> Bool[Array, "B V"]:
    """Return a mask of the most probable tokens whose share of the entropy is at most `share`."""
    top, ids = jax.lax.top_k(scores, min(MOST_OF_TOP_H, scores.shape[-1]))
    logs = jax.nn.log_softmax(top)
    terms = -jnp.where(jnp.exp(logs) > 0, jnp.exp(logs) * logs, 0.0)
    within = jnp.cumsum(terms, axis=-1) <= terms.sum(-1, keepdims=True) * share
    rows = jnp.arange(scores.shape[0])[:, None]
    return jnp.zeros(scores.shape, bool).at[rows, ids].set(within)
