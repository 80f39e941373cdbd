"""Losses that several tasks share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.options.loss import LossOptions
from encodax.tasks.task import Targets
from encodax.types.batches import AnyBatch, ModelOutput


def classes_loss(
    output: ModelOutput, targets: Targets, batch: AnyBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross entropy of the head's scores."""
    assert output.logits is not None
    return cross_entropy(
        output.logits, targets, loss_options.label_smoothing, weights_of(loss_options.class_weights)
    )


def weights_of(weights: Any) -> Float[np.ndarray, " C"] | None:
    """Return the weight of each class, as computed by `class_weights.weighted`."""
    return None if weights is None else np.asarray([*weights.values()], np.float32)


def cross_entropy(
    logits: Float[Array, "*places C"],
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Float[np.ndarray, " C"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute cross entropy as (weighted sum, weight): sum both over all batches, then divide.

    log sum_c exp(z_c) - (1 - e) z_right - (e / C) sum_c z_c

    With smoothing e the target is (1 - e) at the right class plus e / C everywhere (Szegedy et
    al. 2016, arXiv:1512.00567, section 7). With class weights a place has the weight of its right
    class.
    """
    scores = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(scores, axis=-1)  # (*places)
    right = jnp.take_along_axis(scores, jnp.asarray(targets.values)[..., None], axis=-1)[..., 0]
    if label_smoothing:  # for all classes without an array of smoothed targets
        right = (1 - label_smoothing) * right + label_smoothing * jnp.mean(scores, axis=-1)
    weights = jnp.asarray(targets.weights)  # (*places)
    if class_weights is not None:
        weights = weights * jnp.asarray(class_weights)[jnp.asarray(targets.values)]
    return jnp.sum((total - right) * weights), jnp.sum(weights)
