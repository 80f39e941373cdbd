"""Translation: pairs that are understood, what is wanted of each token, loss and figures."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import corpus_bleu, corpus_chrf
from toys import REVERSALS, writer

from encodax import Seq2SeqModel
from encodax.data.batches import BatchShape
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.models.seq2seq_model import parameter_shapes
from encodax.tasks import translation
from encodax.tasks.dataset import Dataset
from encodax.tasks.losses import cross_entropy
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.types.batches import ModelOutput, PackedBatch, PairBatch

ONE = PackedBatch.from_rows(np.zeros((1, 2), np.int32))
BATCH = PairBatch(ONE, ONE)


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return translation.parse(Record(fields, "here"), labelled=labelled)


def test_a_record_is_a_source_and_a_target() -> None:
    found = parsed({"source": "two men", "target": "zwei Männer", "id": 7})
    assert found == Example("two men", "zwei Männer", "here", others=("zwei Männer",))
    assert found.characters() == len("two men") + len("zwei Männer")


def test_a_target_is_not_looked_for_where_none_is_asked() -> None:
    assert parsed({"source": "two men"}, labelled=False) == Example("two men", None, "here")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "b"}, r"no field 'source' \(found: target\)"),
        ({}, r"no field 'source' \(found: nothing\)"),
        ({"source": "a"}, "no field 'target': training needs both"),
        ({"source": "", "target": "b"}, "the text is empty"),
        ({"source": "a", "target": " \n"}, "the text is empty"),
        ({"source": 3, "target": "b"}, "a text is a string, not 3"),
        ({"source": "a", "target": None}, "a text is a string, not None"),
        ({"source": "a", "target": "\ud800"}, "character 0 of the text, .* is not Unicode"),
    ],
)
def test_what_is_no_pair_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"^here: {message}"):
        parsed(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "two men"},
        {"text": "two men"},
        {"source": "two men", "text": "b", "target": ""},
        {"": "1", "text": "two men"},  # a column without a name, such as pandas writes
    ],
)
def test_what_is_translated_is_a_source_or_a_text(fields: dict[str, Any]) -> None:
    assert translation.source_of(Record(fields, "here")) == Example("two men", None, "here")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "b"}, r"no field 'text' \(found: target\)"),
        ({"text": " "}, "the text is empty"),
        ({"source": 7}, "a text is a string, not 7"),
    ],
)
def test_what_is_no_source_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"^here: {message}"):
        translation.source_of(Record(fields, "here"))


def examples(records: list[dict[str, str]] = REVERSALS) -> list[Example]:
    return [translation.parse(record, labelled=True) for record in records_of(records)]


def test_there_are_no_labels() -> None:
    assert translation.TASK.labels(examples()) == ()


# --- what is wanted


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset.prepare(translation.TASK, writer(), examples())


def test_the_whole_target_is_wanted_and_its_end(data: Dataset) -> None:
    model = writer()
    for example, pair, targets in zip(data.examples, data.encodings, data.targets, strict=True):
        assert targets.values.tolist() == pair.wanted.tolist()
        assert targets.values[-1] == model.config.eos_id
        assert model.tokenizer.decode(targets.values[:-1]) == example.target
        assert pair.given.token_ids[0] == model.config.decoder_start_id
        np.testing.assert_array_equal(pair.given.token_ids[1:], pair.wanted[:-1])
        np.testing.assert_array_equal(targets.weights, np.ones(len(pair.wanted), np.float32))


def test_lengths_are_of_both_sides(data: Dataset) -> None:
    wanted = [(len(record["source"]) + 1, len(record["target"]) + 1) for record in REVERSALS]
    assert data.lengths.tolist() == [list(lengths) for lengths in wanted]
    assert data.example_of.tolist() == list(range(len(REVERSALS)))


def test_targets_stand_where_the_decoder_is_given_their_pair(data: Dataset) -> None:
    shape = BatchShape(row_count=3, row_tokens=12, slots=4, target_tokens=10)
    rows = [[83, 0], [30, 4]]
    batch, targets = data.batch(rows, shape)
    assert isinstance(batch, PairBatch)
    assert (batch.source.token_ids.shape, targets.values.shape) == ((3, 12), (3, 10))
    placed = np.zeros((3, 10), bool)
    for b, row in enumerate(rows):
        start = 0
        for index in row:
            pair = data.encodings[index]
            piece = slice(start, start + len(pair.wanted))
            np.testing.assert_array_equal(targets.values[b, piece], pair.wanted)
            np.testing.assert_array_equal(batch.target.token_ids[b, piece], pair.given.token_ids)
            placed[b, piece] = True
            start = piece.stop
    np.testing.assert_array_equal(targets.weights, placed)
    assert not targets.values[~placed].any()


def digest_of(records: list[dict[str, str]]) -> str:
    return Dataset.prepare(translation.TASK, writer(), examples(records)).digest


def test_a_digest_covers_both_sides() -> None:
    pairs = [{"source": "ab", "target": "BA"}, {"source": "cd", "target": "DC"}]
    digest = digest_of(pairs)
    assert digest == digest_of([dict(pair) for pair in pairs])
    for index in range(2):
        for side, text in (("source", "ad"), ("target", "DA")):
            changed = [dict(pair) for pair in pairs]
            changed[index][side] = text
            assert digest_of(changed) != digest, (index, side)
    assert digest_of(pairs[::-1]) != digest


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"source": "a" * 32, "target": "A"}, "example 1: 33 tokens, and the model takes 32"),
        ({"source": "a", "target": "A" * 32}, "the target of example 1: 33 tokens, and the model"),
    ],
)
def test_errors_name_the_example(record: dict[str, str], message: str) -> None:
    records = [{"source": "a", "target": "A"}, record]
    with pytest.raises(EncodaxError, match=f"^{message}"):
        Dataset.prepare(translation.TASK, writer(), examples(records))


def unlimited() -> Seq2SeqModel:
    """A model without a limit of its own."""
    config = writer().config
    encoder, decoder = config.transformer.encoder, config.transformer.decoder
    table = dataclasses.replace(encoder.embeddings, max_positions=None)
    transformer = dataclasses.replace(
        config.transformer,
        encoder=dataclasses.replace(encoder, embeddings=table),
        decoder=dataclasses.replace(decoder, embeddings=table),
    )
    config = dataclasses.replace(config, transformer=transformer)
    assert parameter_shapes(config).keys() == writer().params.keys()
    return Seq2SeqModel(config, writer().params, writer().tokenizer)


def test_long_texts_are_cut_and_counted_on_either_side(caplog: pytest.LogCaptureFixture) -> None:
    records = [{"source": "a" * 40, "target": "A"}, {"source": "a", "target": "A" * 40}]
    with caplog.at_level(logging.WARNING, logger="encodax"):
        cut = Dataset.prepare(translation.TASK, writer(), examples(records), truncate=True)
    assert cut.lengths.tolist() == [[32, 2], [2, 32]]
    assert [record.getMessage() for record in caplog.records] == ["2 texts were cut to 32 tokens"]


def test_a_model_without_a_limit_is_cut_at_the_longest_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = unlimited()
    assert model.max_length is None
    records = [{"source": "a" * 9_000, "target": "A"}]
    with caplog.at_level(logging.WARNING, logger="encodax"):
        cut = Dataset.prepare(translation.TASK, model, examples(records), truncate=True)
    assert cut.lengths.tolist() == [[8_192, 2]]
    assert [record.getMessage() for record in caplog.records] == ["1 texts were cut to 8192 tokens"]


# --- loss and figures


@given(
    seed=st.integers(0, 99),
    smoothing=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_the_smoothed_loss_and_its_gradient_are_those_of_optax(
    seed: int, smoothing: float, scale: float
) -> None:
    random = np.random.default_rng(seed)
    logits = jnp.asarray(scale * random.normal(size=(2, 5, 7)), jnp.float32)
    values = random.integers(0, 7, (2, 5))
    weights = random.choice([0.0, 1.0, 0.5], size=(2, 5)).astype(np.float32)
    targets = Targets(jnp.asarray(values, jnp.int32), jnp.asarray(weights))

    def own(logits: jax.Array) -> jax.Array:
        output = ModelOutput(jnp.zeros((2, 5, 1)), logits)
        return translation.TASK.loss(
            output, targets, BATCH, LossOptions(label_smoothing=smoothing)
        )[0]

    def wanted(logits: jax.Array) -> jax.Array:
        smooth = optax.smooth_labels(jax.nn.one_hot(values, 7), smoothing)
        return jnp.sum(optax.softmax_cross_entropy(logits, smooth) * weights)

    first, second = (jax.value_and_grad(loss)(logits) for loss in (own, wanted))
    np.testing.assert_allclose(first[0], second[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first[1], second[1], atol=1e-6)
    assert cross_entropy(logits, targets, smoothing)[1] == weights.sum()


def test_an_evaluation_is_not_smoothed() -> None:
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(1, 4, 5)), jnp.float32)
    right = jnp.argmax(logits, axis=-1)
    values = right.at[0, 1].set((right[0, 1] + 1) % 5)
    targets = Targets(values, jnp.asarray([[1.0, 1.0, 1.0, 0.0]]))
    output = ModelOutput(jnp.zeros((1, 4, 1)), logits)
    found = translation.sums(output, targets, BATCH, LossOptions(label_smoothing=0.3))
    logs = np.asarray(jax.nn.log_softmax(logits))[0, range(4), np.asarray(values)[0]]
    assert found.keys() == {"loss", "right", "weight"}
    np.testing.assert_allclose(found["loss"], -logs[:3].sum(), rtol=1e-6)
    assert (found["right"], found["weight"]) == (2, 3)


def test_perplexity_is_exp_of_the_loss_of_a_token() -> None:
    found = translation.TASK.batch_metrics.summary({"loss": 6.0, "right": 3.0, "weight": 4.0})
    assert found == {"perplexity": math.exp(1.5), "accuracy": 0.75, "loss": 1.5}
    hopeless = translation.TASK.batch_metrics.summary(
        {"loss": 4_000.0, "right": 0.0, "weight": 4.0}
    )
    assert hopeless == {"perplexity": math.inf, "accuracy": 0.0, "loss": 1_000.0}


def test_an_answer_is_the_most_probable_token_at_each_place(data: Dataset) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(4, 13)).astype(np.float32)
    found = translation.TASK.decode(scores, data.encodings[83], ())
    assert found.tolist() == scores.argmax(axis=1).tolist()
    assert translation.TASK.merge(data.examples[83], [found]) is found
    assert translation.TASK.to_json(found) == {"token_ids": found.tolist()}


HYPOTHESES = ["the cat sat on the mat .", "a dog ran away !", "nothing of it"]
REFERENCES = ["the cat sat on a mat .", "the dog ran far away !", "all of that"]


@pytest.mark.parametrize("tokenize", ["13a", "none", "char"])
def test_texts_are_compared_by_sacrebleu(tokenize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "COUNTED_TOGETHER", 2)
    found = translation.bleu_and_chrf(zip(HYPOTHESES, REFERENCES, strict=True), tokenize=tokenize)
    assert found["bleu"] == corpus_bleu(HYPOTHESES, [REFERENCES], tokenize=tokenize).score > 0
    assert found["chrf"] == corpus_chrf(HYPOTHESES, [REFERENCES]).score > 0
    assert f"|tok:{tokenize}|" in found["bleu_signature"]
    assert "|nc:6|nw:0|" in found["chrf_signature"]


@pytest.mark.parametrize(("tokenize", "warnings"), [("none", 0), ("13a", 1)])
def test_tokenized_texts_are_no_surprise_where_they_are_said_to_be(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tokenize: str,
    warnings: int,
) -> None:
    monkeypatch.setattr(logging.getLogger("sacrebleu"), "propagate", True)
    monkeypatch.setattr(translation, "COUNTED_TOGETHER", 100)
    translation.bleu_and_chrf([(HYPOTHESES[0], REFERENCES[0])] * 200, tokenize=tokenize)
    told = [message for message in caplog.messages if "end in a tokenized period" in message]
    assert len(told) == warnings


def test_equal_texts_are_at_a_hundred() -> None:
    found = translation.bleu_and_chrf(zip(REFERENCES, REFERENCES, strict=True))
    assert found["bleu"] == pytest.approx(100)
    assert found["chrf"] == pytest.approx(100)


def test_an_unknown_tokenizer_of_bleu_is_refused() -> None:
    with pytest.raises(
        EncodaxError, match=r"the tokenizer 'x' of BLEU is not known; known: none, zh"
    ):
        translation.bleu_and_chrf(zip(HYPOTHESES, REFERENCES, strict=True), tokenize="x")


@pytest.mark.parametrize("error", [RuntimeError("\nPlease install:\n\n  more\n"), OSError("gone")])
def test_a_tokenizer_of_bleu_that_wants_more_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def missing(self: object, **choices: Any) -> None:
        raise error

    monkeypatch.setattr("sacrebleu.BLEU.__init__", missing)
    wanted = "the tokenizer 'ja-mecab' of BLEU cannot be loaded: [^\n]+"
    with pytest.raises(EncodaxError, match=rf"\A{wanted}\Z"):
        translation.scorers("ja-mecab")
