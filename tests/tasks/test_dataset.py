"""Examples become batches, with every target beside what it belongs to."""

from __future__ import annotations

import logging
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from encodax.data.batches import BatchShape
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.tasks import classification, token_classification
from encodax.tasks.dataset import Dataset
from encodax.tasks.losses import cross_entropy
from encodax.tasks.task import Example
from encodax.types.batches import Span

SHAPE = BatchShape(row_count=3, row_tokens=32, slots=4)
ROWS = [[2, 0], [1]]
"""The third row stays empty."""


@pytest.fixture(scope="module")
def sequences(tiny_model: Model) -> Dataset:
    labels = {"the cat": "good", "a dog ran": "bad", "what a film": "fair"}
    examples = [Example(text, label, text) for text, label in labels.items()]
    return Dataset.prepare(classification.TASK, tiny_model, examples)


@pytest.fixture(scope="module")
def tokens(tiny_model: Model) -> Dataset:
    labels = ("O", "B-x", "I-x")
    model = replace(tiny_model, config=replace(tiny_model.config, labels=labels))
    texts = ("the cat", "a dog ran", "what a film")
    examples = [Example(text, (Span(0, len(text), "x"),), text) for text in texts]
    return Dataset.prepare(token_classification.TASK, model, examples)


def test_lengths_count_special_tokens(sequences: Dataset) -> None:
    assert len(sequences) == 3
    assert sequences.lengths.tolist() == [len(encoding) for encoding in sequences.encodings]
    assert min(sequences.lengths) >= 4


def test_a_slot_holds_the_class_of_its_sequence(sequences: Dataset) -> None:
    _, targets = sequences.batch(ROWS, SHAPE)
    wanted = np.zeros((3, 4), np.int32)
    wanted[0, 0], wanted[0, 1], wanted[1, 0] = 1, 2, 0  # fair, good; bad
    np.testing.assert_array_equal(targets.values, wanted)


def test_empty_slots_weigh_nothing(sequences: Dataset) -> None:
    batch, targets = sequences.batch(ROWS, SHAPE)
    np.testing.assert_array_equal(targets.weights, np.asarray(batch.lengths) > 0)
    assert np.sum(targets.weights) == 3


def test_a_token_holds_its_own_class(tokens: Dataset) -> None:
    batch, targets = tokens.batch(ROWS, SHAPE)
    for index, row, slot in ((2, 0, 0), (0, 0, 1), (1, 1, 0)):
        start, length = (int(array[row, slot]) for array in (batch.starts, batch.lengths))
        piece = slice(start, start + length)
        np.testing.assert_array_equal(targets.values[row, piece], tokens.targets[index].values)
        np.testing.assert_array_equal(targets.weights[row, piece], tokens.targets[index].weights)
        assert length == tokens.lengths[index]


def test_padding_and_special_tokens_weigh_nothing(tokens: Dataset) -> None:
    batch, targets = tokens.batch(ROWS, SHAPE)
    weights = np.asarray(targets.weights)
    assert weights.sum() == sum(tokens.lengths) - 2 * 3
    assert not weights[np.asarray(batch.segment_ids) == 0].any()
    assert not weights[2].any()


@pytest.mark.parametrize("kind", ["sequences", "tokens"])
def test_what_weighs_nothing_never_changes_the_loss(
    kind: str, request: pytest.FixtureRequest
) -> None:
    _, targets = request.getfixturevalue(kind).batch(ROWS, SHAPE)
    targets = type(targets)(jnp.asarray(targets.values), jnp.asarray(targets.weights))
    random = np.random.default_rng(0)
    logits, noise = random.normal(size=(2, *targets.values.shape, 3)).astype(np.float32)
    noise[np.asarray(targets.weights) > 0] = 0
    assert noise.any()
    loss = cross_entropy(jnp.asarray(logits), targets)
    assert loss == cross_entropy(jnp.asarray(logits + 100 * noise), targets)
    assert loss[1] == np.sum(targets.weights)


def test_no_example_is_an_error(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match="the data set is empty"):
        Dataset.prepare(classification.TASK, tiny_model, [])


def test_errors_name_the_example(tiny_model: Model) -> None:
    known = Example("the cat", "good", "line 1")
    for example, message in (
        (Example("the cat", "new", "line 2"), "line 2: unknown label 'new'"),
        (Example("cat " * 40, "good", "line 3"), "line 3: .* tokens, and the model takes 32"),
    ):
        with pytest.raises(EncodaxError, match=message):
            Dataset.prepare(classification.TASK, tiny_model, [known, example])


def test_long_texts_are_cut_and_counted(
    tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ("cat " * 40, "the cat", "dog " * 50)
    examples = [Example(text, "good", text) for text in texts]
    with caplog.at_level(logging.WARNING, logger="encodax"):
        data = Dataset.prepare(classification.TASK, tiny_model, examples, truncate=True)
    assert data.lengths[0] == data.lengths[2] == 32
    assert [record.getMessage() for record in caplog.records] == ["2 texts were cut to 32 tokens"]
