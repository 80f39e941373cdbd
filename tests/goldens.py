"""Published configurations and tensors that the parity tests have stored."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import safetensors
from directories import small_tokenizer

from encodax import families
from encodax.config import ModelConfig
from encodax.families import Family
from encodax.model_files import weights
from encodax.models.encoder_model import Model
from encodax.models.forward import initial_params, parameter_shapes

FOLDER = Path(__file__).parent / "parity" / "goldens"
ALL = sorted(path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*/config.json"))
ENCODERS = {name.split("/")[0]: name for name in ALL if name.endswith("/encoder")}
"""Family -> its encoder without a head."""


def published(golden: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a golden, with keys changed."""
    return {**json.loads((FOLDER / golden / "config.json").read_text()), **changes}


def family_of(golden: str) -> Family:
    return families.family_named(published(golden)["model_type"])


def read(golden: str, **changes: Any) -> ModelConfig:
    return family_of(golden).read_config(published(golden, **changes))


@functools.cache
def parts(golden: str) -> Model:
    """The model, with a tokenizer of another: a golden has ids alone."""
    config = read(golden)
    loaded = weights.load(FOLDER / golden, parameter_shapes(config), family_of(golden), config)
    return Model(config, loaded.params, small_tokenizer(), loaded.extra_tensors)


@functools.cache
def shapes(config: ModelConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of the parameter tree."""
    tree = jax.eval_shape(functools.partial(initial_params, config), jax.random.key(0))
    return {path: {k: v.shape for k, v in leaves.items()} for path, leaves in tree.items()}


def stored(golden: str) -> dict[str, tuple[int, ...]]:
    """The tensors of the file, from its header."""
    with safetensors.safe_open(FOLDER / golden / "model.safetensors", framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
