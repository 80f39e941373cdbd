"""Attention as in the paper: one head of one sequence, mapped over heads and rows.

Read this implementation first; every other one is compared with it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from encodax.nn.kernels import numerics


@dataclass(frozen=True)
class AttentionOptions:
    """Arguments of an attention implementation besides q, k and v; `attention` explains them."""

    query_segments: Int[Array, "B T"]
    key_segments: Int[Array, "B S"]
    scale: float
    causal: bool = False
    window: int | None = None
    bias: Float[Array, "#B H T S"] | None = None
    dropout_keys: Array | None = None
    """(B, H), a key for each row and head."""
    dropout_rate: float = 0.0
    max_segments: int | None = None


def attention_mask(
    query_segments: Int[Array, " T"],
    key_segments: Int[Array, " S"],
    *,
    causal: bool = False,
    window: int | None = None,
    offset: int | Int[Array, ""] = 0,
) -> Bool[Array, "T S"]:
    """Return the mask of one row: True where a query may attend to a key.

    A query attends to a key if and only if their segments are equal and not 0; with `causal`
    only to itself and earlier keys, with `window` only up to that distance. Sequences are
    contiguous, so a difference of row indices is a difference of positions. For a part of a row,
    `offset` is the distance from its first key to its first query.
    """
    mask = (query_segments[:, None] == key_segments[None]) & (key_segments[None] != 0)  # (T, S)
    distance = jnp.arange(query_segments.shape[0])[:, None] - jnp.arange(key_segments.shape[0])
    distance += offset
    if causal:
        mask &= distance >= 0
    if window is not None:
        mask &= jnp.abs(distance) <= window
    return mask


def masks_of_rows(
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    options: AttentionOptions,
    offset: int | Int[Array, ""] = 0,
) -> Bool[Array, "B T S"]:
    """Return `attention_mask` of every row."""
    one_row = functools.partial(
        attention_mask, causal=options.causal, window=options.window, offset=offset
    )
    return jax.vmap(one_row)(query_segments, key_segments)


def masked_softmax(scores: Float[Array, "T S"], mask: Bool[Array, "T S"]) -> Float[Array, "T S"]:
    """Return the softmax over unmasked keys, in float32; zeros where all are masked."""
    weights = jax.nn.softmax(
        jnp.where(mask, scores.astype(jnp.float32), numerics.MASK_VALUE), axis=-1
    )
    return jnp.where(mask, weights, 0.0)  # (T, S)


def one_head_weights(
    q: Float[Array, "T K"],
    k: Float[Array, "S K"],
    bias: Float[Array, "T S"] | None,
    mask: Bool[Array, "T S"],
    scale: float,
) -> Float[Array, "T S"]:
    """Return softmax(scale * q k^T + bias) of one head of one sequence, in float32."""
    scores = jnp.einsum("tk,sk->ts", q, k, preferred_element_type=jnp.float32) * scale  # (T, S)
    return masked_softmax(scores if bias is None else scores + bias, mask)


def one_head_attention(
    q: Float[Array, "T K"],
    k: Float[Array, "S K"],
    v: Float[Array, "S K"],
    bias: Float[Array, "T S"] | None,
    dropout_key: Array | None,
    mask: Bool[Array, "T S"],
    scale: float,
    dropout_rate: float,
) -> Float[Array, "T K"]:
    """Return softmax(scale * q k^T + bias) v of one head of one sequence.

    Scaled dot-product attention: Vaswani et al. 2017, section 3.2.1. `plain_attention` maps it
    over heads and rows.
    """
    weights = one_head_weights(q, k, bias, mask, scale)  # (T, S)
    if dropout_key is not None:
        weights = numerics.drop(dropout_key, dropout_rate, weights)
    return weights.astype(v.dtype) @ v  # (T, K)


def plain_attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
) -> Float[Array, "B T H K"]:
    """Map `one_head_attention` with `jax.vmap` over the heads of a row and over the rows."""
    one_head = functools.partial(
        one_head_attention, scale=options.scale, dropout_rate=options.dropout_rate
    )
    heads = jax.vmap(one_head, in_axes=(1, 1, 1, 0, 0, None), out_axes=1)  # (T, H, K)
    masks = masks_of_rows(options.query_segments, options.key_segments, options)  # (B, T, S)
    bias = _bias_of_rows(options.bias, q.shape[0])
    return jax.vmap(heads)(q, k, v, bias, options.dropout_keys, masks)  # (B, T, H, K)


def plain_weights(
    q: Float[Array, "B T H K"], k: Float[Array, "B S H K"], options: AttentionOptions
) -> Float[Array, "B H T S"]:
    """Map `one_head_weights` over heads and rows."""
    one_head = functools.partial(one_head_weights, scale=options.scale)
    heads = jax.vmap(one_head, in_axes=(1, 1, 0, None))  # (H, T, S)
    masks = masks_of_rows(options.query_segments, options.key_segments, options)  # (B, T, S)
    return jax.vmap(heads)(q, k, _bias_of_rows(options.bias, q.shape[0]), masks)  # (B, H, T, S)


def _bias_of_rows(
    bias: Float[Array, "#B H T S"] | None, rows: int
) -> Float[Array, "B H T S"] | None:
    return None if bias is None else jnp.broadcast_to(bias, (rows, *bias.shape[1:]))
