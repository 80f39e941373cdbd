"""Texts without a token: one rule, in predictions and in what is learned."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys import SENTIMENT, classifier, pair_classifier, reverser, writer

import encodax
from encodax.data.sources import Record, records_of
from encodax.errors import EmptyText, EncodaxError
from encodax.inference.embedder import Embedder
from encodax.inference.predictors import Classifier, Reranker
from encodax.inference.translator import EMPTY_TRANSLATION, Translator
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.tasks import embedding, question_answering, token_classification, translation
from encodax.tasks.dataset import Dataset
from encodax.tasks.empty import EmptyTextRule, sequences_of
from encodax.tasks.task import Example, encode_whole
from encodax.training.batches.examples import examples_of
from encodax.types.batches import Span

UNSHOWN = "tagged pieces and answers are left out, because they have no tokens"
UNSEEN = ["\u200b", "\ufeff", "\u200d\ufeff", "\u00ad"]
EMPTY = ["", " \t", "\u3000", *UNSEEN]


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# The rule.


def test_rules_are_few() -> None:
    with pytest.raises(EncodaxError, match="on_empty 'ignore' is not one of: error, skip, keep"):
        EmptyTextRule("ignore")
    with pytest.raises(EncodaxError, match="on_empty 'keep' is not one of: error, skip"):
        EmptyTextRule("keep", ("error", "skip"))


@pytest.mark.parametrize("text", EMPTY)
def test_each_text_of_no_token_is_found(tiny_model: Model, text: str) -> None:
    def encode(examples: list[Example]) -> Any:
        return encode_whole(tiny_model, examples, truncate=False)

    texts = ["cat", text, ("cat", text), ("cat", "dog"), text]
    examples = [Example(each, None, f"line {i}") for i, each in enumerate(texts)]
    found, cut = EmptyTextRule("skip").sequences(encode, examples)
    assert [len(own) for own in found] == [1, 0, 0, 1, 0]
    assert cut == 0
    with pytest.raises(EmptyText, match=r"^line 1: the text is empty; .*--on-empty skip or keep"):
        EmptyTextRule("error").sequences(encode, examples)
    assert sequences_of(encode, []) == ([], 0)


@pytest.mark.parametrize("value", [None, "", " "])
def test_records_keep_what_is_in_them(value: str | None) -> None:
    def parse(record: Record) -> Example:
        raise EmptyText.of(record.where)

    records = list(records_of([{"text": "a", "text_pair": value, "n": 1}]))
    (found,) = EmptyTextRule("keep").parsed(parse, records, ("text", "text_pair"))
    assert found == Example(("a", value or ""), None, "example 0")
    with pytest.raises(EmptyText, match=r"^example 0: the text is empty; "):
        list(EmptyTextRule("error").parsed(parse, records, ("text", "text_pair")))


# Predictions.


def test_answers_leave_out_or_keep(caplog: pytest.LogCaptureFixture) -> None:
    predictor = Classifier(classifier().model)
    texts = ["good", *EMPTY, "bad", " "]
    alone = predictor.predict(["good", "bad"])
    assert predictor.predict(texts, on_empty="skip") == alone
    kept: list[Any] = predictor.predict(texts, on_empty="keep")
    assert kept == [alone[0], *[None] * len(EMPTY), alone[1], None]
    count = len(EMPTY) + 1
    assert notes(caplog) == [
        f"{count} texts are empty and left out, the first: text 1",
        f"{count} texts are empty and given empty answers, the first: text 1",
    ]
    assert predictor.predict(EMPTY, on_empty="skip") == []
    assert predictor.predict(EMPTY, on_empty="keep") == [None] * len(EMPTY)
    with pytest.raises(EncodaxError, match=r"^text 1: the text is empty; .*\(on_empty=\)$"):
        predictor.predict(texts)


def test_what_comes_before_an_error_is_answered() -> None:
    predictor = Classifier(classifier().model)
    found = predictor.stream(["good", "bad", "", "good"])
    assert [next(found).label, next(found).label] == ["yes", "no"]
    with pytest.raises(EmptyText, match=r"^text 2: "):
        next(found)


def test_rows_of_nothing_are_zeros() -> None:
    embedder = Embedder(classifier().model.with_embeddings())
    texts = ["good", "\u200b", "", "bad"]
    kept = embedder.encode(texts, on_empty="keep")
    assert kept.shape == (4, embedder.width)
    assert (kept != 0).any(axis=1).tolist() == [True, False, False, True]
    assert np.array_equal(embedder.encode(texts, on_empty="skip"), kept[[0, 3]])
    assert embedder.similarity(kept[:1], kept[1:3]).tolist() == [[0, 0]]


def test_a_prompt_does_not_hide_that_a_text_is_empty() -> None:
    model = classifier().model.with_embeddings()
    usage = encodax.config.InferenceConfig((("query", "good "),))
    embedder = Embedder(replace(model, config=replace(model.config, usage=usage)))
    for text in EMPTY:
        with pytest.raises(EmptyText, match="text 1: the text is empty"):
            embedder.encode(["good", text], prompt="query")


def test_nothing_is_translated_to_nothing() -> None:
    model = reverser().model
    assert isinstance(model, Seq2SeqModel)
    translator = Translator(model)
    blank = ["", " \t", "\u3000"]  # its tokenizer has a token for each other character
    texts = ["abc", *blank, "ab"]
    alone = translator.translate(["abc", "ab"], beams=1)
    assert translator.translate(texts, beams=1, on_empty="skip") == alone
    kept = translator.translate(texts, beams=1, on_empty="keep")
    assert kept == [alone[0], *[EMPTY_TRANSLATION] * len(blank), alone[1]]
    with pytest.raises(EmptyText, match="text 1: the text is empty; "):
        translator.translate(texts, beams=1)


def test_ranks_keep_the_numbers_of_texts() -> None:
    model = pair_classifier().model
    reranker = Reranker(model)
    texts = ["good thing", "", " \t", "bad thing"]
    ranked = reranker.rank("what of 1?", texts, on_empty="skip")
    assert {(item.index, item.text) for item in ranked} == {(0, texts[0]), (3, texts[3])}
    with pytest.raises(EncodaxError, match="the query is empty: write one"):
        reranker.rank(" ", texts, on_empty="skip")


# What is learned.


def test_data_leave_out_what_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    task = encodax.tasks.task_named("classification")
    data = [SENTIMENT[0], {"text": None, "label": "x"}, {"text": " ", "label": "x"}, SENTIMENT[1]]
    found = examples_of(task, data, on_empty="skip")
    assert [(example.text, example.where) for example in found] == [
        (SENTIMENT[0]["text"], "example 0"),
        (SENTIMENT[1]["text"], "example 3"),
    ]
    assert notes(caplog) == ["2 texts are empty and left out, the first: example 1"]
    with pytest.raises(EncodaxError, match="the data set is empty: each of its texts is"):
        examples_of(task, data[1:3], on_empty="skip")
    with pytest.raises(EncodaxError, match=r"^example 2: the text is empty; .* --on-empty skip \("):
        examples_of(task, [data[0], data[3], data[2]])


def prepared(
    task: Any, model: Model, examples: list[Example], caplog: pytest.LogCaptureFixture
) -> tuple[list[int], list[str]]:
    """The examples that are learned, and the notes."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        data = Dataset.prepare(task, model, examples)
    return sorted(set(data.example_of.tolist())), notes(caplog)


