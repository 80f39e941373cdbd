"""Combinations of blocks that no published family has; only Encodax loads them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    ModelConfig,
    NormConfig,
)
from encodax.errors import EncodaxError
from encodax.families.tensors import Tensor, labels_of

MODEL_TYPE = "encodax"


def tensor(config: ModelConfig, path: str, leaf: str) -> Tensor:
    """A parameter stands under its own path, in its own layout."""
    return Tensor(f"{path}/{leaf}")


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Our specs as they are, field by field."""
    return {
        "model_type": MODEL_TYPE,
        "encoder": asdict(config.encoder),
        "head": asdict(config.head) if config.head else None,
        "pad_token_id": config.pad_id,
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
    }


def read_config(published: dict[str, Any]) -> ModelConfig:
    """The specs that `write_config` wrote.

    Raises:
        EncodaxError: a field is missing or is not one of ours.
    """
    try:
        encoder = published["encoder"]
        head = published["head"]
        return ModelConfig(
            EncoderConfig(
                _embeddings(encoder["embeddings"]),
                tuple(_layer(layer) for layer in encoder["layers"]),
                _norm(encoder["final_norm"]),
            ),
            head=HeadConfig(**head) if head else None,
            labels=labels_of(published),
            pad_id=published["pad_token_id"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodaxError(f"config.json: not a configuration of Encodax: {error}") from error


def _embeddings(fields: dict[str, Any]) -> EmbeddingsConfig:
    return EmbeddingsConfig(**{**fields, "norm": _norm(fields["norm"])})


def _layer(fields: dict[str, Any]) -> LayerConfig:
    blocks = {
        "attention": AttentionConfig(**fields["attention"]),
        "feed_forward": FeedForwardConfig(**fields["feed_forward"]),
        "norm": NormConfig(**fields["norm"]),
    }
    return LayerConfig(**{**fields, **blocks})


def _norm(fields: dict[str, Any] | None) -> NormConfig | None:
    return None if fields is None else NormConfig(**fields)
