"""What a step trains, and what it leaves."""

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
    """Part the parameters into what is trained and what is not; `merged_params` puts them together.

    With `lora` the weights of the encoder are not trained: adapters are, beside them, and the head.

    Args:
        params: of the model.
        key: what adapters are drawn from.
        lora: which weights are adapted; None to train them all.
        freeze: regular expression of what else is not trained, over names such as
            `encoder/layer_3/attention/query/w` or, of an adapter, `.../query/lora_a`.

    Returns:
        Two trees. Beside a frozen weight stands the scale of its adapter, `lora_scale`.

    Raises:
        EncodaxError: a pattern matches nothing, or all.
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
            raise EncodaxError(f"freeze {freeze!r} leaves nothing to train: choose less")
    return partition(params, is_trained)


def merged_params(trained: Params, frozen: Params) -> Params:
    """The parameters of the model: both trees together, and adapters merged into the weights."""
    return merge(combine(trained, frozen))
