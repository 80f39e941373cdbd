"""Every block of `encodax.nn` with an input of its own, for the contracts that hold for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blocks import normal, packed

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    NormConfig,
)
from encodax.nn import (
    Embeddings,
    Encoder,
    EncoderLayer,
    FeedForward,
    Head,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    Residual,
    pool,
)

WIDTH = 8
EMBEDDINGS = EmbeddingsConfig(
    vocabulary_size=13, width=WIDTH, max_positions=10, type_vocabulary_size=2, norm=NormConfig(1e-5)
)
LAYER = LayerConfig(AttentionConfig(2, 4), FeedForwardConfig(12), norm=NormConfig(1e-5))
PRE = dataclasses.replace(LAYER, placement="pre")
SEQUENCE_HEAD = HeadConfig("sequence", classes=3, pooling="cls", dense_width=WIDTH)
TOKEN_HEAD = HeadConfig("token", classes=3)
BATCH = packed([[5, 3, 8], [1, 12], [7, 7, 2, 4]], [[0, 1], [2]], tokens=6, slots=2)


def x(rows: int = 2, tokens: int = 6, seed: int = 0) -> jax.Array:
    return normal(rows, tokens, WIDTH, seed=seed)


BLOCKS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "linear": (lambda x: Linear(2, 3)(x), (x(),)),
    "layer norm": (lambda x: LayerNorm()(x), (x(),)),
    "layer norm of axis 1": (lambda x: LayerNorm(axis=1)(x), (x(),)),
    "feed-forward": (lambda x: FeedForward(12)(x), (x(),)),
    "residual, post": (lambda x: Residual(LayerNorm())(x, FeedForward(12)), (x(),)),
    "residual, pre": (lambda x: Residual(LayerNorm(), "pre")(x, FeedForward(12)), (x(),)),
    "attention": (lambda x: MultiHeadAttention(2, 4)(x), (x(),)),
    "cross-attention": (
        lambda x, y: MultiHeadAttention(2, 4, biases=False)(x, y),
        (x(), x(tokens=4, seed=1)),
    ),
    "embeddings": (lambda batch: Embeddings(EMBEDDINGS)(batch), (BATCH,)),
    "layer, post": (lambda x: EncoderLayer(LAYER)(x, jnp.asarray(BATCH.segment_ids)), (x(),)),
    "layer, pre": (lambda x: EncoderLayer(PRE)(x), (x(),)),
    "encoder": (lambda batch: Encoder(EncoderConfig(EMBEDDINGS, (LAYER,)))(batch).hidden, (BATCH,)),
    "encoder, pre": (
        lambda batch: Encoder(EncoderConfig(EMBEDDINGS, (PRE,), NormConfig()))(batch).hidden,
        (BATCH,),
    ),
    "pooling, mean": (lambda x: pool(x, BATCH, "mean"), (x(),)),
    "sequence head": (lambda x: Head(SEQUENCE_HEAD)(x, BATCH), (x(),)),
    "token head": (lambda x: Head(TOKEN_HEAD)(x, BATCH), (x(),)),
}
"""Name -> a function of arrays that makes and calls the block, and arguments for it."""
