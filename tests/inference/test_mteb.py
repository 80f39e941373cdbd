"""An embedder called as mteb calls one."""

from __future__ import annotations

import enum
import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from encodax import Embedder
from encodax.config import InferenceConfig
from encodax.errors import EncodaxError
from encodax.inference.mteb import MtebEncoder
from encodax.models.encoder_model import Model

BATCHES = [{"text": ["the cat sat", "a dog"]}, {"text": ["a film"], "title": ["x"]}]
TEXTS = ["the cat sat", "a dog", "a film"]
has_mteb = importlib.util.find_spec("mteb") is not None


class PromptType(enum.Enum):
    """As mteb has it."""

    query = "query"
    document = "document"


def embedder_of(model: Model, **usage: Any) -> Embedder:
    model = model.with_embeddings()
    return Embedder(replace(model, config=replace(model.config, usage=InferenceConfig(**usage))))


def called(embedder: Embedder, prompt_type: Any) -> np.ndarray:
    encoder = MtebEncoder(embedder, "tiny")
    return encoder.encode(
        iter(BATCHES),
        task_metadata=None,
        hf_split="test",
        hf_subset="default",
        prompt_type=prompt_type,
        batch_size=2,
    )


@pytest.mark.parametrize("prompt_type", [None, PromptType.query, PromptType.document])
def test_batches_become_vectors_in_order(tiny_model: Model, prompt_type: Any) -> None:
    embedder = embedder_of(tiny_model)
    np.testing.assert_array_equal(called(embedder, prompt_type), embedder.encode(TEXTS))


@pytest.mark.parametrize("default", [None, "query"])
def test_a_side_has_its_prompt(tiny_model: Model, default: str | None) -> None:
    prompts = (("query", "a dog ran "), ("document", "the film "), ("other", "a film "))
    embedder = embedder_of(tiny_model, prompts=prompts, default_prompt=default)
    sides = ((PromptType.query, "query"), (PromptType.document, "document"), (None, None))
    for side, name in sides:
        np.testing.assert_array_equal(called(embedder, side), embedder.encode(TEXTS, prompt=name))
    assert not np.allclose(called(embedder, PromptType.document), called(embedder, None))


def test_long_texts_are_cut(tiny_model: Model) -> None:
    encoder = MtebEncoder(embedder_of(tiny_model), "tiny")
    assert encoder.encode([{"text": ["cat " * 99]}]).shape == (1, 16)


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_vectors_compare_as_the_model_says(tiny_model: Model, kind: Any) -> None:
    embedder = embedder_of(tiny_model, similarity=kind)
    rows = embedder.encode(TEXTS)
    encoder = MtebEncoder(embedder, "tiny")
    every = encoder.similarity(list(rows), rows[::-1])
    np.testing.assert_array_equal(every, embedder.similarity(rows, rows[::-1]))
    pairs = encoder.similarity_pairwise(rows, rows[::-1])
    assert pairs.shape == (3,)
    # A distance near 0 is the root of a difference of squares: of 1e-7, 3e-4.
    np.testing.assert_allclose(pairs, np.diagonal(every), rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(has_mteb, reason="mteb is installed")
def test_without_mteb_its_form_is_refused(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match="mteb is not installed: pip install mteb"):
        _ = MtebEncoder(embedder_of(tiny_model), "tiny").mteb_model_meta


@pytest.mark.skipif(not has_mteb, reason="mteb is not installed")
def test_mteb_is_told_the_name(tiny_model: Model) -> None:
    meta = MtebEncoder(embedder_of(tiny_model), "me/tiny", "abc").mteb_model_meta
    assert (meta.name, meta.revision) == ("me/tiny", "abc")
