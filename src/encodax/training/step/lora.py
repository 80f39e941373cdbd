"""LoRA: weights are frozen, and a product of two narrow matrices is learned for some of them.

Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array

from encodax.model_files import peft, saved_model
from encodax.model_files.peft import A, B
from encodax.models.encoder_model import Model
from encodax.options.training import LoraConfig as LoraConfig
from encodax.options.training import compiled
from encodax.training.step.patterns import no_match
from encodax.types.batches import Params

IN_LAYERS = re.compile(r"encoder/layer_\d+/")
"""Pattern of the modules that may have an adapter: linear layers of the stack. Heads are trained
whole."""


def initial_adapter(params: Params, config: LoraConfig, key: Array) -> Params:
    """Create A and B of each target, such that A B is 0 and nothing has changed yet.

    A (in, r) is uniform within +-1/sqrt(in), as in PEFT; B (r, *out) is 0 (section 4.1). A of a
    module depends on the key and on the module's place among the targets.

    Args:
        params: parameters of the model: `w` (in, *out) where a module can be a target.
        config: target modules, and r.
        key: random key for A.

    Raises:
        EncodaxError: no module is a target.
    """
    found = compiled(config.targets)
    linear = [
        path
        for path, leaves in params.items()
        if IN_LAYERS.match(path) and "w" in leaves and len(leaves["w"].shape) > 1
    ]
    targets = sorted(path for path in linear if found.search(path))
    if not targets:
        raise no_match(config.targets, linear)
    keys = jax.random.split(key, len(targets))
    return {
        path: _factors(params[path]["w"].shape, config.rank, own)
        for path, own in zip(targets, keys, strict=True)
    }


def _factors(shape: tuple[int, ...], rank: int, key: Array) -> dict[str, Array]:
    bound = 1 / math.sqrt(shape[0])
    return {
        A: jax.random.uniform(key, (shape[0], rank), minval=-bound, maxval=bound),  # (in, r)
        B: jnp.zeros((rank, *shape[1:])),  # (r, *out)
    }


def save_adapter(
    directory: Path | str,
    model: Model,
    trained: Params,
    config: LoraConfig,
    base_model_name: str,
    *,
    overwrite: bool = False,
) -> None:
    """Write trained parameters as PEFT does, for `PeftModel.from_pretrained` and `encodax.load`.

    Args:
        directory: directory to write.
        model: the model with its head, which is saved whole; its encoder's parameters are not used.
        trained: `lora_a`, `lora_b`, and the parameters trained whole, such as the head.
        config: rank and scale.
        base_model_name: base model of the adapter, a directory or an id on the Hub.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf (fused weights), or the directory cannot
            be written.
    """
    peft.write(
        Path(directory),
        saved_model.ModelParts(model.config, model.params, model.tokenizer, files=model.files),
        trained,
        rank=config.rank,
        alpha=config.alpha,
        base=base_model_name,
        max_length=model.max_length,
        overwrite=overwrite,
    )
