"""Multi-head attention over packed rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import RotaryConfig
from encodax.nn import functional
from encodax.nn.kernels import numerics
from encodax.nn.kernels.dispatch import attend
from encodax.nn.kernels.plain import AttentionOptions, plain_weights
from encodax.nn.linear import Linear
from encodax.nn.relative_positions import RelativeTable, disentangled_bias, disentangled_scale
from encodax.types.batches import Weight


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
            key_position_ids: (B, S), positions of y; required with rotary positions, unless y is
                `KeysValues`.
            bias: added to the scaled scores.
            relative: embeddings of relative positions, for disentangled attention.
            max_segments: the highest possible segment, where it is known: a batch's N.
            is_training: drop attention weights.
        """
        segments = query_segments, key_segments
        q, k, v = self._queries_keys_values(
            x, y, position_ids, key_position_ids
        )  # (B, T or S, H, K)
        options = self._options(q, k, segments, bias, relative, is_self_attention=y is None)
        if is_training and self.dropout_rate > 0:
            keys = jax.random.split(hk.next_rng_key(), (q.shape[0], self.heads))
            options = replace(options, dropout_keys=keys, dropout_rate=self.dropout_rate)
        limit = 1 if query_segments is None else max_segments
        heads = attend(q, k, v, replace(options, max_segments=limit))  # (B, T, H, K)
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
        segments = query_segments, key_segments
        q, k, _ = self._queries_keys_values(x, y, position_ids)
        options = self._options(q, k, segments, bias, relative, is_self_attention=y is None)
        return plain_weights(q, k, options)

    @hk.name_like("__call__")
    def keys_values(
        self, y: Float[Array, "B S E"], position_ids: Int[Array, "B S"] | None = None
    ) -> KeysValues:
        """Return the keys and values of y, for repeated calls that attend to them."""
        k, v = self._project(y, "key", "value")
        k = self._rotate(k, position_ids)
        if numerics.has_reduced_precision(self._weights("value", y.shape[-1])["w"]):
            k, v = (z.astype(jnp.bfloat16) for z in (k, v))  # their products are in it too
        return KeysValues(k, v)

    @hk.name_like("__call__")
    def _queries_keys_values(
        self,
        x: Float[Array, "B T D"],
        y: Float[Array, "B S E"] | KeysValues | None,
        position_ids: Int[Array, "B T"] | None,
        key_position_ids: Int[Array, "B S"] | None = None,
    ) -> tuple[Float[Array, "B T H K"], Float[Array, "B S H K"], Float[Array, "B S H K"]]:
        """Return queries, keys and values of all heads, with their rotary positions."""
        (q,) = self._project(x, "query")
        q = self._rotate(q, position_ids)
        if y is None:
            y = self.keys_values(x, position_ids)
        elif not isinstance(y, KeysValues):
            if self.rotary is not None and key_position_ids is None:
                raise ValueError("rotary positions of another sequence need key_position_ids")
            y = self.keys_values(y, key_position_ids)
        return q.astype(y.keys.dtype), y.keys, y.values

    @hk.name_like("__call__")
    def _project(self, x: Float[Array, "B T D"], *names: str) -> list[Float[Array, "B T H K"]]:
        """Project x to all heads, with the weights of each name."""
        weights = [self._weights(name, x.shape[-1]) for name in names]
        heads: list[Array] = jax.tree.map(functional.linear, [x for _ in names], weights)
        return heads

    @hk.name_like("__call__")
    def _weights(self, name: str, width: int) -> dict[str, Weight]:
        return Linear(self.heads, self.head_width, bias=self.biases, name=name).weights(width)

    def _rotate(
        self, heads: Float[Array, "B T H K"], position_ids: Int[Array, "B T"] | None
    ) -> Float[Array, "B T H K"]:
        if self.rotary is None:
            return heads
        if position_ids is None:
            position_ids = jnp.broadcast_to(jnp.arange(heads.shape[1]), heads.shape[:2])
        return functional.rotate(heads, position_ids, self.rotary.base)

    @hk.name_like("__call__")
    def _options(
        self,
        q: Float[Array, "B T H K"],
        k: Float[Array, "B S H K"],
        segments: tuple[Int[Array, "B T"] | None, Int[Array, "B S"] | None],
        bias: Float[Array, "#B H T S"] | None,
        relative: RelativeTable | None,
        *,
        is_self_attention: bool,
    ) -> AttentionOptions:
        """Return the mask, the scale and the bias of the scores."""
        query_segments, key_segments = segments
        if query_segments is None:
            query_segments = jnp.ones(q.shape[:2], jnp.int32)
        if key_segments is None:
            key_segments = query_segments if is_self_attention else jnp.ones(k.shape[:2], jnp.int32)
        scale = 1 / math.sqrt(self.head_width) if self.scale is None else self.scale
        if relative is not None:
            scale = disentangled_scale(self.head_width, relative.config)
            terms = scale * self._relative_terms(q, k, relative)
            bias = terms if bias is None else bias + terms
        return AttentionOptions(
            query_segments, key_segments, scale, causal=self.causal, window=self.window, bias=bias
        )

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
