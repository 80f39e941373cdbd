"""Every block of `encodax.nn` with an example input, for contracts that hold for all blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blocks import normal, packed

from encodax.config import (
    AttentionConfig,
    DisentangledConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    NormConfig,
    RelativeBiasConfig,
    RotaryConfig,
    TokenDropoutConfig,
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
from encodax.nn.pooling import POOLINGS

WIDTH = 8
EMBEDDINGS = EmbeddingsConfig(
    vocabulary_size=13, width=WIDTH, max_positions=10, type_vocabulary_size=2, norm=NormConfig(1e-5)
)
LAYER = LayerConfig(AttentionConfig(2, 4), FeedForwardConfig(12), norm=NormConfig(1e-5))
PRE = dataclasses.replace(LAYER, placement="pre")
SEQUENCE_HEAD = HeadConfig("sequence", classes=3, pooling="cls", dense_width=WIDTH)
TOKEN_HEAD = HeadConfig("token", classes=3)
NARROW = dataclasses.replace(
    EMBEDDINGS,
    width=5,
    projected_width=WIDTH,
    position_offset=2,
    type_vocabulary_size=1,
    mask_dropout=TokenDropoutConfig(12),
)
"""ALBERT's width, RoBERTa's offset and type, and ESM's masks, all in one."""
GATED = LayerConfig(
    AttentionConfig(2, 4, biases=False, output_bias=False, window=2, rotary=RotaryConfig(100.0)),
    FeedForwardConfig(12, "silu", gated=True, biases=False),
    norm=NormConfig(1e-5, bias=False),
    placement="pre",
    has_attention_norm=False,
)
"""ModernBERT's first layer, with a window."""
UNIT_HEAD = HeadConfig("embedding", pooling="weighted_mean", normalize=True)
TIED_HEAD = HeadConfig("vocabulary", 13, dense_width=WIDTH, norm=NormConfig(1e-5), tied=True)


def stack(**changes: Any) -> Callable[..., Any]:
    """The layers of an encoder, from embedded tokens."""
    config = EncoderConfig(EMBEDDINGS, (LAYER,), **changes)
    return lambda x: Encoder(config).stack(x, jnp.asarray(BATCH.segment_ids)).hidden


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
    "feed-forward, gated": (
        lambda x: FeedForward(12, "silu", gated=True, biases=False)(x),
        (x(),),
    ),
    "attention, rotary": (
        lambda x: MultiHeadAttention(2, 4, rotary=RotaryConfig(100.0))(
            x, position_ids=jnp.asarray(BATCH.position_ids)
        ),
        (x(),),
    ),
    "embeddings, narrow": (lambda batch: Embeddings(NARROW)(batch), (BATCH,)),
    "layer, gated": (lambda x: EncoderLayer(GATED)(x, jnp.asarray(BATCH.segment_ids)), (x(),)),
    "stack, relative bias": (stack(relative_positions=RelativeBiasConfig(8, 5)), (x(),)),
    "stack, disentangled": (
        stack(relative_positions=DisentangledConfig(3, norm=NormConfig(1e-5))),
        (x(),),
    ),
    "encoder, shared layers": (
        lambda batch: (
            Encoder(EncoderConfig(EMBEDDINGS, (LAYER,) * 2, parameter_groups=(0, 0)))(batch).hidden
        ),
        (BATCH,),
    ),
    **{
        f"pooling, {name}": (lambda x, name=name: pool(x, BATCH, name), (x(),)) for name in POOLINGS
    },
    "unit vectors": (lambda x: Head(UNIT_HEAD)(x, BATCH), (x(),)),
    "vocabulary head, tied": (
        lambda x, table: Head(TIED_HEAD)(x, BATCH, token_table=lambda: table),
        (x(), normal(13, WIDTH, seed=2)),
    ),
    "sequence head": (lambda x: Head(SEQUENCE_HEAD)(x, BATCH), (x(),)),
    "token head": (lambda x: Head(TOKEN_HEAD)(x, BATCH), (x(),)),
}
"""Name -> a function of arrays that makes and calls the block, and arguments for it."""
