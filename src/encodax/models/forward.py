"""The model as a pure function: blocks, head and output under one `hk.transform`."""

from __future__ import annotations

import functools
from collections.abc import Set as AbstractSet
from dataclasses import replace

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array

from encodax.config import UNROLLED, ExecutionConfig, HeadConfig, ModelConfig
from encodax.models.initialization import draw_params
from encodax.nn import Encoder, Head
from encodax.types.batches import ModelOutput, PackedBatch, Params


@functools.cache
def transformed(config: ModelConfig, execution: ExecutionConfig = UNROLLED) -> hk.Transformed:
    """Return the model's `init` and `apply`.

    `apply(params, rng, batch, is_training=, record=, tokens=, head_only=)` returns a `ModelOutput`;
    `Model.apply` documents the arguments.
    """

    def forward(
        batch: PackedBatch,
        *,
        is_training: bool,
        record: AbstractSet[str],
        tokens: Array | None = None,
        head_only: bool = False,
    ) -> ModelOutput:
        head = config.head
        encoder = Encoder(config.encoder, execution, name="encoder")
        read = batch
        if head_only and not record and head is not None and _reads_first_tokens(head):
            tokens = jnp.asarray(batch.starts)  # (B, N)
            first = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
            read = replace(batch, starts=first)
        encoded = encoder(batch, tokens=tokens, is_training=is_training, record=record)
        if head is None:
            return ModelOutput(encoded.hidden, None, None, encoded.records)
        answer = Head(head, name="head")(
            encoded.hidden, read, token_table=encoder.token_table, is_training=is_training
        )
        if head.kind == "embedding":
            vectors = answer[..., : config.usage.truncate_dim]
            return ModelOutput(encoded.hidden, None, vectors, encoded.records)
        return ModelOutput(encoded.hidden, answer, None, encoded.records)

    return hk.transform(forward)


def _reads_first_tokens(head: HeadConfig) -> bool:
    return head.pooling == "cls" and not head.skipped_tokens


def initial_params(config: ModelConfig, key: Array) -> Params:
    """Initialise parameters from a random key."""
    dummy = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))
    init = transformed(config).init
    return draw_params(init, key, dummy, is_training=False, record=frozenset())


def parameter_shapes(config: ModelConfig) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes of the parameters, without values."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]]
    # The key is made inside `eval_shape`, where making it compiles nothing.
    shapes = jax.eval_shape(lambda: initial_params(config, jax.random.key(0)))
    return shapes


def width_of(head: HeadConfig, model_width: int) -> int:
    """Return the width of the vector of an `embedding` head, before truncation."""
    if head.further_dense:
        return head.further_dense[-1].width
    poolings = 1 if head.pooling is None or isinstance(head.pooling, str) else len(head.pooling)
    return head.dense_width or model_width * poolings