def test_pairs_with_a_text_of_no_token_are_left_out(
    tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [("cat", "dog"), ("cat", "\u200b"), ("\u200d", "dog"), ("dog", "cat")]
    examples = [Example(a, None, f"line {i}", (b,)) for i, (a, b) in enumerate(texts)]
    model = tiny_model.with_embeddings()
    assert prepared(embedding.TASK, model, examples, caplog) == (
        [0, 3],
        [
            "examples are left out, because one of their texts has no tokens: 2, the first: "
            r"line 1, '\u200b'"
        ],
    )


def test_translations_of_no_token_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    pairs = [("abc", "CBA"), ("ab", "\u200b"), ("\ufeff", "BA"), ("ab", "BA")]
    examples = [
        Example(source, target, f"line {i}", (target,)) for i, (source, target) in enumerate(pairs)
    ]
    model: Any = writer(kind="wordpiece")
    assert prepared(translation.TASK, model, examples, caplog) == (
        [0, 3],
        [
            "examples are left out, because one of their texts has no tokens: 2, the first: "
            r"line 1, '\u200b'"
        ],
    )


def test_answers_of_no_token_are_left_out(
    tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model.with_head("span", 2)

    def asked(context: str, answer: str) -> Example:
        fields = {"question": "who?", "context": context}
        given = [{"text": answer, "start": context.index(answer)}]
        return question_answering.parse(Record({**fields, "answers": given}, "here"), labelled=True)

    examples = [asked("cat dog", "dog"), asked("cat \u200b dog", "\u200b"), asked("a cat", "cat")]
    assert prepared(question_answering.TASK, model, examples, caplog) == (
        [0, 2],
        [f"{UNSHOWN}: 1, the first: here, '\\u200b'"],
    )


def test_spans_of_no_token_are_counted_and_the_rest_is_learned(
    tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ("O", "B-x", "I-x")
    model = tiny_model.with_head("token", labels=labels)
    spans = Span(0, 3, "x"), Span(4, 5, "x")
    examples = [Example("cat \u200d dog", spans, f"line {i}") for i in range(2)]
    owners, told = prepared(token_classification.TASK, model, examples, caplog)
    assert owners == [0, 1]
    assert told == [f"{UNSHOWN}: 2, the first: line 0, '\\u200d'"]
