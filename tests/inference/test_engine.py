"""Packed rows give each sequence what it gets alone, in few shapes."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import drawn
from toys import classifier, tagger

from encodax.config import HeadConfig
from encodax.data.stream import Live
from encodax.errors import EncodaxError
from encodax.inference.engine import Engine, head_output
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput

WORDS = ["good", "bad", "thing", "number", "on", "Monday", "we", "met", "they", "all"]


def encoded(model: Model, count: int, seed: int) -> list[Encoding]:
    """So many texts of 1 to 8 words."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, 1 + index % 8)) for index in range(count)]
    return model.encode(texts, truncate=True)[0]


def engine_of(model: Model) -> Engine:
    assert model.config.head is not None
    return Engine(model, *head_output(model.config.head))


@pytest.fixture(scope="module", params=["sequence", "token"])
def engine(request: pytest.FixtureRequest) -> tuple[Model, Engine]:
    """Parameters that are the same on every machine, as trained ones, and so rounding, are not."""
    model = (classifier() if request.param == "sequence" else tagger()).model
    model = dataclasses.replace(model, params=drawn(model.params))
    return model, engine_of(model)


def test_packed_scores_are_those_of_each_sequence_alone(engine: tuple[Model, Engine]) -> None:
    model, packed = engine
    encodings = encoded(model, count=200, seed=0)
    together = packed.run(encodings)
    assert len(together) == 200
    for encoding, scores in zip(encodings, together, strict=True):
        (alone,) = packed.run([encoding])
        np.testing.assert_allclose(scores, alone, rtol=0, atol=1e-6)


def test_scores_are_those_of_a_padded_batch(engine: tuple[Model, Engine]) -> None:
    model, packed = engine
    texts = ["good thing", "bad", "on Monday we met"]
    logits = jax.jit(model.apply)(model.params, model.batch(texts)).logits
    assert logits is not None
    padded = np.asarray(jax.nn.softmax(logits))
    encodings, _ = model.encode(texts)
    for index, (encoding, scores) in enumerate(zip(encodings, packed.run(encodings), strict=True)):
        is_sequence = scores.ndim == 1
        wanted = padded[index, 0] if is_sequence else padded[index, : len(encoding)]
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6)


def test_scores_are_probabilities(engine: tuple[Model, Engine]) -> None:
    model, packed = engine
    for scores in packed.run(encoded(model, count=20, seed=1)):
        assert (scores >= 0).all()
        np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)


def test_no_sequence_gives_no_scores(engine: tuple[Model, Engine]) -> None:
    assert engine[1].run([]) == []


def test_texts_of_similar_lengths_compile_nothing_new(
    engine: tuple[Model, Engine], caplog: pytest.LogCaptureFixture
) -> None:
    model, packed = engine
    counts = (200, 37, 3, 1)
    for count in counts:
        packed.run(encoded(model, count, seed=2))
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for count in (*counts, 180, 50, 2):
            packed.run(encoded(model, count, seed=3))
    assert [record.getMessage() for record in caplog.records] == []


def test_a_live_stream_compiles_nothing_new(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a window has in it when its time is over."""
    model = classifier().model
    engine = engine_of(model)
    engine.warm_up()
    groups = [encoded(model, count, seed=count) for count in (1, 37, 3, 150, 2)]
    go_on = threading.Semaphore(0)

    def source() -> Iterator[Encoding]:
        for group in groups:
            yield from group
            assert go_on.acquire(timeout=60), "what had come was not answered"

    def as_they_are(window: list[Encoding]) -> tuple[list[list[Encoding]], int]:
        return [[encoding] for encoding in window], 0

    ends = set(itertools.accumulate(len(group) for group in groups))
    found: list[np.ndarray] = []
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for _, _, (scores,) in engine.stream(source(), as_they_are, len, live=Live(0.01)):
            found.append(scores)
            if len(found) in ends:  # all that has come is answered, and now there is more
                go_on.release()
    assert [record.getMessage() for record in caplog.records] == []
    alone = [engine.run([encoding])[0] for group in groups for encoding in group]
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)


def test_few_shapes_are_compiled(caplog: pytest.LogCaptureFixture) -> None:
    """One row of 16, 32 or 64 tokens, or 4 or 16 rows of 64."""
    model = classifier().model
    engine = engine_of(model)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for count in range(1, 120, 7):
            engine.run(encoded(model, count, seed=count))
    messages = [record.getMessage() for record in caplog.records]
    assert 1 <= sum("Finished XLA compilation of jit(answer)" in line for line in messages) <= 5


def test_other_parameters_may_be_given() -> None:
    model = classifier().model
    engine = engine_of(model)
    encodings = encoded(model, count=3, seed=4)
    nothing = jax.tree.map(jnp.zeros_like, model.params)
    for scores in engine.run(encodings, nothing):
        np.testing.assert_allclose(scores, 0.5)
    assert not np.allclose(engine.run(encodings)[0], 0.5)


def test_scores_that_are_not_finite_are_refused() -> None:
    model = classifier().model
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, np.nan), model.params)
    with pytest.raises(EncodaxError, match="scores are not finite"):
        engine_of(model).run(encoded(model, count=3, seed=5), broken)


def test_an_answer_may_be_several_arrays() -> None:
    model = tagger().model
    encodings = encoded(model, count=9, seed=6)
    both = Engine(model, lambda output: (output.hidden, output.logits), "token").run(encodings)
    (hidden,) = Engine(model, lambda output: output.hidden, "token").run(encodings[:1])
    np.testing.assert_allclose(both[0][0], hidden, rtol=0, atol=1e-5)
    for encoding, (states, logits) in zip(encodings, both, strict=True):
        assert states.shape == (len(encoding), 16)
        assert logits.shape == (len(encoding), 5)


@pytest.mark.parametrize(
    ("head", "level", "wanted"),
    [
        (HeadConfig("sequence", 2), "sequence", [0.25, 0.75]),
        (HeadConfig("sequence", 2, problem="multi_label"), "sequence", [0.5, 0.75]),
        (HeadConfig("sequence", 2, problem="regression"), "sequence", [0.0, np.log(3)]),
        (HeadConfig("token", 2), "token", [0.25, 0.75]),
        (HeadConfig("vocabulary", 2), "token", [0.25, 0.75]),
        (HeadConfig("span", 2), "token", [0.0, np.log(3)]),
    ],
)
def test_scores_are_read_as_the_head_means_them(
    head: HeadConfig, level: str, wanted: list[float]
) -> None:
    read, found = head_output(head)
    logits = jnp.asarray([[[0.0, np.log(3)]]], jnp.float32)
    output = ModelOutput(jnp.zeros((1, 1, 4)), logits)
    assert found == level
    np.testing.assert_allclose(read(output)[0, 0], wanted, rtol=1e-6)


def test_a_vector_is_read_as_it_is() -> None:
    read, level = head_output(HeadConfig("embedding", pooling="mean"))
    vectors = jnp.asarray([[[3.0, -4.0]]])
    assert read(ModelOutput(jnp.zeros((1, 1, 2)), vectors=vectors)) is vectors
    assert level == "sequence"
