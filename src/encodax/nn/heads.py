"""What a task puts on the encoder: scores for each class."""

from __future__ import annotations

import haiku as hk
from jaxtyping import Array, Float

from encodax.config import HeadConfig
from encodax.nn import functional
from encodax.nn.linear import Linear
from encodax.nn.pooling import pool
from encodax.types import PackedBatch


class Head(hk.Module):
    """Pool (for a `sequence` head), dense with activation (where there is one), dropout, classify.

    Parameters: `dense` with w (D, D) and b (D,) where the config has it, and `output` with
    w (D, C) and b (C,).
    """

    def __init__(self, config: HeadConfig, name: str = "head"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self, hidden: Float[Array, "B T D"], batch: PackedBatch, *, is_training: bool = False
    ) -> Float[Array, "B _ C"]:
        """Logits (B, N, C), one for each slot, or (B, T, C), one for each token."""
        config = self.config
        x = hidden
        if config.pooling is not None:
            x = pool(hidden, batch, config.pooling)  # (B, N, D)
        if config.dense:
            x = functional.activation(config.activation)(Linear(x.shape[-1], name="dense")(x))
        x = functional.dropout(x, config.dropout_rate, is_training)
        return Linear(config.classes, name="output")(x)
