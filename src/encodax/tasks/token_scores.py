"""Scores of single tokens: what masked language modelling and translation share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.tasks.task import Targets
from encodax.types.batches import ModelOutput

METRICS = ("perplexity", "accuracy")


def sums(
    output: ModelOutput, targets: Targets, loss: Float[Array, ""], weight: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """Return the quantities that an evaluation sums over batches.

    Args:
        output: output of the model, with logits.
        targets: the right tokens and their weights.
        loss: weighted sum of the loss of these tokens.
        weight: sum of their weights.
    """
    assert output.logits is not None
    is_right = jnp.argmax(output.logits, axis=-1) == targets.values  # (B, M)
    return {"loss": loss, "right": jnp.sum(is_right * targets.weights), "weight": weight}


def summary(sums: Mapping[str, float]) -> dict[str, float]:
    """Return perplexity (exp of the mean loss of a token), and the share of right tokens."""
    loss = sums["loss"] / sums["weight"]
    return {
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "accuracy": sums["right"] / sums["weight"],
        "loss": loss,
    }


def decode(
    scores: Float[np.ndarray, "tokens V"], encoding: Any, labels: tuple[str, ...]
) -> np.ndarray:
    """Return the most probable token at each position."""
    return np.argmax(scores, axis=-1)


def to_json(answer: Any) -> dict[str, Any]:
    """Return the JSON field `token_ids`."""
    return {"token_ids": [int(token) for token in answer]}
