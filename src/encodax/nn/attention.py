"""Multi-head attention over packed rows."""

from __future__ import annotations

import functools
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from encodax.config import RotaryConfig
from encodax.nn import functional
from encodax.nn.linear import Linear
from encodax.nn.relative_positions import RelativeTable, disentangled_bias, disentangled_scale

# A score no softmax can choose, and finite: -inf would give NaN where everything is masked.
MASKED = -1e30


def attention_mask(
    query_segments: Int[Array, " T"],
    key_segments: Int[Array, " S"],
    *,
    causal: bool = False,
    window: int | None = None,
) -> Bool[Array, "T S"]:
    """Which query may attend to which key, in one row.

    A query attends to a key if and only if their segments are equal and not 0; with `causal`
    only to itself and what is before, with `window` only up to that distance. Sequences are
    contiguous, so a difference of row indices is a difference of positions.
    """
    mask = (query_segments[:, None] == key_segments[None]) & (key_segments[None] != 0)  # (T, S)
    distance = jnp.arange(query_segments.shape[0])[:, None] - jnp.arange(key_segments.shape[0])
    if causal:
        mask &= distance >= 0
    if window is not None:
        mask &= jnp.abs(distance) <= window
    return mask


def masked_softmax(scores: Float[Array, "T S"], mask: Bool[Array, "T S"]) -> Float[Array, "T S"]:
    """Softmax over the keys that the mask allows, in float32; zeros where it allows none."""
    weights = jax.nn.softmax(jnp.where(mask, scores.astype(jnp.float32), MASKED), axis=-1)
    return jnp.where(mask, weights, 0.0)  # (T, S)


def one_head_weights(
    q: Float[Array, "T K"],
    k: Float[Array, "S K"],
    bias: Float[Array, "T S"] | None,
    mask: Bool[Array, "T S"],
    scale: float,
) -> Float[Array, "T S"]:
    """softmax(scale * q k^T + bias) of one head of one sequence, in float32."""
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
    """Scaled dot-product attention: softmax(scale * q k^T + bias) v, of one head of one sequence.

    Vaswani et al. 2017, section 3.2.1. `attention` lifts it over heads and rows.
    """
    weights = one_head_weights(q, k, bias, mask, scale)  # (T, S)
    if dropout_key is not None:
        weights = hk.dropout(dropout_key, dropout_rate, weights)
    return weights.astype(v.dtype) @ v  # (T, K)


def _plain(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    bias: Float[Array, "B H T S"] | None,
    dropout_keys: Array | None,
    masks: Bool[Array, "B T S"],
    scale: float,
    dropout_rate: float,
) -> Float[Array, "B T H K"]:
    """`one_head_attention` lifted with `jax.vmap`, over the heads of a row and over the rows."""
    one_head = functools.partial(one_head_attention, scale=scale, dropout_rate=dropout_rate)
    heads = jax.vmap(one_head, in_axes=(1, 1, 1, 0, 0, None), out_axes=1)  # (T, H, K)
    return jax.vmap(heads)(q, k, v, bias, dropout_keys, masks)  # (B, T, H, K)


IMPLEMENTATIONS = {"plain": _plain}
"""Forms of attention by name; all give the same numbers."""


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
    implementation: str = "plain",
) -> Float[Array, "B T H K"]:
    """Attention of every head and row: softmax(scale * q k^T + bias) v inside each segment.

    Args:
        q: queries of each head.
        k: keys of each head.
        v: values of each head.
        query_segments: as `PackedBatch.segment_ids`; the mask is derived from them.
        key_segments: those of the keys.
        causal: attend only to oneself and to what is before.
        window: farthest distance in tokens; None for no limit.
        bias: added to the scaled scores, one for all rows or one a row.
        scale: factor of the scores; None for 1 / sqrt(K).
        dropout_key: drops attention weights where given; each row and head draws its own.
        dropout_rate: share of weights that are dropped.
        implementation: a name in `IMPLEMENTATIONS`.

    Returns:
        (B, T, H, K) in the dtype of v. A query with nothing to attend to gets zeros.

    Raises:
        ValueError: the implementation is not known.
    """
    if implementation not in IMPLEMENTATIONS:
        known = ", ".join(IMPLEMENTATIONS)
        raise ValueError(f"attention implementation {implementation!r} is not one of: {known}")
    rows, _, heads, width = q.shape
    keys = None if dropout_key is None else jax.random.split(dropout_key, (rows, heads))  # (B, H)
    return IMPLEMENTATIONS[implementation](
        q,
        k,
        v,
        _bias_of_rows(bias, rows),
        keys,
        _masks(query_segments, key_segments, causal, window),
        1 / math.sqrt(width) if scale is None else scale,
        dropout_rate,
    )


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
    """The weights that `attention` gives its values, in float32, for whoever wants to look.

    Each row of (T, S) adds up to 1, or is all zeros where the query has nothing to attend to.
    """
    rows, _, _, width = q.shape
    one_head = functools.partial(
        one_head_weights, scale=1 / math.sqrt(width) if scale is None else scale
    )
    heads = jax.vmap(one_head, in_axes=(1, 1, 0, None))  # (H, T, S)
    masks = _masks(query_segments, key_segments, causal, window)
    return jax.vmap(heads)(q, k, _bias_of_rows(bias, rows), masks)  # (B, H, T, S)


