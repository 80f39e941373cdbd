"""Transformer encoder: a layer, and the embeddings with a stack of layers."""

from __future__ import annotations

import functools
from collections.abc import Set as AbstractSet
from typing import Any

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import (
    UNROLLED,
    EncoderConfig,
    ExecutionConfig,
    LayerConfig,
    RelativeBiasConfig,
)
from encodax.nn import functional
from encodax.nn.embeddings import Embeddings
from encodax.nn.execution import rematerialized, scan_layers
from encodax.nn.layer import Layer
from encodax.nn.layer_norm import norm_of
from encodax.nn.relative_positions import RelativeBias, RelativeEmbeddings, RelativeTable
from encodax.types.batches import AnyArray, EncoderOutput, PackedBatch

STAGES = frozenset({"attention", "hidden"})
"""Stages that `record` can name."""


class EncoderLayer(Layer):
    """Encoder layer: self-attention, then the feed-forward network, with residual connections.

    Vaswani et al. 2017, section 3.1. Parameters: `attention/...`, `attention_norm`,
    `feed_forward/...`, `feed_forward_norm`.
    """

    def __call__(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T T"] | None = None,
        relative: RelativeTable | None = None,
        max_segments: int | None = None,
        tokens: Int[Array, "B M"] | None = None,
        is_training: bool = False,
    ) -> Float[Array, "B _ D"]:
        """Apply the layer to packed rows: (B, T, D), or (B, M, D) of selected tokens.

        Args:
            x: (B, T, D).
            segment_ids: (B, T); all one segment when not given.
            position_ids: (B, T), for rotary positions; 0 .. T-1 when not given.
            bias: added to the scores of attention.
            relative: embeddings of relative positions, for disentangled attention.
            max_segments: the highest possible segment, where it is known: a batch's N.
            tokens: row indices of the only tokens to compute; all are attended to. Not with a
                window, a bias or relative positions, which depend on indices in a row.
            is_training: apply dropout.
        """
        keys: dict[str, Array] = {}
        if tokens is not None:
            if segment_ids is None or position_ids is None:
                raise ValueError("reading only some tokens needs segment_ids and position_ids")
            keys = {
                "y": self._attention_input(x),
                "key_segments": segment_ids,
                "key_position_ids": position_ids,
            }
            x, segment_ids, position_ids = (
                functional.at_tokens(z, tokens) for z in (x, segment_ids, position_ids)
            )
        attend = functools.partial(
            self._attention("attention"),
            **keys,
            query_segments=segment_ids,
            position_ids=position_ids,
            bias=bias,
            relative=relative,
            max_segments=max_segments,
            is_training=is_training,
        )
        x = self._residual("attention")(x, attend, is_training=is_training)
        return self._feed_forward(x, is_training=is_training)

    @hk.name_like("__call__")
    def attention_weights(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        position_ids: Int[Array, "B T"] | None = None,
        bias: Float[Array, "#B H T T"] | None = None,
        relative: RelativeTable | None = None,
    ) -> Float[Array, "B H T T"]:
        """Return the attention weights of this layer for the same arguments."""
        return self._attention("attention").weights(
            self._attention_input(x),
            query_segments=segment_ids,
            position_ids=position_ids,
            bias=bias,
            relative=relative,
        )


