"""From the tokens of a sequence to one vector."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.types import PackedBatch


def cls(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """The first token of each sequence, `[CLS]` in BERT (Devlin et al. 2019, section 3)."""
    return jnp.take_along_axis(hidden, jnp.asarray(batch.starts)[:, :, None], axis=1)  # (B, N, D)


def mean(hidden: Float[Array, "B T D"], batch: PackedBatch) -> Float[Array, "B N D"]:
    """The mean over the tokens of each sequence (Reimers & Gurevych 2019, section 3)."""
    slots = batch.starts.shape[1]
    member = jax.nn.one_hot(jnp.asarray(batch.segment_ids) - 1, slots, axis=1)  # (B, N, T)
    total = jnp.einsum("bnt,btd->bnd", member, hidden.astype(jnp.float32))
    return (total / jnp.maximum(batch.lengths, 1)[:, :, None]).astype(hidden.dtype)


POOLINGS: dict[str, Callable[[Array, PackedBatch], Array]] = {"cls": cls, "mean": mean}
"""Poolings by name."""


def pool(hidden: Float[Array, "B T D"], batch: PackedBatch, pooling: str) -> Float[Array, "B N D"]:
    """One vector for each slot, zeros for an empty one; `pooling` is a name in `POOLINGS`.

    Raises:
        ValueError: the pooling is not known.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling {pooling!r} is not one of: {', '.join(POOLINGS)}")
    pooled = POOLINGS[pooling](hidden, batch)
    return jnp.where(jnp.asarray(batch.lengths)[:, :, None] > 0, pooled, 0)
