"""Relative positions in attention scores: a bias by distance, and disentangled terms.

Sequences are contiguous in a packed row, so a difference of row indices is a difference of
positions: one table of distances serves every row and every sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from encodax.config import DisentangledConfig, RelativeBiasConfig
from encodax.nn.layer_norm import norm_of


def bias_buckets(distance: Int[np.ndarray, "T S"], config: RelativeBiasConfig) -> np.ndarray:
    """Return the bucket of each distance (key minus query): Raffel et al. 2020, section 2.1.

    Half of the buckets are for later keys; with `one_way`, later keys share bucket 0. Of the
    buckets of a direction, the first half hold one distance each, and the rest hold ranges of
    distances that grow by a constant factor.
    """
    half = config.buckets if config.one_way else config.buckets // 2
    exact = half // 2
    far = np.maximum(-distance, 0) if config.one_way else np.abs(distance)
    ratio = np.maximum(far, 1).astype(np.float32) / np.float32(exact)
    growth = np.log(ratio) / np.float32(math.log(config.max_distance / exact))
    shared = np.minimum(exact + (growth * np.float32(half - exact)).astype(np.int64), half - 1)
    later = 0 if config.one_way else half * (distance > 0)
    return np.asarray(np.where(far < exact, far, shared) + later)


def disentangled_buckets(
    distance: Int[np.ndarray, "T S"], config: DisentangledConfig
) -> Int[np.ndarray, "T S"]:
    """Return the table row of each distance (query minus key): He et al. 2021, section 3.1.

    Distances are clipped to the span. With buckets (DeBERTa v2), distances up to half the number
    of buckets are kept, and larger ones share buckets that grow by a constant factor.
    """
    if config.buckets is not None:
        middle = config.buckets // 2
        far = np.maximum(np.abs(distance), middle).astype(np.float32)
        steps = np.log(far / np.float32(middle))
        steps /= np.log(np.float32((config.max_distance - 1) / middle))
        shared = np.ceil(steps * np.float32(middle - 1)).astype(np.int64) + middle
        distance = np.where(np.abs(distance) <= middle, distance, shared * np.sign(distance))
    return np.asarray(np.clip(distance + config.span, 0, 2 * config.span - 1))


def _distances(tokens: int) -> Int[np.ndarray, "T T"]:
    index = np.arange(tokens)
    return index[:, None] - index[None]


class RelativeBias(hk.Module):
    """Learned bias of each head for each bucket of distances, added to the scores.

    Raffel et al. 2020, arXiv:1910.10683, section 2.1; all layers of a stack share it. Parameters:
    `w` (buckets, H).
    """

    def __init__(self, config: RelativeBiasConfig, heads: int, name: str = "relative_bias"):
        super().__init__(name=name)
        self.config = config
        self.heads = heads

    def __call__(self, tokens: int) -> Float[Array, "1 H T T"]:
        """Return the bias of rows of `tokens` tokens."""
        bias = self._of_distances(tokens)[_distances(tokens) + tokens - 1]  # (T, T, H)
        return jnp.transpose(bias, (2, 0, 1))[None]

    @hk.name_like("__call__")
    def of_query(self, place: Int[Array, ""], tokens: int) -> Float[Array, "1 H 1 T"]:
        """Return the bias of the single query at `place`."""
        bias = self._of_distances(tokens)[place - jnp.arange(tokens) + tokens - 1]  # (T, H)
        return bias.T[None, :, None]

    @hk.name_like("__call__")
    def _of_distances(self, tokens: int) -> Float[Array, "distances H"]:
        """Return the bias of every possible distance (query minus key), from 1 - T to T - 1."""
        normal = hk.initializers.RandomNormal(0.02)
        table = hk.get_parameter("w", (self.config.buckets, self.heads), jnp.float32, normal)
        distances = np.arange(1 - tokens, tokens)
        return table[bias_buckets(-distances[:, None], self.config)[:, 0]]


@dataclass(frozen=True)
class RelativeTable:
    """Embeddings of relative positions, shared by all layers."""

    config: DisentangledConfig
    rows: Float[Array, "R D"]


class RelativeEmbeddings(hk.Module):
    """Table of disentangled attention, with its norm. Parameters: `w` (R, D), `norm/...`."""

    def __init__(self, config: DisentangledConfig, width: int, name: str = "relative_embeddings"):
        super().__init__(name=name)
        self.config = config
        self.width = width

    def __call__(self) -> RelativeTable:
        """Return the table: R = 2 span rows of width D."""
        normal = hk.initializers.RandomNormal(0.02)
        rows = hk.get_parameter("w", (2 * self.config.span, self.width), jnp.float32, normal)
        if self.config.norm is not None:
            rows = norm_of(self.config.norm, "norm")(rows)
        return RelativeTable(self.config, rows)


def disentangled_scale(head_width: int, config: DisentangledConfig) -> float:
    """Return 1 / sqrt(K * terms): each term is a product of width K (He et al. 2021, eq. 4)."""
    return 1 / math.sqrt(head_width * (1 + config.content_to_position + config.position_to_content))


def disentangled_bias(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    position_q: Float[Array, "R H K"] | None,
    position_k: Float[Array, "R H K"] | None,
    config: DisentangledConfig,
) -> Float[Array, "B H T T"]:
    """Return content-to-position terms q_i pk_{d(i,j)} plus position-to-content k_j pq_{d(i,j)}.

    Not scaled. He et al. 2021, equation 4. Position vectors are given for terms of the config.
    """
    buckets = disentangled_buckets(_distances(q.shape[1]), config)  # (T, T)
    bias = jnp.zeros((), jnp.float32)
    if position_k is not None:
        to_position = jnp.einsum("bthk,rhk->bhtr", q, position_k)  # (B, H, T, R)
        bias += jnp.take_along_axis(to_position, buckets[None, None], axis=-1)
    if position_q is not None:
        from_position = jnp.einsum("bshk,rhk->bhsr", k, position_q)  # (B, H, S, R)
        of_key = jnp.take_along_axis(from_position, buckets.T[None, None], axis=-1)
        bias += jnp.swapaxes(of_key, -1, -2)
    return bias