class Encoder(hk.Module):
    """Encoder: embeddings and L encoder layers.

    Parameters: `embeddings/...`, `layer_0/...` to `layer_{L-1}/...` (fewer where layers share
    them), and where the config has them `relative_bias`, `relative_embeddings` and `final_norm`.
    `embed` and `stack` are the two halves, with the same parameters.
    """

    def __init__(
        self, config: EncoderConfig, execution: ExecutionConfig = UNROLLED, name: str = "encoder"
    ):
        super().__init__(name=name)
        self.config = config
        self.execution = execution

    def __call__(
        self,
        batch: PackedBatch | Int[AnyArray, "B T"],
        *,
        tokens: Int[AnyArray, "B M"] | None = None,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> EncoderOutput:
        """Encode a packed batch, or plain (B, T) token ids with one sequence a row.

        Args:
            batch: packed batch or token ids.
            tokens: row indices of the only tokens to return: `hidden` is (B, M, D) then. None for
            all.
            is_training: apply dropout.
            record: stages to keep: `attention`, `hidden`.

        Raises:
            ValueError: an unknown stage, or an id out of range (see `Embeddings`).
        """
        batch = batch if isinstance(batch, PackedBatch) else PackedBatch.from_rows(batch)
        x = self.embed(batch, is_training=is_training)
        segment_ids, position_ids = jnp.asarray(batch.segment_ids), jnp.asarray(batch.position_ids)
        return self.stack(
            x,
            segment_ids,
            position_ids=position_ids,
            max_segments=batch.starts.shape[1],
            tokens=None if tokens is None else jnp.asarray(tokens),
            is_training=is_training,
            record=record,
        )

    @hk.name_like("__call__")
    def embed(self, batch: PackedBatch, *, is_training: bool = False) -> Float[Array, "B T D"]:
        """Return the embeddings of the tokens, the first half of the encoder."""
        return self._embeddings()(batch, is_training=is_training)

    @hk.name_like("__call__")
    def token_table(self) -> Float[Array, "V D"]:
        """Return the table of token embeddings, for an output layer that is tied to it."""
        return self._embeddings().token_table()

    @hk.name_like("__call__")
    def stack(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None = None,
        *,
        position_ids: Int[Array, "B T"] | None = None,
        max_segments: int | None = None,
        tokens: Int[Array, "B M"] | None = None,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> EncoderOutput:
        """Apply all layers to embedded tokens, the second half of the encoder.

        Where `tokens` is given, the last layer computes only these: of the other tokens, only keys
        and values are needed.
        """
        functional.check_stages(record, STAGES)
        if record and self.execution.scan and not hk.running_init():
            raise ValueError("a scan over layers records no stage")
        positions = {"position_ids": position_ids, **self._relative_positions(x)}
        options: dict[str, Any] = {"max_segments": max_segments, "is_training": is_training}
        kept: dict[str, list[Array]] = {stage: [] for stage in record}
        own_tokens = tokens if self._can_skip_tokens(record) else None
        if self.execution.scan and not hk.running_init():
            x = self._scanned(x, segment_ids, **positions, **options)
        else:
            x = self._unrolled(x, segment_ids, positions, options, own_tokens, kept)
        if tokens is not None and own_tokens is None:
            x = functional.at_tokens(x, tokens)
        if self.config.final_norm is not None:
            x = norm_of(self.config.final_norm, "final_norm")(x)
        return EncoderOutput(x, {stage: tuple(arrays) for stage, arrays in kept.items()})

    @hk.name_like("__call__")
    def _unrolled(
        self,
        x: Float[Array, "B T D"],
        segment_ids: Int[Array, "B T"] | None,
        positions: dict[str, Any],
        options: dict[str, Any],
        tokens: Int[Array, "B M"] | None,
        kept: dict[str, list[Array]],
    ) -> Float[Array, "B _ D"]:
        """Apply the layers one after another; append their records to those of each stage."""
        layers = self._layers()
        for index, layer in enumerate(layers):
            if "hidden" in kept:
                kept["hidden"].append(x)
            if "attention" in kept:
                kept["attention"].append(layer.attention_weights(x, segment_ids, **positions))
            run = rematerialized(functools.partial(layer, **options), self.execution)
            is_last = index == len(layers) - 1
            own = {"tokens": tokens} if is_last and tokens is not None else {}
            x = run(x, segment_ids, **positions, **own)
        if "hidden" in kept:
            kept["hidden"].append(x)
        return x

    @hk.name_like("__call__")
    def _can_skip_tokens(self, record: AbstractSet[str]) -> bool:
        """Return True where the last layer can skip tokens: nothing in it needs row indices."""
        config = self.config
        if not config.layers or config.relative_positions is not None:
            return False
        return config.layers[-1].attention.window is None and not record and not self.execution.scan

    @hk.name_like("__call__")
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.config.embeddings, name="embeddings")

    @hk.name_like("__call__")
    def _layers(self) -> list[EncoderLayer]:
        """Return every layer in order; the same module again where layers share parameters."""
        layers = self.config.layers
        groups = self.config.parameter_groups or tuple(range(len(layers)))
        specs = dict(zip(groups, layers, strict=True))
        if any(specs[group] != layer for group, layer in zip(groups, layers, strict=True)):
            raise ValueError("layers that share parameters need the same spec")
        own = {group: EncoderLayer(spec, name=f"layer_{group}") for group, spec in specs.items()}
        return [own[group] for group in groups]

    def _scanned(
        self, x: Float[Array, "B T D"], *arguments: Any, is_training: bool, **options: Any
    ) -> Float[Array, "B T D"]:
        if self.config.parameter_groups is not None:
            raise ValueError("a scan needs layers of one spec, with parameters of their own")

        def run(spec: LayerConfig, x: Array) -> Array:
            layer = EncoderLayer(spec, name="layer")
            return layer(x, *arguments, is_training=is_training, **options)

        name, layers = self.module_name, self.config.layers
        return scan_layers(run, layers, name, x, self.execution, is_training=is_training)

    @hk.name_like("__call__")
    def _relative_positions(self, x: Float[Array, "B T D"]) -> dict[str, Any]:
        """Return the arguments by which relative positions enter a layer's scores."""
        config = self.config.relative_positions
        if config is None:
            return {}
        if isinstance(config, RelativeBiasConfig):
            heads = self.config.layers[0].attention.heads
            return {"bias": RelativeBias(config, heads, name="relative_bias")(x.shape[1])}
        return {"relative": RelativeEmbeddings(config, x.shape[2], name="relative_embeddings")()}
