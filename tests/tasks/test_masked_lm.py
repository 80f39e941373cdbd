"""A corpus to pieces, pieces to hidden tokens, and what a model learns of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import encodax
from encodax.config import ModelConfig
from encodax.data.batches import BatchShape
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.families import bert
from encodax.models.encoder_model import Model
from encodax.tasks import masked_lm as task
from encodax.tasks.dataset import Dataset, perturbed_by_row
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.text.tokenizer import Tokenizer
from encodax.types.batches import ModelOutput

LONG = " ".join(f"the cat sat on mat number {n}," for n in range(20))


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    return tiny_model.with_head("vocabulary")


def parsed(**fields: Any) -> Example:
    return task.parse(Record(fields, "here"), labelled=True)


def prepared(model: Model, *texts: str) -> Dataset:
    return Dataset.prepare(task.TASK, model, [parsed(text=text) for text in texts])


def test_a_record_is_a_text() -> None:
    assert parsed(text="a b") == Example("a b", None, "here")


@pytest.mark.parametrize("fields", [{}, {"text": 3}, {"text": "a", "text_pair": "b"}])
def test_what_is_no_text_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EncodaxError, match="here: "):
        parsed(**fields)


def test_lines_without_text_teach_nothing(model: Model) -> None:
    texts = ("", "the cat", " \n", "\u200b", "a dog")
    data = prepared(model, *texts)
    assert data.example_of.tolist() == [1, 4]
    batch, targets = data.batch([[1, 0]], BatchShape(2, 32, 2))
    assert np.asarray(batch.lengths).tolist() == [data.lengths[::-1].tolist(), [0, 0]]
    assert data.batch([], BatchShape(1, 32, 2))[1].weights.sum() == 0
    assert targets.values.shape == (2, 32)


def test_a_corpus_without_text_is_refused(model: Model) -> None:
    with pytest.raises(EncodaxError, match="it has no text"):
        prepared(model, "", " ")


def test_a_long_text_is_cut_into_pieces_and_nothing_is_lost(model: Model) -> None:
    whole = model.tokenizer.encode([LONG])[0]
    data = prepared(model, LONG)
    assert set(data.example_of) == {0}
    assert (data.lengths[:-1] == 32).all()
    assert data.lengths[-1] <= 32
    inside = [encoding.token_ids[1:-1] for encoding in data.encodings]
    np.testing.assert_array_equal(np.concatenate(inside), whole.token_ids[1:-1])
    for encoding in data.encodings:
        assert encoding.token_ids[[0, -1]].tolist() == whole.token_ids[[0, -1]].tolist()


def test_targets_number_words_and_leave_special_tokens_out(model: Model) -> None:
    (targets,) = prepared(model, "a dog ran, zz").targets
    values = np.asarray(targets.values)
    assert values[0] == values[-1] == 0
    assert list(dict.fromkeys(values[1:-1].tolist())) == [1, 2, 3, 4, 5]


def test_a_model_without_a_mask_token_is_refused(model: Model) -> None:
    without = Tokenizer.train(["ab"], "char")
    without.special_tokens = {}
    with pytest.raises(EncodaxError, match="no mask token"):
        task.encode(replace(model, tokenizer=without), [parsed(text="a")], truncate=False)


def test_hidden_tokens_are_the_targets(model: Model) -> None:
    data = prepared(model, LONG)
    shape = BatchShape(2, 64, 4)
    batch, targets = data.batch([[0, 1], [2]], shape)
    loss_options = LossOptions(mask_rate=0.3, whole_words=True)
    seeds = [(0, 0), (0, 1)]
    hidden, found = perturbed_by_row(data, batch, targets, loss_options, seeds)
    assert found.tokens is not None
    assert found.tokens.shape == found.values.shape == found.weights.shape == (2, 20)
    there = np.take_along_axis(np.asarray(batch.token_ids), np.asarray(found.tokens), axis=1)
    is_real = np.asarray(found.weights) > 0
    np.testing.assert_array_equal(np.asarray(found.values)[is_real], there[is_real])
    assert (np.asarray(hidden.token_ids) == model.tokenizer.mask_id).any()
    # Row by row: the second row alone is changed alike.
    alone, _ = perturbed_by_row(
        data, *data.batch([[2]], BatchShape(1, 64, 4)), loss_options, seeds[1:]
    )
    np.testing.assert_array_equal(alone.token_ids[0], hidden.token_ids[1])


def test_the_loss_is_the_cross_entropy_of_hidden_tokens(model: Model) -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)
    targets = Targets(np.asarray([[2, 4, 0]]), np.asarray([[1.0, 1.0, 0.0]], np.float32))
    output = ModelOutput(jnp.zeros((1, 6, 2)), jnp.asarray(logits))
    batch, _ = prepared(model, "the cat").batch([[0]], BatchShape(1, 6, 1))
    scores = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    wanted = -np.log(scores[0, 0, 2]) - np.log(scores[0, 1, 4])
    total, weight = task.loss(output, targets, batch, LossOptions())
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert weight == 2
    sums = task.sums(output, targets, batch, LossOptions())
    assert sums["right"] == sum(np.argmax(logits[0, :2], axis=-1) == [2, 4])


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    found = task.TASK.batch_metrics.summary({"loss": 6.0, "right": 1.0, "weight": 4.0})
    assert found == {"perplexity": math.exp(1.5), "accuracy": 0.25, "loss": 1.5}
    assert task.TASK.metric in found
    assert (
        task.TASK.batch_metrics.summary({"loss": 1e4, "right": 0.0, "weight": 1.0})["perplexity"]
        == math.inf
    )


def test_a_model_from_scratch_is_saved_as_bert(tiny_config: ModelConfig, tmp_path: Path) -> None:
    head = bert.FAMILY.new_head(tiny_config, "vocabulary", 0)
    assert head.tied
    assert head.classes == tiny_config.encoder.embeddings.vocabulary_size
    texts = ["the cat sat on the mat", "a dog ran after the cat", ""] * 8
    result = encodax.train(
        "masked-lm", train=[{"text": text} for text in texts],
        eval=[{"text": text} for text in texts], out=tmp_path / "model", steps=60, layers=1,
        width=16, heads=2, max_positions=32, dropout_rate=0.0, learning_rate=1e-2,
        batch_tokens=512, whole_words=True, mask_rate=0.3,
    )  # fmt: skip
    measured = [entry for entry in result.curve if "eval_perplexity" in entry]
    assert result.metrics["perplexity"] == min(entry["eval_perplexity"] for entry in measured)
    assert result.metrics["perplexity"] < 0.5 * measured[0]["eval_perplexity"]
    text = (tmp_path / "model" / "config.json").read_text()
    assert "BertForMaskedLM" in text
    guesses = encodax.FillMask(Model.load(tmp_path / "model")).predict(["the [MASK] sat"])
    assert len(guesses[0][0]) == 5
