"""Poolings: one vector from the tokens of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.nn import functional
from encodax.types.batches import PackedBatch


def cls(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the first token of each sequence, `[CLS]` in BERT (Devlin et al. 2019, section 3)."""
    return functional.at_tokens(hidden, batch.starts)  # (B, N, D)


def mean_sqrt_length(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the sum over the tokens of each sequence, divided by the root of their number."""
    root = jnp.sqrt(jnp.maximum(batch.lengths, 1))[:, :, None]
    return (mean(hidden, batch) * root).astype(hidden.dtype)


def mean(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the mean over the tokens of each sequence (Reimers & Gurevych 2019, section 3)."""
    total = jnp.einsum("bnt,btd->bnd", membership(batch), hidden.astype(jnp.float32))
    return (total / jnp.maximum(batch.lengths, 1)[:, :, None]).astype(hidden.dtype)


def weighted_mean(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the mean weighted 1, 2, 3, ... by position (Muennighoff 2022, arXiv:2202.08904)."""
    weights = (jnp.asarray(batch.position_ids) + 1).astype(jnp.float32)[:, None]  # (B, 1, T)
    weights = weights * membership(batch)  # (B, N, T)
    total = jnp.einsum("bnt,btd->bnd", weights, hidden.astype(jnp.float32))
    weight = jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1)  # (B, N, 1)
    return (total / weight).astype(hidden.dtype)


def max_pool(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the largest value of each feature over the tokens of each sequence."""
    rows, slots = batch.starts.shape
    # Padding goes to an extra slot, which is cut off at the end.
    slot = jnp.where(jnp.asarray(batch.segment_ids) > 0, jnp.asarray(batch.segment_ids) - 1, slots)
    kept = jnp.full((rows, slots + 1, hidden.shape[-1]), -jnp.inf, hidden.dtype)
    row = jnp.arange(rows)[:, None]
    return kept.at[row, slot].max(hidden)[:, :slots]  # (B, N, D)


def last(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """Return the last token of each sequence."""
    ends = jnp.maximum(jnp.asarray(batch.starts) + jnp.asarray(batch.lengths) - 1, 0)  # (B, N)
    return functional.at_tokens(hidden, ends)


def membership(batch: PackedBatch) -> Float[Array, "B N T"]:
    """Return 1 where a token belongs to a slot's sequence, else 0."""
    slots = batch.starts.shape[1]
    return jax.nn.one_hot(jnp.asarray(batch.segment_ids) - 1, slots, axis=1)


POOLINGS: dict[str, Callable[[Array, PackedBatch], Array]] = {
    "cls": cls,
    "mean": mean,
    "max": max_pool,
    "weighted_mean": weighted_mean,
    "mean_sqrt_length": mean_sqrt_length,
    "last": last,
}
"""Poolings by name."""


def pool(
    hidden: Float[Array, "B T D"],
    batch: PackedBatch,
    pooling: str | tuple[str, ...],
    *,
    skipped: int = 0,
) -> Float[Array, "B N E"]:
    """Return one vector for each slot, zeros for an empty one; E is D times the poolings joined.

    Args:
        hidden: (B, T, D), output of the encoder.
        batch: input of the encoder.
        pooling: a name in `POOLINGS`, or several, whose vectors are concatenated in that order.
        skipped: leading tokens of each sequence that are left out.

    Raises:
        ValueError: an unknown pooling.
    """
    if skipped:
        batch = without_leading(batch, skipped)
    vectors = []
    for name in (pooling,) if isinstance(pooling, str) else pooling:
        if name not in POOLINGS:
            raise ValueError(f"pooling {name!r} is not one of: {', '.join(POOLINGS)}")
        pooled = POOLINGS[name](hidden, batch)
        vectors.append(jnp.where(jnp.asarray(batch.lengths)[:, :, None] > 0, pooled, 0))
    return vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors, axis=-1)


def without_leading(batch: PackedBatch, count: int) -> PackedBatch:
    """Return the batch for pooling without the first `count` tokens of each sequence.

    The others keep their positions, which are the weights of `weighted_mean`.
    """
    kept = jnp.asarray(batch.position_ids) >= count  # (B, T)
    return replace(
        batch,
        segment_ids=jnp.where(kept, jnp.asarray(batch.segment_ids), 0),
        starts=jnp.asarray(batch.starts) + jnp.minimum(count, jnp.asarray(batch.lengths)),
        lengths=jnp.maximum(jnp.asarray(batch.lengths) - count, 0),
    )
