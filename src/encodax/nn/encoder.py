"""The Transformer encoder: a layer, and the embeddings with a stack of layers."""

from __future__ import annotations

import functools
from collections.abc import Set as AbstractSet

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import EncoderConfig, LayerConfig
from encodax.nn.attention import MultiHeadAttention
from encodax.nn.embeddings import Embeddings
from encodax.nn.feed_forward import FeedForward
from encodax.nn.layer_norm import LayerNorm
from encodax.nn.residual import Residual
from encodax.types import AnyArray, EncoderOutput, PackedBatch

STAGES = frozenset({"attention", "hidden"})
"""What `record` can name."""


class EncoderLayer(hk.Module):
    """Self-attention, then the feed-forward network, each inside a residual connection.

    Vaswani et al. 2017, section 3.1. Parameters: `attention/...`, `attention_norm`,
    `feed_forward/...`, `feed_forward_norm`.
    """

    def __init__(self, config: LayerConfig, name: str = "layer"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        is_training: bool = False,
    ) -> Float[Array, "B T D"]:
        """One layer over packed rows; all one segment when `segment_ids` are not given."""
        config = self.config
        attend = functools.partial(
            self._attention(), query_segments=segment_ids, is_training=is_training
        )
        x = self._residual("attention")(x, attend, is_training=is_training)
        feed_forward = FeedForward(
            config.feed_forward.width,
            config.feed_forward.activation,
            dropout_rate=config.feed_forward.dropout_rate,
            name="feed_forward",
        )
        transform = functools.partial(feed_forward, is_training=is_training)
        return self._residual("feed_forward")(x, transform, is_training=is_training)

    @hk.name_like("__call__")
    def attention_weights(
        self, x: Float[Array, "B T D"], segment_ids: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B H T T"]:
        """The attention weights of this layer for the same x."""
        norm = self._norm("attention")
        x = norm(x) if self.config.placement == "pre" else x
        return self._attention().weights(x, query_segments=segment_ids)

    @hk.name_like("__call__")
    def _attention(self) -> MultiHeadAttention:
        config = self.config.attention
        return MultiHeadAttention(
            config.heads,
            config.head_width,
            biases=config.biases,
            output_bias=config.output_bias,
            scale=config.scale,
            window=config.window,
            dropout_rate=config.dropout_rate,
            name="attention",
        )

    @hk.name_like("__call__")
    def _norm(self, sublayer: str) -> LayerNorm:
        return LayerNorm(eps=self.config.norm.eps, name=f"{sublayer}_norm")

    @hk.name_like("__call__")
    def _residual(self, sublayer: str) -> Residual:
        return Residual(
            self._norm(sublayer),
            self.config.placement,
            dropout_rate=self.config.dropout_rate,
            name=f"{sublayer}_residual",
        )


class Encoder(hk.Module):
    """Embeddings and L encoder layers.

    Parameters: `embeddings/...`, `layer_0/...` to `layer_{L-1}/...`, and `final_norm` where the
    config has one. `embed` and `stack` are the two halves, with the same parameters.
    """

    def __init__(self, config: EncoderConfig, name: str = "encoder"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self,
        batch: PackedBatch | Int[AnyArray, "B T"],
        *,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> EncoderOutput:
        """Encode a packed batch, or plain (B, T) token ids with one sequence a row.

        Args:
            batch: what to encode.
            is_training: apply dropout.
            record: stages to keep: `attention`, `hidden`.

        Raises:
            ValueError: an unknown stage; or an id out of range, as `Embeddings` says.
        """
        batch = batch if isinstance(batch, PackedBatch) else PackedBatch.from_rows(batch)
        x = self.embed(batch, is_training=is_training)
        segment_ids = jnp.asarray(batch.segment_ids)
        return self.stack(x, segment_ids, is_training=is_training, record=record)

    @hk.name_like("__call__")
    def embed(self, batch: PackedBatch, *, is_training: bool = False) -> Float[Array, "B T D"]:
        """The first half: embeddings."""
        return Embeddings(self.config.embeddings, name="embeddings")(batch, is_training=is_training)

    @hk.name_like("__call__")
    def stack(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> EncoderOutput:
        """The second half: all layers, from embedded tokens."""
        if unknown := record - STAGES:
            known = ", ".join(sorted(STAGES))
            raise ValueError(f"no stage {', '.join(sorted(unknown))} to record; known: {known}")
        kept: dict[str, list[Array]] = {stage: [] for stage in record}
        if "hidden" in record:
            kept["hidden"].append(x)
        for index, config in enumerate(self.config.layers):
            layer = EncoderLayer(config, name=f"layer_{index}")
            if "attention" in record:
                kept["attention"].append(layer.attention_weights(x, segment_ids))
            x = layer(x, segment_ids, is_training=is_training)
            if "hidden" in record:
                kept["hidden"].append(x)
        if self.config.final_norm is not None:
            x = LayerNorm(eps=self.config.final_norm.eps, name="final_norm")(x)
        return EncoderOutput(x, {stage: tuple(arrays) for stage, arrays in kept.items()})
