"""Attention of all heads and rows at once, for devices without a special kernel.

`fused_attention` builds all scores (H, B, T, S) at once; `blocked_attention` builds those of one
block of queries at a time, for long rows. Both compute `plain_attention` in an order that XLA runs
faster: heads come first, so that each product is one batch of contiguous matrices; the mask is
added, not selected by; and where v is narrow, the sum of the softmax divides after the product
with v, over K numbers rather than S. (In float32 that gains nothing, and a packed text differs
more from the same text alone.)
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from encodax.nn.kernels import numerics
from encodax.nn.kernels.plain import AttentionOptions, masks_of_rows

BLOCK_SCORES = 1 << 22
"""Largest number of scores in a block of queries, found by measurement: 16 MB in float32."""


def fused_attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
) -> Float[Array, "B T H K"]:
    """Compute `attention` over heads and rows at once; dropout draws as `plain_attention`."""
    q, k, v = (jnp.moveaxis(z, 2, 0) for z in (q, k, v))  # (H, B, T or S, K)
    mask = masks_of_rows(options.query_segments, options.key_segments, options)  # (B, T, S)
    heads = _attend(
        q, k, v, mask, options.bias, options.dropout_keys, options.scale, options.dropout_rate
    )
    return jnp.moveaxis(heads, 0, 2)  # (B, T, H, K)


def _attend(
    q: Float[Array, "H B T K"],
    k: Float[Array, "H B S K"],
    v: Float[Array, "H B S K"],
    mask: Bool[Array, "B T S"],
    bias: Float[Array, "#B H T S"] | None,
    dropout_keys: Array | None,
    scale: float,
    dropout_rate: float,
) -> Float[Array, "H B T K"]:
    """Return (sum_s e_ts v_s) / (sum_s e_ts), with e_ts = exp(score_ts - max_s score_ts)."""
    scores = _products(q, k) * scale
    if bias is not None:
        scores += jnp.swapaxes(bias, 0, 1)
    # MASK_VALUE absorbs a score of any size, and adding is cheaper than selecting.
    scores += jnp.where(mask, 0.0, numerics.MASK_VALUE)  # (H, B, T, S)
    highest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))  # (H, B, T, 1)
    exponentials = jnp.exp(scores - highest)  # (H, B, T, S)
    total = exponentials.sum(-1, keepdims=True)  # (H, B, T, 1)
    if dropout_keys is not None:
        exponentials = _drop(exponentials, dropout_keys, dropout_rate)
    divides_first = v.dtype == jnp.float32
    if divides_first:
        exponentials /= total
    summed = _sums(exponentials.astype(v.dtype), v)
    # Where the highest score is a masked one, the query has nothing to attend to.
    attended = summed if divides_first else summed / total  # (H, B, T, K)
    return jnp.where(highest > numerics.MASK_VALUE / 2, attended, 0.0).astype(v.dtype)


def _products(q: Float[Array, "H B T K"], k: Float[Array, "H B S K"]) -> Float[Array, "H B T S"]:
    """Return query-key products; a single query is summed: its einsum is slow in XLA."""
    if q.shape[2] == 1:
        return jnp.sum(q * k, axis=-1, dtype=jnp.float32)[:, :, None]
    return jnp.einsum("hbtk,hbsk->hbts", q, k, preferred_element_type=jnp.float32)


def _sums(weights: Float[Array, "H B T S"], v: Float[Array, "H B S K"]) -> Float[Array, "H B T K"]:
    """Return the sum of the values, weighted for each query."""
    if weights.shape[2] == 1:
        by_key = jnp.swapaxes(weights, 2, 3)  # (H, B, S, 1)
        return jnp.sum(by_key * v, axis=2, keepdims=True, dtype=jnp.float32)
    return jnp.einsum("hbts,hbsk->hbtk", weights, v, preferred_element_type=jnp.float32)


def _drop(weights: Float[Array, "H B T S"], keys: Array, rate: float) -> Float[Array, "H B T S"]:
    """Drop weights of each head and row with its key: the same bits as one row at a time."""
    one_row = jax.vmap(numerics.drop, in_axes=(0, None, 0))
    return jax.vmap(one_row, in_axes=(1, None, 0))(keys, rate, weights)


def blocked_attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
    block: int | None = None,
) -> Float[Array, "B T H K"]:
    """Compute `attention` in blocks of queries: memory grows with T, not T * S.

    In the backward pass, the scores of a block are computed again (Rabe and Staats 2021, section
    3). With a window, a block of queries meets only the blocks of keys around it, and time is
    linear in T. Dropout has the distribution of the plain implementation, with other bits: each
    block draws its own.

    Args:
        q: queries of each head.
        k: keys of each head.
        v: values of each head.
        options: options of `attention`.
        block: queries in a block; None to choose by `BLOCK_SCORES`.
    """
    rows, tokens, heads, _ = q.shape
    block = block or _block_size(rows * heads, k.shape[1], options.window)
    count = -(-tokens // block)
    around = None if options.window is None else -(-options.window // block)
    if around is not None and (2 * around + 1) * block >= k.shape[1]:
        around = None  # the blocks of a window would cover all keys, and more
    keys = _Keys(jnp.moveaxis(k, 2, 0), jnp.moveaxis(v, 2, 0), options.key_segments)
    parts = _Block(
        jnp.arange(count),
        _in_blocks(jnp.moveaxis(q, 2, 0), block, count, axis=2),  # (n, H, B, t, K)
        _in_blocks(options.query_segments, block, count, axis=1),  # (n, B, t)
        None if options.bias is None else _in_blocks(options.bias, block, count, axis=2),
        None if around is None else _neighbours(keys, block, count, around),
    )
    one_block = functools.partial(_one_block, keys=keys, around=around, options=options)
    blocks = jax.lax.map(jax.checkpoint(one_block), parts)  # (n, H, B, t, K)
    joined = jnp.moveaxis(blocks, 0, 2).reshape(heads, rows, count * block, -1)  # (H, B, n*t, K)
    return jnp.moveaxis(joined[:, :, :tokens], 0, 2)  # (B, T, H, K)


class _Keys(NamedTuple):
    """Keys, values and their segments: of a row, or of those near a block of queries."""

    k: Float[Array, "*n H B S K"]
    v: Float[Array, "*n H B S K"]
    segments: Int[Array, "*n B S"]


class _Block(NamedTuple):
    """Block of t queries, or n blocks along a leading axis."""

    number: Int[Array, "*n"]
    q: Float[Array, "*n H B t K"]
    segments: Int[Array, "*n B t"]
    bias: Float[Array, "*n #B H t S"] | None
    nearby: _Keys | None


def _one_block(
    part: _Block, keys: _Keys, around: int | None, options: AttentionOptions
) -> Float[Array, "H B t K"]:
    """Attend from the queries of a block to the keys near it where given, else to all."""
    k, v, key_segments = part.nearby or keys
    block = part.q.shape[2]
    before = part.number * block if around is None else around * block  # keys before the block
    mask = masks_of_rows(part.segments, key_segments, options, offset=before)  # (B, t, S)
    bias = part.bias
    if bias is not None and around is not None:
        bias = _columns(bias, part.number * block, k.shape[2], around * block)
    drawing = options.dropout_keys
    if drawing is not None:
        of_block = functools.partial(jax.random.fold_in, data=part.number)
        drawing = jax.vmap(jax.vmap(of_block))(drawing)
    return _attend(part.q, k, v, mask, bias, drawing, options.scale, options.dropout_rate)


def _block_size(matrices: int, keys: int, window: int | None) -> int:
    """Return the queries in a block of `matrices` rows and heads; other sizes were slower."""
    met = keys if window is None else min(keys, 2 * window + 128)
    return 128 if 128 * met * matrices <= BLOCK_SCORES else 64


def _in_blocks(x: Array, block: int, count: int, *, axis: int) -> Array:
    """Cut an axis, padded with zeros, into blocks: (..., T, ...) -> (n, ..., block, ...)."""
    x = _padded(x, axis, 0, count * block - x.shape[axis])
    x = x.reshape(*x.shape[:axis], count, block, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)


def _neighbours(keys: _Keys, block: int, count: int, around: int) -> _Keys:
    """Return, for each block of queries, its keys and those of `around` blocks on each side.

    Concatenated slices of whole blocks, because their gradients are sums of slices: those of
    indexing would be a scatter.
    """

    def gathered(x: Array, axis: int) -> Array:
        needed = (count + around) * block
        x = jax.lax.slice_in_dim(x, 0, min(needed, x.shape[axis]), axis=axis)
        x = _padded(x, axis, around * block, needed - x.shape[axis])
        x = _in_blocks(x, block, count + 2 * around, axis=axis)  # (n + 2 * around, ..., t, ...)
        shifted = [x[first : first + count] for first in range(2 * around + 1)]
        return jnp.concatenate(shifted, axis=axis + 1)  # (n, ..., (2 * around + 1) * t, ...)

    return _Keys(gathered(keys.k, 2), gathered(keys.v, 2), gathered(keys.segments, 1))


def _columns(
    bias: Float[Array, "#B H T S"], first: Int[Array, ""], count: int, before: int
) -> Float[Array, "#B H T C"]:
    """Return the columns of a block's bias for its nearby keys, from `before` keys in front."""
    bias = _padded(bias, 3, before, count)
    return jax.lax.dynamic_slice_in_dim(bias, first, count, axis=3)


def _padded(x: Array, axis: int, before: int, after: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)
