"""Attention weights as maps for a page: in full, or in blocks for a long text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CELLS = 6_000_000
"""Maximum number of cells in all maps of a stack: for MiniLM, every weight of 256 tokens."""
STRONGEST = 1_500_000
"""Maximum number of exact weights kept besides blocks, unless `FEWEST` in a row are more."""
FEWEST, MOST = 4, 32
"""Minimum and maximum number of these in a row."""


@dataclass(frozen=True)
class Resolution:
    """Resolution at which weights are kept."""

    block: int
    """b, number of tokens in a cell, in both directions."""
    top_k: int
    """k, number of exact weights in a row; 0 if cells are exact."""

    @classmethod
    def of(cls, maps: int, queries: int, keys: int) -> Resolution:
        """Return the finest resolution at which all maps have at most `CELLS` cells.

        Args:
            maps: L x M, number of maps in all layers.
            queries: T of each map.
            keys: S of each map.
        """
        block = 1
        while maps * math.ceil(queries / block) * math.ceil(keys / block) > CELLS:
            block += 1
        if block == 1:
            return cls(1, 0)
        room = STRONGEST // (maps * queries)
        return cls(block, min(keys, MOST, max(FEWEST, room)))


def view_names(heads: int, *, rolls: bool) -> tuple[str, ...]:
    """Return the names of the maps of a layer."""
    names = [f"head {head + 1}" for head in range(heads)]
    return (*names, "mean of heads", *(("rollout",) if rolls else ()))


def reduce_attention(
    layers: Sequence[Float[Array, "1 H T S"]], *, rolls: bool
) -> tuple[Float[Array, "L M _ _"], Int[Array, "L M T k"], Float[Array, "L M T k"]]:
    """Return the cells of every map, and the strongest keys and weights of every row. To be jitted.

    A layer's weights are freed before the next layer's are computed, so that memory holds those of
    one layer, (H, T, S), not of all.

    Args:
        layers: weights of one row, for each layer.
        rolls: whether to add the rollout.
    """
    cells, keys, weights = [], [], []
    heads, queries = layers[0].shape[1:3]
    views = heads + 1 + rolls
    resolution = Resolution.of(len(layers) * views, queries, layers[0].shape[3])
    rolled = jnp.eye(layers[0].shape[-1]) if rolls else None
    for layer in layers:
        own = layer[0].astype(jnp.float32)
        maps = [own, own.mean(axis=0, keepdims=True)]
        if rolled is not None:
            rolled = rollout(maps[1][0], rolled)
            maps.append(rolled[None])
        every = jnp.concatenate(maps)
        cells.append(blocks(every, resolution.block))
        best, index = jax.lax.top_k(every, resolution.top_k)
        keys.append(index)
        weights.append(best)
    return jnp.stack(cells), jnp.stack(keys), jnp.stack(weights)


def rollout(mean: Float[Array, "T T"], below: Float[Array, "T T"]) -> Float[Array, "T T"]:
    """Return how much each token of this layer comes from each token of the text, by attention.

    R_l = (A_l + I) / 2 @ R_{l-1}, with R_0 = I and A_l the mean of the heads: half of a layer's
    output comes through the residual connection. Abnar & Zuidema 2020, section 3.

    Args:
        mean: A_l, each row sums to 1.
        below: R_{l-1}.
    """
    return (mean + jnp.eye(len(mean))) / 2 @ below


def blocks(maps: Float[Array, "M T S"], size: int) -> Float[Array, "M _ _"]:
    """Return maps with a cell for each block: the weight of its keys, averaged over its queries."""
    if size == 1:
        return maps
    queries, keys = maps.shape[1:]
    spare = ((0, 0), (0, -queries % size), (0, -keys % size))
    padded = jnp.pad(maps, spare)
    rows, columns = padded.shape[1] // size, padded.shape[2] // size
    sums = padded.reshape(len(maps), rows, size, columns, size).sum(axis=(2, 4))
    in_block = jnp.minimum(size, queries - jnp.arange(rows) * size)
    return sums / in_block[None, :, None]
