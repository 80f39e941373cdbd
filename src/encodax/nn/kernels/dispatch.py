"""Attention by the implementation that suits the device, the dtype and the length of the rows."""

from __future__ import annotations

import math

import jax
from jaxtyping import Array, Float, Int

from encodax.nn.kernels.cudnn import cudnn_attention, why_unsupported
from encodax.nn.kernels.fused import blocked_attention, fused_attention
from encodax.nn.kernels.plain import AttentionOptions, plain_attention, plain_weights

IMPLEMENTATIONS = {
    "plain": plain_attention,
    "xla": fused_attention,
    "blocked": blocked_attention,
    "cudnn": cudnn_attention,
}
"""Implementations of attention by name; all give the same numbers."""

SHORT_ROW_IMPLEMENTATION = "xla" if jax.__version_info__ >= (0, 12) else "plain"
"""Implementation for rows that are not long. Older XLA adds up its products in another order on
CPU: with `xla` a ModernBERT is 1.1e-5 from the reference there, with `plain` 7e-6."""

LONG_ROW_KEYS = 512
"""Number of keys in a row from which `auto` considers the number of scores."""

BLOCKED_MIN_SCORES = 1 << 23
"""Number of scores (32 MB) from which long rows are computed in blocks, found by measurement."""


def attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    *,
    causal: bool = False,
    window: int | None = None,
    bias: Float[Array, "#B H T S"] | None = None,
    scale: float | None = None,
    dropout_key: Array | None = None,
    dropout_rate: float = 0.0,
    max_segments: int | None = None,
    implementation: str = "auto",
) -> Float[Array, "B T H K"]:
    """Attend within each segment, in every head and row: softmax(scale * q k^T + bias) v.

    Args:
        q: queries of each head.
        k: keys of each head.
        v: values of each head.
        query_segments: segments of the queries, as in `PackedBatch.segment_ids`; the mask is
            derived from them.
        key_segments: segments of the keys.
        causal: attend only to the same and earlier positions.
        window: largest distance in tokens; None for no limit.
        bias: added to the scaled scores, one for all rows or one for each row.
        scale: factor of the scores; None for 1 / sqrt(K).
        dropout_key: key for dropout of attention weights, split for rows and heads; None for no
            dropout.
        dropout_rate: share of weights that are dropped.
        max_segments: the highest possible segment, a batch's N; None for T. It makes `cudnn`
            cheaper and changes nothing else.
        implementation: a name in `IMPLEMENTATIONS`, or `auto` to choose by device, dtype and
            length.

    Returns:
        (B, T, H, K) in the dtype of v. A query with nothing to attend to gets zeros.

    Raises:
        ValueError: the implementation is unknown or does not support this call.
    """
    rows, _, heads, width = q.shape
    options = AttentionOptions(
        query_segments,
        key_segments,
        scale=1 / math.sqrt(width) if scale is None else scale,
        causal=causal,
        window=window,
        bias=bias,
        dropout_keys=None if dropout_key is None else jax.random.split(dropout_key, (rows, heads)),
        dropout_rate=dropout_rate,
        max_segments=max_segments,
    )
    return attend(q, k, v, options, implementation)


def attend(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
    implementation: str = "auto",
) -> Float[Array, "B T H K"]:
    """Attend as `attention` does, with its arguments as one value."""
    if implementation == "auto":
        implementation = best_implementation(q, k, v, options)
    if implementation not in IMPLEMENTATIONS:
        known = ", ".join(("auto", *IMPLEMENTATIONS))
        raise ValueError(f"attention implementation {implementation!r} is not one of: {known}")
    return IMPLEMENTATIONS[implementation](q, k, v, options)


def best_implementation(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
) -> str:
    """Return the implementation that `auto` selects, from what is known during tracing."""
    if why_unsupported(q, k, v, options) is None:
        return "cudnn"
    rows, queries, heads, _ = q.shape
    keys = k.shape[1]
    are_many = options.window is not None or rows * heads * queries * keys >= BLOCKED_MIN_SCORES
    return "blocked" if keys >= LONG_ROW_KEYS and are_many else SHORT_ROW_IMPLEMENTATION


def attention_weights(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    *,
    causal: bool = False,
    window: int | None = None,
    bias: Float[Array, "#B H T S"] | None = None,
    scale: float | None = None,
) -> Float[Array, "B H T S"]:
    """Return the weights that `attention` gives its values, in float32, for inspection.

    Each row of (T, S) adds up to 1, or is all zeros where the query has nothing to attend to.
    """
    options = AttentionOptions(
        query_segments,
        key_segments,
        scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale,
        causal=causal,
        window=window,
        bias=bias,
    )
    return plain_weights(q, k, options)
