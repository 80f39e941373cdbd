"""Small model directories: the goldens with a tokenizer, and ways to damage them."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from encodax.errors import EncodaxError
from encodax.model_files import peft
from encodax.model_files.saved_model import ModelParts
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Tokenizer

GOLDENS = Path(__file__).parent / "parity" / "goldens"
BERT_HEADS = sorted(path.parent.name for path in GOLDENS.glob("bert/*/config.json"))


@functools.cache
def small_tokenizer() -> Tokenizer:
    """At most as many tokens as the goldens have rows."""
    tokenizer = Tokenizer.train(("the cat sat", "a dog ran"), vocabulary_size=40)
    assert tokenizer.vocabulary_size <= 40
    return tokenizer


def published(place: Path, golden: str = "bert/sequence") -> Path:
    """A published model, as a directory that loads."""
    place.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDENS / golden / name, place / name)
    small_tokenizer().save(place)
    return place


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def tensors_of(directory: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(directory / "model.safetensors")


def store(directory: Path, tensors: dict[str, np.ndarray]) -> None:
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    safetensors.numpy.save_file(contiguous, directory / "model.safetensors")


def refusal(call: Callable[[], object]) -> str:
    """The one line of the error that a call ends with."""
    with pytest.raises(EncodaxError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), f"not one line: {message!r}"
    assert message
    return message


def load_refusal(directory: Path) -> str:
    return refusal(lambda: Model.load(directory))


def assert_same_parameters(first: Model, second: Model) -> None:
    """Bit by bit; what the files carry beside them too."""
    assert jax.tree.structure(first.params) == jax.tree.structure(second.params)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert first.extra_tensors.keys() == second.extra_tensors.keys()
    for name, array in first.extra_tensors.items():
        np.testing.assert_array_equal(array, second.extra_tensors[name])


def adapter_of(base: Path, model: Model, place: Path, value: float) -> Path:
    """An adapter directory, with the head, the labels and the tokenizer of a model."""
    width = model.config.encoder.embeddings.model_width
    leaves = {
        "lora_a": jnp.full((width, 2), value),
        "lora_b": jnp.ones((2, width)),
    }
    peft.write(
        place,
        ModelParts(model.config, model.params, model.tokenizer),
        {"encoder/layer_0/attention/output": leaves},
        rank=2,
        alpha=2.0,
        base=str(base),
        max_length=None,
    )
    return place
