"""Fields that the configurations of nearly all families have, under one name or another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    ModelConfig,
    NormConfig,
)
from encodax.errors import EncodaxError

KEYS = {
    "vocabulary_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner_width": "intermediate_size",
    "activation": "hidden_act",
    "max_positions": "max_position_embeddings",
    "type_vocabulary_size": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "pad_id": "pad_token_id",
}
"""Field of `BaseSpec` -> its key in BERT's configuration and most others."""


@dataclass(frozen=True)
class BaseSpec:
    """Fields that the configurations of nearly all families have."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    inner_width: int
    activation: str = "gelu_erf"
    max_positions: int = 512
    type_vocabulary_size: int = 0
    norm_eps: float = 1e-12
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    pad_id: int = 0

    @property
    def norm(self) -> NormConfig:
        """Layer norm in the family's usual places."""
        return NormConfig(self.norm_eps)

    def encoder(
        self,
        *,
        embeddings: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        feed_forward: Mapping[str, Any] | None = None,
        layer: Mapping[str, Any] | None = None,
        **stack: Any,
    ) -> EncoderConfig:
        """Return BERT's encoder of this shape, with other values for the given fields of blocks."""
        each = {
            "attention": AttentionConfig(
                self.heads,
                self.width // self.heads,
                dropout_rate=self.attention_dropout_rate,
                **(attention or {}),
            ),
            "feed_forward": FeedForwardConfig(
                self.inner_width, self.activation, **(feed_forward or {})
            ),
            "norm": self.norm,
            "dropout_rate": self.dropout_rate,
        }
        embedded = {
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "max_positions": self.max_positions,
            "type_vocabulary_size": self.type_vocabulary_size,
            "norm": self.norm,
            "dropout_rate": self.dropout_rate,
        }
        return EncoderConfig(
            EmbeddingsConfig(**{**embedded, **(embeddings or {})}),
            (LayerConfig(**{**each, **(layer or {})}),) * self.layers,
            **stack,
        )


def shape_of(config: ModelConfig) -> BaseSpec:
    """Return the shape of a model.

    Raises:
        EncodaxError: the model has no layer.
    """
    encoder = config.encoder
    if not encoder.layers:
        raise EncodaxError("a published model needs at least one layer")
    embeddings, layer = encoder.embeddings, encoder.layers[-1]
    return BaseSpec(
        vocabulary_size=embeddings.vocabulary_size,
        width=embeddings.model_width,
        layers=len(encoder.layers),
        heads=layer.attention.heads,
        inner_width=layer.feed_forward.width,
        activation=layer.feed_forward.activation,
        max_positions=embeddings.max_positions or 0,
        type_vocabulary_size=embeddings.type_vocabulary_size,
        norm_eps=layer.norm.eps,
        dropout_rate=layer.dropout_rate,
        attention_dropout_rate=layer.attention.dropout_rate,
        pad_id=config.pad_id,
    )
