"""Multi-head attention over packed rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import RotaryConfig
from encodax.nn import functional
from encodax.nn.kernels.cudnn import cudnn_attention, why_unsupported
from encodax.nn.kernels.fused import blocked_attention, fused_attention
from encodax.nn.kernels.plain import AttentionOptions, plain_attention, plain_weights
from encodax.nn.linear import Linear
from encodax.nn.relative_positions import RelativeTable, disentangled_bias, disentangled_scale
from encodax.types.batches import Weight

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

MANY_SCORES = 1 << 23
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
    if implementation not in ("auto", *IMPLEMENTATIONS):
        known = ", ".join(("auto", *IMPLEMENTATIONS))
        raise ValueError(f"attention implementation {implementation!r} is not one of: {known}")
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
    if implementation == "auto":
        implementation = best_implementation(q, k, v, options)
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
    are_many = options.window is not None or rows * heads * queries * keys >= MANY_SCORES
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KeysValues:
    """Keys and values of the attended sequence, projected for each head."""

    keys: Float[Array, "B S H K"]
    values: Float[Array, "B S H K"]


class MultiHeadAttention(hk.Module):
    """Multi-head attention: attention in H parallel heads, projected back to D.

        q_h = x w_q[h], k_h = y w_k[h], v_h = y w_v[h]
        out = concat_h(attention(q_h, k_h, v_h)) w_o

    where y is x itself (self-attention) or another sequence (cross-attention). Vaswani et al.
    2017, section 3.2.2. Parameters: `query`, `key`, `value` with w (D, H, K) and b (H, K), and
    `output` with w (H*K, D) and b (D,).
    """

    def __init__(
        self,
        heads: int,
        head_width: int,
        *,
        biases: bool = True,
        output_bias: bool = True,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        rotary: RotaryConfig | None = None,
        dropout_rate: float = 0.0,
        name: str = "attention",
    ):
        """Set the shape and the options.

        Args:
            heads: H.
            head_width: K.
            biases: whether the query, key and value projections have biases.
            output_bias: whether the output projection has a bias.
            causal: attend only to the same and earlier positions.
            window: largest distance in tokens; None for no limit.
            scale: factor of the scores; None for 1 / sqrt(K).
            rotary: rotary positions of queries and keys; None for none.
            dropout_rate: share of attention weights dropped in training.
            name: last part of the parameters' path.
        """
        super().__init__(name=name)
        self.heads = heads
        self.head_width = head_width
        self.biases = biases
        self.output_bias = output_bias
        self.dropout_rate = dropout_rate
        self.causal = causal
        self.window = window
        self.scale = scale
        self.rotary = rotary

    def __call__(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | KeysValues | None = None,
        *,
        query_segments: Int[Array, "B T"] | None = None,
        key_segments: Int[Array, "B S"] | None = None,
        position_ids: Int[Array, "B T"] | None = None,
        key_position_ids: Int[Array, "B S"] | None = None,
        bias: Float[Array, "#B H T S"] | None = None,
        relative: RelativeTable | None = None,
        max_segments: int | None = None,
        is_training: bool = False,
    ) -> Float[Array, "B T D"]:
        """Attend from x to y, or from x to itself where no y is given.

        Args:
            x: (B, T, D), source of the queries.
            y: (B, S, E), source of the keys and values, or these themselves.
            query_segments: (B, T); all one segment when not given.
            key_segments: (B, S); those of the queries in self-attention, else all one segment.
            position_ids: (B, T), for rotary positions; 0 .. T-1 when not given.
            key_position_ids: (B, S), positions of y; required with rotary positions.
            bias: added to the scaled scores.
            relative: embeddings of relative positions, for disentangled attention.
            max_segments: the highest possible segment, where it is known: a batch's N.
            is_training: drop attention weights.
        """
        q, attended = self._attended(x, y, position_ids, key_position_ids)
        k, v = attended.keys, attended.values
        scores = self._scores(q, k, query_segments, key_segments, y is None, bias, relative)
        drop = is_training and self.dropout_rate > 0
        heads = attention(
            q,
            k,
            v,
            dropout_key=hk.next_rng_key() if drop else None,
            dropout_rate=self.dropout_rate,
            max_segments=1 if query_segments is None else max_segments,
            **scores,
        )  # (B, T, H, K)
        joined = heads.reshape(*heads.shape[:2], -1).astype(x.dtype)  # (B, T, H*K)
        return Linear(x.shape[-1], bias=self.output_bias, name="output")(joined)

    @hk.name_like("__call__")
    def weights(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | KeysValues | None = None,
        *,
        query_segments: Int[Array, "B T"] | None = None,
        key_segments: Int[Array, "B S"] | None = None,
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T S"] | None = None,
        relative: RelativeTable | None = None,
    ) -> Float[Array, "B H T S"]:
        """Return the attention weights of the same call."""
        q, attended = self._attended(x, y, position_ids)
        k = attended.keys
        scores = self._scores(q, k, query_segments, key_segments, y is None, bias, relative)
        return attention_weights(q, k, **scores)

    @hk.name_like("__call__")
    def keys_values(
        self, y: Float[Array, "B S E"], position_ids: Int[Array, "B S"] | None = None
    ) -> KeysValues:
        """Return the keys and values of y, for repeated calls that attend to them."""
        heads = self._project({"key": y, "value": y}, position_ids)
        k, v = heads["key"], heads["value"]
        if functional.is_narrow(self._weights("value", y.shape[-1])["w"]):
            k, v = (z.astype(jnp.bfloat16) for z in (k, v))  # makes products with them narrow too
        return KeysValues(k, v)

    @hk.name_like("__call__")
    def _attended(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | KeysValues | None,
        position_ids: Int[Array, "B T"] | None,
        key_position_ids: Int[Array, "B S"] | None = None,
    ) -> tuple[Float[Array, "B T H K"], KeysValues]:
        """Return the queries, and the keys and values they attend to."""
        q = self._project({"query": x}, position_ids)["query"]
        if y is None:
            attended = self.keys_values(x, position_ids)
        elif isinstance(y, KeysValues):
            attended = y
        elif self.rotary is not None and key_position_ids is None:
            raise ValueError("rotary positions of another sequence are wanted: key_position_ids")
        else:
            attended = self.keys_values(y, key_position_ids)
        return q.astype(attended.keys.dtype), attended

    @hk.name_like("__call__")
    def _project(
        self, sources: dict[str, Array], position_ids: Int[Array, "B T"] | None
    ) -> dict[str, Float[Array, "B T H K"]]:
        """Project each source to all heads, with the weights of its name."""
        weights = {name: self._weights(name, source.shape[-1]) for name, source in sources.items()}
        heads: dict[str, Array] = jax.tree.map(functional.linear, sources, weights)
        for name, source in sources.items():
            if self.rotary is not None and name != "value":
                if position_ids is None:
                    position_ids = jnp.broadcast_to(jnp.arange(source.shape[1]), source.shape[:2])
                heads[name] = functional.rotate(heads[name], position_ids, self.rotary.base)
        return heads

    @hk.name_like("__call__")
    def _weights(self, name: str, width: int) -> dict[str, Weight]:
        return Linear(self.heads, self.head_width, bias=self.biases, name=name).weights(width)

    @hk.name_like("__call__")
    def _scores(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S H K"],
        query_segments: Int[Array, "B T"] | None,
        key_segments: Int[Array, "B S"] | None,
        to_itself: bool,
        bias: Float[Array, "#B H T S"] | None,
        relative: RelativeTable | None,
    ) -> dict[str, Any]:
        """Return the arguments of `attention` that turn query-key products into weights."""
        if query_segments is None:
            query_segments = jnp.ones(q.shape[:2], jnp.int32)
        if key_segments is None:
            key_segments = query_segments if to_itself else jnp.ones(k.shape[:2], jnp.int32)
        scale = self.scale
        if relative is not None:
            scale = disentangled_scale(self.head_width, relative.config)
            terms = scale * self._relative_terms(q, k, relative)
            bias = terms if bias is None else bias + terms
        return {
            "query_segments": query_segments,
            "key_segments": key_segments,
            "bias": bias,
            "causal": self.causal,
            "window": self.window,
            "scale": scale,
        }

    @hk.name_like("__call__")
    def _relative_terms(
        self, q: Float[Array, "B T H K"], k: Float[Array, "B T H K"], relative: RelativeTable
    ) -> Float[Array, "B H T T"]:
        """Return the terms of disentangled attention, with positions projected as the content is.

        Where projections are not shared, `position_query` and `position_key` project positions (He
        et al. 2021, equation 4; DeBERTa v2).
        """
        config = relative.config

        def projected(name: str) -> Float[Array, "R H K"]:
            own = "" if config.shared_projections else "position_"
            return functional.linear(
                relative.rows, self._weights(own + name, relative.rows.shape[-1])
            )

        position_q = projected("query") if config.position_to_content else None
        position_k = projected("key") if config.content_to_position else None
        return disentangled_bias(q, k, position_q, position_k, config)
