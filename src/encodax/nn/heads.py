"""Heads: layers of a task on top of the encoder, for scores or vectors."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
from jaxtyping import Array, Float

from encodax.config import HeadConfig
from encodax.nn import functional
from encodax.nn.layer_norm import norm_of
from encodax.nn.linear import Linear
from encodax.nn.pooling import pool
from encodax.types.batches import PackedBatch


class Head(hk.Module):
    """Head: pool -> dropout -> dense -> activation -> norm -> dropout -> output, or length 1.

    Each step is there where the config has it (see `HeadConfig`). Parameters: `dense` with w
    (D, D') and b (D',), `dense_2`, ... for further dense layers, `norm`, and `output` with w
    (D', C) and b (C,). An output tied to the token embeddings has only b.
    """

    def __init__(self, config: HeadConfig, name: str = "head"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "B T D"],
        batch: PackedBatch,
        *,
        token_table: Callable[[], Float[Array, "V E"]] | None = None,
        is_training: bool = False,
    ) -> Float[Array, "B _ C"]:
        """Return scores (B, N, C), one for each slot, or (B, T, C), one for each token; or vectors.

        Args:
            hidden: (B, T, D), output of the encoder.
            batch: input of the encoder.
            token_table: function that returns the token embeddings, for a tied output.
            is_training: apply dropout.
        """
        config = self.config
        x = hidden
        if config.pooling is not None:
            x = pool(hidden, batch, config.pooling, skipped=config.skipped_tokens)  # (B, N, D)
        x = functional.dropout(x, config.input_dropout_rate, is_training)
        if config.dense_width is not None:
            dense = Linear(config.dense_width, bias=config.dense_bias, name="dense")
            x = functional.activation(config.activation)(dense(x))
        for number, layer in enumerate(config.further_dense, 2):
            dense = Linear(layer.width, bias=layer.bias, name=f"dense_{number}")
            x = functional.activation(layer.activation)(dense(x))
        if config.norm is not None:
            x = norm_of(config.norm, "norm")(x)
        x = functional.dropout(x, config.dropout_rate, is_training)
        if config.kind == "embedding":
            return functional.unit(x) if config.normalize else x
        output = Linear(config.classes, bias=config.output_bias, name="output")
        if config.tied:
            if token_table is None:
                raise ValueError("a tied output needs the table of token embeddings")
            return functional.linear(x, output.tied_to(token_table()))
        return output(x)
