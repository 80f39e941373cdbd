"""all-MiniLM-L6-v2 as it is published: loaded, used, saved, and begun from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from toys import same

import encodax
from encodax import Embedder
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = "model.safetensors"
PASSAGES = [
    "To mend a flat tyre, take the wheel off and patch the hole in the tube.",
    "Bread rises because yeast makes bubbles of carbon dioxide in the dough.",
    "The capital of Portugal is Lisbon, at the mouth of the Tagus.",
    "Water boils at a lower temperature on a high mountain.",
    "Ada Lovelace wrote what is called the first computer program.",
    "The orchestra played a symphony by Beethoven last night.",
    "Cats sleep for most of the day and hunt at dusk.",
    "A black hole is a place that not even light can leave.",
    "Tomatoes want six hours of sun a day and a lot of water.",
    "The bank raised its interest rate by half a per cent.",
    "Vaccines teach the immune system to know a virus.",
    "The goalkeeper saved a penalty in the last minute of the match.",
]
QUESTIONS = {
    "how do I repair my bicycle's puncture?": 0,
    "why does dough get bigger?": 1,
    "which city do the Portuguese govern from?": 2,
    "who was the earliest programmer?": 4,
    "classical music concert": 5,
    "gravity in outer space": 7,
    "growing vegetables in the garden": 8,
    "protection against disease": 10,
    "football result": 11,
}


@pytest.fixture(scope="module")
def model(minilm: Path) -> Model:
    return encodax.load(minilm)


@pytest.fixture(scope="module")
def embedder(model: Model) -> Embedder:
    return Embedder(model)


def test_the_file_is_the_published_one(minilm: Path) -> None:
    assert hashlib.sha256((minilm / WEIGHTS).read_bytes()).hexdigest() == SHA256


def test_it_is_what_its_card_says(model: Model, embedder: Embedder) -> None:
    assert model.config.family == "bert"
    assert len(model.config.encoder.layers) == 6
    assert embedder.width == 384
    assert model.max_length == 256
    assert model.parameter_count() + sum(a.size for a in model.extra_tensors.values()) == 22_713_216
    np.testing.assert_allclose(np.linalg.norm(embedder.encode(PASSAGES), axis=1), 1, rtol=1e-5)


def test_a_search_finds_the_passage(embedder: Embedder) -> None:
    found = embedder.search(list(QUESTIONS), embedder.encode(PASSAGES), top_k=2)
    assert [hits[0].index for hits in found] == list(QUESTIONS.values())
    assert all(hits[0].score > hits[1].score + 0.05 for hits in found)


def test_packed_vectors_are_those_of_each_text_alone(embedder: Embedder) -> None:
    texts = [*PASSAGES, *QUESTIONS, "a", " ".join(PASSAGES)]
    alone = np.concatenate([embedder.encode([text]) for text in texts])
    np.testing.assert_allclose(embedder.encode(texts), alone, rtol=0, atol=1e-5)


def test_it_is_saved_as_it_was_loaded(model: Model, minilm: Path, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = encodax.load(tmp_path / "model")
    assert again.config == model.config
    assert same(again.params, model.params)
    assert again.tokenizer.encode(PASSAGES)[3].token_ids.tolist() == (
        model.tokenizer.encode(PASSAGES)[3].token_ids.tolist()
    )
    before, after = (
        safetensors.numpy.load_file(path / WEIGHTS) for path in (minilm, tmp_path / "model")
    )
    after = {f"{name}": array for name, array in after.items()}
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert before.keys() - after.keys() <= {"embeddings.position_ids"}


def test_a_classifier_takes_the_pooler_of_the_file(model: Model, minilm: Path) -> None:
    stored = safetensors.numpy.load_file(minilm / WEIGHTS)
    fresh = model.with_head("sequence", labels=("a", "b"))
    pooler = fresh.params["head/dense"]
    np.testing.assert_array_equal(pooler["w"], stored["pooler.dense.weight"].T)
    np.testing.assert_array_equal(pooler["b"], stored["pooler.dense.bias"])
    assert not any("pooler" in name for name in fresh.extra_tensors)
    assert any("pooler" in name for name in model.extra_tensors)
    encoder = {path: leaves for path, leaves in fresh.params.items() if path.startswith("encoder/")}
    assert same(encoder, {path: leaves for path, leaves in model.params.items()})
    assert fresh.params["head/output"]["w"].shape == (384, 2)


def test_texts_longer_than_it_was_made_for_are_refused_or_cut(embedder: Embedder) -> None:
    fits = "word " * 254
    embedder.encode([fits])
    with pytest.raises(
        EncodaxError, match=r"text 1: 257 tokens, and the model takes 256; .*truncate=True"
    ):
        embedder.encode([fits, fits + "word"])
    cut = embedder.encode([fits + "another end"], truncate=True)
    np.testing.assert_allclose(cut, embedder.encode([fits]), rtol=0, atol=1e-5)
