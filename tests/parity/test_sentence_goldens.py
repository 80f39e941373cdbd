"""The files of sentence-transformers: what it answers with them, we answer, and save for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directories import assert_same_parameters

from encodax import Classifier, Embedder, Reranker
from encodax.inference.mteb import MtebEncoder
from encodax.models.encoder_model import Model

GOLDENS = Path(__file__).parent / "goldens-sentence"
ALL = sorted(path.parent.name for path in GOLDENS.glob("*/expected.json"))
EMBEDDERS = [name for name in ALL if not name.startswith("ce-")]
CROSS_ENCODERS = [name for name in ALL if name.startswith("ce-")]


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDENS / name / "expected.json").read_text())
    return found


def assert_equal(found: Any, wanted: Any) -> None:
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_vectors_are_those_of_sentence_transformers(name: str) -> None:
    wanted = expected(name)
    embedder, texts = Embedder.load(GOLDENS / name), wanted["texts"]
    assert embedder.width == embedder.model.vector_width == len(wanted["encode"][0])
    assert_equal(embedder.encode(texts, truncate=True), wanted["encode"])
    assert_equal(embedder.encode_query(texts, truncate=True), wanted["query"])
    assert_equal(embedder.encode_document(texts, truncate=True), wanted["document"])
    assert {key for key, prompt in embedder.prompts.items() if prompt} == set(wanted["named"])
    for prompt, vectors in wanted["named"].items():
        assert_equal(embedder.encode(texts, prompt=prompt, truncate=True), vectors)


@pytest.mark.parametrize("name", ["prompts", "prompts-no-document"])
def test_a_search_is_one_of_queries_in_documents(name: str) -> None:
    wanted = expected(name)
    embedder = Embedder.load(GOLDENS / name)
    texts = wanted["texts"]
    corpus = embedder.encode_document(texts)
    scores = embedder.similarity(np.array(wanted["query"], np.float32), corpus)
    for row, hits in zip(scores, embedder.search(texts, corpus), strict=True):
        assert [hit.index for hit in hits] == np.argsort(-row, kind="stable").tolist()
        assert_equal([hit.score for hit in hits], np.sort(row)[::-1])
    encoder = MtebEncoder(embedder, "golden")
    for side in ("query", "document"):
        assert_equal(encoder.encode([{"text": texts}], prompt_type=side), wanted[side])


def classes(scores: Any) -> Any:
    """Probabilities of logits."""
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", CROSS_ENCODERS)
def test_scores_are_those_of_the_cross_encoder(name: str) -> None:
    wanted = expected(name)
    pairs = [tuple(pair) for pair in wanted["pairs"]]
    model = Model.load(GOLDENS / name)
    if model.config.head is not None and model.config.head.classes == 1:
        assert_equal(Reranker(model).predict(pairs, truncate=True), wanted["scores"])
    if name == "ce-plain":  # nothing says that it is a cross-encoder
        return
    answers = Classifier(model).predict(pairs, truncate=True)
    found = [[answer.scores[label] for label in model.labels] for answer in answers]
    scores = np.reshape(wanted["scores"], (len(pairs), -1))
    assert_equal(found, classes(scores) if name == "ce-three" else scores)


@pytest.mark.parametrize("name", ["ce-length", "ce-length-even", "ce-sigmoid", "ce-plain"])
def test_long_pairs_are_cut_to_the_tokens_of_the_cross_encoder(name: str) -> None:
    wanted = expected(name)
    pairs = [tuple(pair) for pair in wanted["pairs"]]
    encodings, _ = Model.load(GOLDENS / name).encode(pairs, truncate=True)
    assert [encoding.token_ids.tolist() for encoding in encodings] == wanted["ids"]


def test_another_prompt_of_a_cross_encoder_can_be_chosen() -> None:
    reranker = Reranker.load(GOLDENS / "ce-prompts")
    query, text = "the cat", "a dog ran"
    plain = Reranker.load(GOLDENS / "ce-sigmoid")  # the same weights
    for name, prompt in reranker.prompts.items():
        (found,) = reranker.predict([(query, text)], prompt=name)
        assert found == pytest.approx(plain.predict([(prompt + query, text)])[0], abs=1e-6)
        assert reranker.rank(query, [text], prompt=name)[0].score == pytest.approx(found, abs=1e-6)


def json_files(place: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(place)): json.loads(path.read_text()) for path in place.rglob("*.json")
    }


@pytest.mark.parametrize("name", ALL)
def test_what_is_saved_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = Model.load(GOLDENS / name)
    model.save(tmp_path / "saved")
    again = Model.load(tmp_path / "saved")
    assert again.config == model.config
    assert again.max_length == model.max_length
    assert_same_parameters(again, model)
    texts = ["The Cat sat", ("the dog", "an old film")]
    first, second = (each.encode(texts, truncate=True)[0] for each in (model, again))
    for own, other in zip(first, second, strict=True):
        assert own.token_ids.tolist() == other.token_ids.tolist()
    again.save(tmp_path / "again")
    assert json_files(tmp_path / "again") == json_files(tmp_path / "saved")
