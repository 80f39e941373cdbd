"""Texts to vectors: in order, whatever shares a row, a window at a time."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import drawn

from encodax import Embedder
from encodax.config import HeadConfig, InferenceConfig, Similarity
from encodax.errors import EncodaxError
from encodax.inference import vectors
from encodax.models.encoder_model import Model

AHEAD = 6
"""Windows at most: one that waits, one that is tokenized, one that is packed, those in flight."""
TEXTS = ["the cat sat", "a dog", "what a wonderful film!", "dull", "he met him in Paris", "the cat"]
LONG = "cat " * 40
PROMPTS = (("query", "a dog ran "), ("document", "the film "))


@pytest.fixture(scope="module")
def embedder(tiny_model: Model) -> Embedder:
    return Embedder(tiny_model)


def prompted(model: Model, default: str | None = None, similarity: Similarity = "cosine") -> Model:
    usage = InferenceConfig(PROMPTS, default, similarity)
    model = model.with_embeddings()
    return replace(model, config=replace(model.config, usage=usage))


def assert_near(first: Any, second: Any) -> None:
    np.testing.assert_allclose(first, second, rtol=0, atol=2e-6)


def test_vectors_come_in_order_and_are_those_of_each_text_alone(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    assert alone.shape == (len(TEXTS), 16)
    assert alone.dtype == np.float32
    assert len(np.unique(alone.round(3), axis=0)) == len(TEXTS)
    for order in itertools.islice(itertools.permutations(range(len(TEXTS))), 0, 720, 240):
        assert_near(embedder.encode([TEXTS[index] for index in order]), alone[list(order)])


def test_a_vector_is_the_mean_of_the_tokens_of_a_padded_batch(
    tiny_model: Model, embedder: Embedder
) -> None:
    batch = tiny_model.batch(TEXTS)
    hidden = np.asarray(tiny_model.apply(tiny_model.params, batch).hidden)
    lengths = np.asarray(batch.lengths)[:, 0]
    wanted = [row[:length].mean(axis=0) for row, length in zip(hidden, lengths, strict=True)]
    assert_near(embedder.encode(TEXTS), wanted)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_an_embedder_is_taken_as_it_is(tiny_model: Model, pooling: Any, normalize: bool) -> None:
    model = tiny_model.with_embeddings(pooling, normalize=normalize)
    found = Embedder(model).encode(TEXTS)
    assert_near(found, np.asarray(model.apply(model.params, model.batch(TEXTS)).vectors)[:, 0])
    assert np.allclose(np.linalg.norm(found, axis=1), 1) == normalize


def test_the_width_is_that_of_the_vectors(tiny_model: Model, embedder: Embedder) -> None:
    assert embedder.width == embedder.encode(TEXTS).shape[1] == 16
    head = HeadConfig("embedding", pooling="mean", dense_width=5)
    config = replace(tiny_model.config, head=head, labels=())
    dense = drawn({"w": np.zeros((16, 5), np.float32), "b": np.zeros(5, np.float32)})  # type: ignore[dict-item]
    model = replace(tiny_model, config=config, params={**tiny_model.params, "head/dense": dense})
    narrow = Embedder(model)
    assert narrow.width == narrow.encode(TEXTS).shape[1] == narrow.encode([]).shape[1] == 5


def test_no_text_has_no_vector(embedder: Embedder) -> None:
    found = embedder.encode([])
    assert (found.shape, found.dtype) == ((0, 16), np.float32)


def test_one_string_is_no_list_of_texts(embedder: Embedder) -> None:
    with pytest.raises(EncodaxError, match="give a list of texts, not one string"):
        embedder.encode("the cat")


# Prompts.


def test_a_prompt_goes_before_each_text(tiny_model: Model) -> None:
    embedder, plain = Embedder(prompted(tiny_model)), Embedder(tiny_model)
    assert embedder.prompts == dict(PROMPTS)
    for name, prompt in PROMPTS:
        wanted = plain.encode([prompt + text for text in TEXTS])
        assert_near(embedder.encode(TEXTS, prompt=name), wanted)
    assert_near(embedder.encode(TEXTS), plain.encode(TEXTS))


def test_the_default_prompt_is_used_where_none_is_chosen(tiny_model: Model) -> None:
    embedder, plain = Embedder(prompted(tiny_model, "document")), Embedder(tiny_model)
    assert_near(embedder.encode(TEXTS), plain.encode([f"the film {text}" for text in TEXTS]))
    chosen = embedder.encode(TEXTS, prompt="query")
    assert_near(chosen, plain.encode([f"a dog ran {text}" for text in TEXTS]))


@pytest.mark.parametrize("texts", [TEXTS, []])
def test_an_unknown_prompt_is_refused(
    tiny_model: Model, embedder: Embedder, texts: list[str]
) -> None:
    with pytest.raises(EncodaxError, match="no prompt 'passage'; it has: query, document"):
        Embedder(prompted(tiny_model)).encode(texts, prompt="passage")
    with pytest.raises(EncodaxError, match="no prompt 'query'; it has: none"):
        embedder.encode(texts, prompt="query")


@pytest.mark.parametrize("prompt", [None, "query"])
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(tiny_model: Model, text: str, prompt: str | None) -> None:
    with pytest.raises(EncodaxError, match="text 1: the text is empty"):
        Embedder(prompted(tiny_model)).encode(["the cat", text], prompt=prompt)


# Long texts, long streams.


def test_a_long_text_is_refused_or_cut_and_counted(
    embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EncodaxError, match="text 1: 42 tokens, and the model takes 32"):
        embedder.encode(["the cat", LONG])
    with caplog.at_level(logging.WARNING, logger="encodax"):
        found = embedder.encode([LONG, "the cat", LONG], truncate=True)
        embedder.encode(["the cat"], truncate=True)
    assert [record.getMessage() for record in caplog.records] == ["2 texts were cut to 32 tokens"]
    assert_near(found[0], embedder.encode(["cat " * 30])[0])


def test_windows_count_together_and_go_on_counting_texts(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 2)
    texts = ["the cat", LONG, "a dog", LONG, LONG]
    with pytest.raises(EncodaxError, match="text 3: 42 tokens"):
        embedder.encode(["the cat", "a dog", "a dog", LONG])
    with caplog.at_level(logging.WARNING, logger="encodax"):
        found = embedder.encode(texts, truncate=True)
    assert [record.getMessage() for record in caplog.records] == ["3 texts were cut to 32 tokens"]
    assert_near(found[[0, 2]], embedder.encode(["the cat", "a dog"]))


def test_a_stream_reads_a_few_windows_ahead_of_an_endless_source(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 4)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for text in itertools.cycle(TEXTS):
            read += 1
            yield text

    rows = embedder.stream(endless())
    assert read == 0
    found = [next(rows)]
    assert read <= AHEAD * 4 + 1  # the one that the reader holds
    found += itertools.islice(rows, 8)
    assert read <= 8 + AHEAD * 4 + 1
    wanted = embedder.encode(TEXTS)
    assert_near(found, np.concatenate([wanted, wanted[:3]]))


# Comparing.


@pytest.mark.parametrize("by", ["cosine", "dot", "euclidean", "manhattan"])
def test_vectors_compare_as_the_model_says(tiny_model: Model, by: Similarity) -> None:
    embedder = Embedder(prompted(tiny_model, similarity=by))
    rows = embedder.encode(TEXTS)
    found = embedder.similarity(rows[:2], rows)
    np.testing.assert_array_equal(found, vectors.similarity(rows[:2], rows, by))
    assert len({round(float(score), 6) for score in found[0]}) > 3


@pytest.mark.parametrize("by", ["cosine", "manhattan"])
def test_a_search_is_that_of_the_vectors_with_the_prompt_of_queries(
    tiny_model: Model, by: Similarity
) -> None:
    embedder = Embedder(prompted(tiny_model, similarity=by))
    corpus = embedder.encode(TEXTS, prompt="document")
    queries: Sequence[str] = ["the cat ran", "a film"]
    wanted = vectors.search(embedder.encode(queries, prompt="query"), corpus, 3, by)
    assert embedder.search(queries, corpus, top_k=3) == wanted


def test_a_text_finds_itself(embedder: Embedder) -> None:
    found = embedder.search(TEXTS, embedder.encode(TEXTS), top_k=1)
    assert [[hit.index for hit in hits] for hits in found] == [[index] for index in range(6)]
    assert all(hits[0].score == pytest.approx(1, abs=1e-5) for hits in found)
    assert len(embedder.search(["the cat"], embedder.encode(TEXTS))[0]) == len(TEXTS)


def test_a_long_query_is_refused_or_cut(embedder: Embedder) -> None:
    corpus = embedder.encode(TEXTS)
    with pytest.raises(EncodaxError, match="text 0: 42 tokens"):
        embedder.search([LONG], corpus)
    assert len(embedder.search([LONG], corpus, top_k=2, truncate=True)[0]) == 2
