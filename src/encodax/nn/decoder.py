"""Transformer decoder: a layer, and the embeddings with a stack of layers.

Each runs over whole rows (training), or over one token at a time with a cache of the earlier ones
(generation); both are the same computation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import UNROLLED, DecoderConfig, ExecutionConfig
from encodax.nn.attention import KeysValues
from encodax.nn.embeddings import Embeddings
from encodax.nn.execution import rematerialized
from encodax.nn.layer import Layer
from encodax.nn.layer_norm import norm_of
from encodax.nn.relative_positions import RelativeBias
from encodax.types.batches import EncoderOutput, PackedBatch

STAGES = frozenset({"target_attention", "cross_attention", "target_hidden"})
"""Stages that `record` can name."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerCache:
    """Cache of one layer's keys and values during generation."""

    own: KeysValues
    """(B, L, H, K): of the tokens so far, with space for L."""
    source: KeysValues
    """(B, S, H, K): of the source; they never change."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DecoderCache:
    """Cache of a decoder during generation: one sequence in each row, all of the same length."""

    layers: tuple[LayerCache, ...]
    source_segments: Int[Array, "B S"]
    length: Int[Array, ""]
    """Number of tokens so far."""

    def repeated(self, times: int) -> DecoderCache:
        """Return a cache with each row repeated `times` times, one after another."""
        repeated: DecoderCache = jax.tree.map(
            lambda leaf: jnp.repeat(leaf, times, axis=0) if leaf.ndim else leaf, self
        )
        return repeated

    def reordered(self, rows: Int[Array, " B"]) -> DecoderCache:
        """Return a cache whose row i has the tokens of row `rows[i]`, which has the same source."""
        own = [jax.tree.map(lambda leaf: leaf[rows], layer.own) for layer in self.layers]
        layers = (replace(layer, own=o) for layer, o in zip(self.layers, own, strict=True))
        return replace(self, layers=tuple(layers))


class DecoderLayer(Layer):
    """Decoder layer: masked self-attention, cross-attention, then the feed-forward network.

    Each is inside a residual connection. Vaswani et al. 2017, section 3.1. Parameters:
    `attention/...`, `cross_attention/...`, `feed_forward/...`, and the `..._norm` of each.
    """

    def __call__(
        self,
        x: Float[Array, "B T D"],
        source: Float[Array, "B S D"],
        *,
        segment_ids: Int[Array, "B T"],
        source_segments: Int[Array, "B S"],
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T T"] | None = None,
        max_segments: int | None = None,
        is_training: bool = False,
        kept: dict[str, list[Array]] | None = None,
    ) -> Float[Array, "B T D"]:
        """Apply the layer to packed rows.

        A token attends to itself, to those before it, and to the source of the same segment.

        Args:
            x: (B, T, D), the target.
            source: (B, S, D), output of the encoder.
            segment_ids: (B, T).
            source_segments: (B, S).
            position_ids: (B, T), for rotary positions; 0 .. T-1 when not given.
            bias: added to the scores of the target's self-attention.
            max_segments: the highest possible segment, where it is known: a batch's N.
            is_training: apply dropout.
            kept: lists, by stage, that the weights of both attentions are appended to.
        """
        options: dict[str, Any] = {"max_segments": max_segments, "is_training": is_training}
        to_itself: dict[str, Any] = {
            "query_segments": segment_ids,
            "position_ids": position_ids,
            "bias": bias,
        }
        to_source: dict[str, Any] = {
            "y": source,
            "query_segments": segment_ids,
            "key_segments": source_segments,
        }
        attention = self._attention("attention", causal=True)
        cross_attention = self._attention("cross_attention")

        def attend(x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
            if kept is not None and "target_attention" in kept:
                kept["target_attention"].append(attention.weights(x, **to_itself))
            return attention(x, **to_itself, **options)

        def cross_attend(x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
            if kept is not None and "cross_attention" in kept:
                kept["cross_attention"].append(cross_attention.weights(x, **to_source))
            return cross_attention(x, **to_source, **options)

        return self._sublayers(x, attend, cross_attend, is_training=is_training)

    @hk.name_like("__call__")
    def init_cache(self, source: Float[Array, "B S D"], room: int) -> LayerCache:
        """Return the cache before the first token, with space for `room` tokens."""
        of_source = self._attention("cross_attention").keys_values(source)
        config, rows = self.config.attention, source.shape[0]
        empty = jnp.zeros((rows, room, config.heads, config.head_width), of_source.keys.dtype)
        return LayerCache(KeysValues(empty, empty), of_source)

    @hk.name_like("__call__")
    def step(
        self,
        x: Float[Array, "B 1 D"],
        cache: LayerCache,
        *,
        place: Int[Array, ""],
        source_segments: Int[Array, "B S"],
        bias: Float[Array, "#B H 1 L"] | None = None,
    ) -> tuple[Float[Array, "B 1 D"], LayerCache]:
        """Apply the layer to one token of each row, and return the cache with it added.

        Args:
            x: (B, 1, D), the token.
            cache: cache of the tokens before it.
            place: number of tokens before it.
            source_segments: (B, S): 1 for the tokens of a source, 0 for padding.
            bias: added to the scores of its self-attention.
        """
        rows, room = x.shape[0], cache.own.keys.shape[1]
        position_ids = jnp.broadcast_to(place, (rows, 1))
        attention = self._attention("attention")
        newest = attention.keys_values(self._attention_input(x), position_ids)
        own = jax.tree.map(
            lambda kept, new: jax.lax.dynamic_update_slice_in_dim(kept, new, place, axis=1),
            cache.own,
            newest,
        )
        seen = jnp.broadcast_to(jnp.arange(room) <= place, (rows, room)).astype(jnp.int32)
        attend = functools.partial(
            attention, y=own, key_segments=seen, position_ids=position_ids, bias=bias
        )
        cross_attend = functools.partial(
            self._attention("cross_attention"), y=cache.source, key_segments=source_segments
        )
        x = self._sublayers(x, attend, cross_attend, is_training=False)
        return x, replace(cache, own=own)

    @hk.name_like("__call__")
    def _sublayers(
        self,
        x: Float[Array, "B T D"],
        attend: Callable[[Array], Array],
        cross_attend: Callable[[Array], Array],
        *,
        is_training: bool,
    ) -> Float[Array, "B T D"]:
        x = self._residual("attention")(x, attend, is_training=is_training)
        x = self._residual("cross_attention")(x, cross_attend, is_training=is_training)
        return self._feed_forward(x, is_training=is_training)


class Decoder(hk.Module):
    """Decoder: embeddings and L decoder layers.

    Parameters: `embeddings/...`, `layer_0/...` to `layer_{L-1}/...`, and where the config has them
    `relative_bias` and `final_norm`.
    """

    def __init__(
        self, config: DecoderConfig, execution: ExecutionConfig = UNROLLED, name: str = "decoder"
    ):
        super().__init__(name=name)
        if any(layer.attention.window is not None for layer in config.layers):
            raise ValueError("attention of a decoder has no window")
        if execution.scan:
            raise ValueError("a decoder is not run as a scan over its layers")
        self.config = config
        self.execution = execution

    def __call__(
        self,
        batch: PackedBatch,
        source: Float[Array, "B S D"],
        source_segments: Int[Array, "B S"],
        *,
        token_table: Float[Array, "V D"] | None = None,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> EncoderOutput:
        """Return the state of every token of packed rows.

        Args:
            batch: the target.
            source: (B, S, D), output of the encoder for rows with the same segments.
            source_segments: (B, S).
            token_table: token embeddings shared with the source; None for those of the decoder.
            is_training: apply dropout.
            record: stages to keep: `target_attention` (B, H, T, T) and `cross_attention`
                (B, H, T, S) of each layer; `target_hidden` (B, T, D), the embeddings first.
        """
        kept: dict[str, list[Array]] = {stage: [] for stage in record & STAGES}
        embeddings = self._embeddings()
        x = embeddings(batch, token_table=token_table, is_training=is_training)
        hidden = [x]
        options: dict[str, Any] = {
            "max_segments": batch.starts.shape[1],
            "is_training": is_training,
            "kept": kept if kept else None,
        }
        relative = self._relative_bias()
        bias = None if relative is None else relative(x.shape[1])
        for layer in self._layers():
            run = rematerialized(functools.partial(layer, **options), self.execution)
            x = run(
                x,
                source,
                segment_ids=jnp.asarray(batch.segment_ids),
                source_segments=source_segments,
                position_ids=jnp.asarray(batch.position_ids),
                bias=bias,
            )
            hidden.append(x)
        if "target_hidden" in kept:
            kept["target_hidden"] = hidden
        records = {stage: tuple(arrays) for stage, arrays in kept.items()}
        return EncoderOutput(self._normalized(x), records)

    @hk.name_like("__call__")
    def begin(
        self, source: Float[Array, "B S D"], source_segments: Int[Array, "B S"], room: int
    ) -> DecoderCache:
        """Return the cache before the first token of each row, with space for `room` tokens."""
        layers = tuple(layer.init_cache(source, room) for layer in self._layers())
        return DecoderCache(layers, source_segments, jnp.zeros((), jnp.int32))

    @hk.name_like("__call__")
    def step(
        self,
        token_ids: Int[Array, " B"],
        cache: DecoderCache,
        *,
        token_table: Float[Array, "V D"] | None = None,
    ) -> tuple[Float[Array, "B D"], DecoderCache]:
        """Return the state of one more token of each row, and the cache with it added.

        Equal to the last token of `__call__` over rows of one sequence each. A token beyond the
        cache's space overwrites the last place: the caller must count.
        """
        rows, place = token_ids.shape[0], cache.length
        batch = PackedBatch.from_rows(token_ids[:, None])
        batch = replace(batch, position_ids=jnp.broadcast_to(place, (rows, 1)))
        room = cache.layers[0].own.keys.shape[1] if cache.layers else 1
        x = self._embeddings()(batch, token_table=token_table, positions=room)
        relative = self._relative_bias()
        options: dict[str, Any] = {
            "place": place,
            "source_segments": cache.source_segments,
            "bias": None if relative is None else relative.of_query(place, room),
        }
        kept = []
        for layer, own in zip(self._layers(), cache.layers, strict=True):
            x, new = layer.step(x, own, **options)
            kept.append(new)
        cache = replace(cache, layers=tuple(kept), length=place + 1)
        return self._normalized(x)[:, 0], cache

    @hk.name_like("__call__")
    def token_table(self) -> Float[Array, "V D"]:
        """Return the table of the decoder's token embeddings."""
        return self._embeddings().token_table()

    @hk.name_like("__call__")
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.config.embeddings, name="embeddings")

    @hk.name_like("__call__")
    def _layers(self) -> list[DecoderLayer]:
        return [
            DecoderLayer(layer, name=f"layer_{index}")
            for index, layer in enumerate(self.config.layers)
        ]

    @hk.name_like("__call__")
    def _relative_bias(self) -> RelativeBias | None:
        config = self.config.relative_positions
        if config is None:
            return None
        heads = self.config.layers[0].attention.heads
        return RelativeBias(config, heads, name="relative_bias")

    @hk.name_like("__call__")
    def _normalized(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        config = self.config.final_norm
        return x if config is None else norm_of(config, "final_norm")(x)
