"""Partition of the parameters into trained and frozen ones."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from encodax.errors import EncodaxError
from encodax.model_files.peft import SCALE, merge
from encodax.training.step.lora import LoraConfig, initial_adapter
from encodax.training.step.patterns import combine, matching, partition
from encodax.types.batches import Params


def trainable(
    params: Params, *, key: Array, lora: LoraConfig | None = None, freeze: str | None = None
) -> tuple[Params, Params]:
    """Split the parameters into trained and frozen ones; `merged_params` joins them.

    With `lora` the weights of the encoder are frozen; their adapters and the head are trained.

    Args:
        params: parameters of the model.
        key: random key for the adapters.
        lora: settings of the adapters; None to train all weights.
        freeze: regular expression of further parameters to freeze, over names such as
            `encoder/layer_3/attention/query/w` or, for an adapter, `.../query/lora_a`.

    Returns:
        Two trees, trained and frozen. Next to a frozen weight is the scale of its adapter,
        `lora_scale`.

    Raises:
        EncodaxError: a pattern matches nothing, or everything.
    """
    is_trained = {path: dict.fromkeys(leaves, True) for path, leaves in params.items()}
    if lora is not None:
        scale = jnp.asarray(lora.scale, jnp.float32)
        adapter = initial_adapter(params, lora, key)
        params = {
            path: {**leaves, **adapter[path], SCALE: scale} if path in adapter else leaves
            for path, leaves in params.items()
        }
        is_trained = {
            path: {
                leaf: path.startswith("head/") or leaf in adapter.get(path, {}) for leaf in leaves
            }
            for path, leaves in params.items()
        }
    if freeze is not None:
        frozen = matching(params, freeze)
        is_trained = {
            path: {leaf: trains and not frozen[path][leaf] for leaf, trains in leaves.items()}
            for path, leaves in is_trained.items()
        }
        if not any(any(leaves.values()) for leaves in is_trained.values()):
            raise EncodaxError(f"freeze {freeze!r} leaves nothing to train: freeze less")
    return partition(params, is_trained)


def merged_params(trained: Params, frozen: Params) -> Params:
    """Return the parameters of the model: both trees joined, adapters merged into the weights."""
    return merge(combine(trained, frozen))