def _masks(
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    causal: bool,
    window: int | None,
) -> Bool[Array, "B T S"]:
    one_row = functools.partial(attention_mask, causal=causal, window=window)
    return jax.vmap(one_row)(query_segments, key_segments)


def _bias_of_rows(
    bias: Float[Array, "#B H T S"] | None, rows: int
) -> Float[Array, "B H T S"] | None:
    return None if bias is None else jnp.broadcast_to(bias, (rows, *bias.shape[1:]))


class MultiHeadAttention(hk.Module):
    """Multi-head attention: attention of H heads side by side, projected back to D.

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
        """Choose the shape.

        Args:
            heads: H.
            head_width: K.
            biases: whether the query, key and value projections have biases.
            output_bias: whether the projection back has one.
            causal: attend only to oneself and to what is before.
            window: farthest distance in tokens; None for no limit.
            scale: factor of the scores; None for 1 / sqrt(K).
            rotary: rotary positions of queries and keys; None for none.
            dropout_rate: share of attention weights dropped in training.
            name: the last part of the parameters' path.
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
        y: Float[Array, "B S E"] | None = None,
        *,
        query_segments: Int[Array, "B T"] | None = None,
        key_segments: Int[Array, "B S"] | None = None,
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T S"] | None = None,
        relative: RelativeTable | None = None,
        is_training: bool = False,
    ) -> Float[Array, "B T D"]:
        """Attend from x to y, or from x to itself where no y is given.

        Args:
            x: (B, T, D), what asks.
            y: (B, S, E), what is attended to.
            query_segments: (B, T); all one segment when not given.
            key_segments: (B, S); those of the queries in self-attention, else all one segment.
            position_ids: (B, T), for rotary positions; 0 .. T-1 when not given.
            bias: added to the scaled scores.
            relative: embeddings of relative positions, for disentangled attention.
            is_training: drop attention weights.
        """
        q, k, v = self._project(x, y, position_ids)
        scores = self._scores(q, k, query_segments, key_segments, y is None, bias, relative)
        drop = is_training and self.dropout_rate > 0
        heads = attention(
            q,
            k,
            v,
            dropout_key=hk.next_rng_key() if drop else None,
            dropout_rate=self.dropout_rate,
            **scores,
        )  # (B, T, H, K)
        joined = heads.reshape(*heads.shape[:2], -1)  # (B, T, H*K)
        return Linear(x.shape[-1], bias=self.output_bias, name="output")(joined)

    @hk.name_like("__call__")
    def weights(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | None = None,
        *,
        query_segments: Int[Array, "B T"] | None = None,
        key_segments: Int[Array, "B S"] | None = None,
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T S"] | None = None,
        relative: RelativeTable | None = None,
    ) -> Float[Array, "B H T S"]:
        """The attention weights of the same call."""
        q, k, _ = self._project(x, y, position_ids)
        scores = self._scores(q, k, query_segments, key_segments, y is None, bias, relative)
        return attention_weights(q, k, **scores)

    @hk.name_like("__call__")
    def _project(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | None,
        position_ids: Int[Array, "B T"] | None,
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and values of each head, each (B, T or S, H, K)."""
        if self.rotary is not None and y is not None:
            raise ValueError("rotary positions are of one sequence: self-attention alone has them")
        attended = x if y is None else y
        inputs = {"query": x, "key": attended, "value": attended}
        weights = {name: self._weights(name, source.shape[-1]) for name, source in inputs.items()}
        heads = jax.tree.map(functional.linear, inputs, weights)
        q, k, v = heads["query"], heads["key"], heads["value"]
        if self.rotary is not None:
            if position_ids is None:
                position_ids = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
            q, k = (functional.rotate(z, position_ids, self.rotary.base) for z in (q, k))
        return q, k, v

    @hk.name_like("__call__")
    def _weights(self, name: str, width: int) -> dict[str, Array]:
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
        """What turns products of queries and keys into weights, as `attention` takes it."""
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
        """The terms of disentangled attention, with positions projected as the content is.

        Where projections are not shared, `position_query` and `position_key` are of their own (He
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
