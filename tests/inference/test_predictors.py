"""Texts in, answers out: in order, lazily, with long texts refused or cut and counted."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys import DAYS, PAIRS, SENTIMENT, classifier, pair_classifier, spans_of, tagger

import encodax
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.inference import predictors
from encodax.inference.predictors import Predictor
from encodax.tasks.task import Example
from encodax.types import Span

LONG = "good " * 40


@pytest.fixture(scope="module")
def classify() -> encodax.Classifier:
    return encodax.Classifier(classifier().model)


@pytest.fixture(scope="module")
def tag() -> encodax.TokenClassifier:
    return encodax.TokenClassifier(tagger().model)


def test_answers_come_in_order(classify: encodax.Classifier) -> None:
    texts = [" ".join([record["text"]] * (1 + i % 3)) for i, record in enumerate(SENTIMENT)]
    alone = [classify.predict([text])[0].scores["yes"] for text in texts]
    assert len({round(score, 5) for score in alone}) > 10
    for order in (range(16), reversed(range(16)), np.random.default_rng(0).permutation(16)):
        chosen = [int(index) for index in order]
        answers = classify.predict([texts[index] for index in chosen])
        found = [answer.scores["yes"] for answer in answers]
        np.testing.assert_allclose(found, [alone[index] for index in chosen], rtol=0, atol=1e-6)


def test_an_answer_is_a_label_and_the_scores_of_all(classify: encodax.Classifier) -> None:
    (answer,) = classify.predict(["good thing"])
    assert answer.label == "yes"
    assert answer.scores.keys() == {"no", "yes"}
    assert answer.score == answer.scores["yes"] > answer.scores["no"]
    assert math.isclose(sum(answer.scores.values()), 1, rel_tol=1e-6)


def test_spans_are_those_of_the_text(tag: encodax.TokenClassifier) -> None:
    answers = tag.predict([record["text"] for record in DAYS])
    for record, answer in zip(DAYS, answers, strict=True):
        assert [(span.start, span.end, span.label) for span in answer] == spans_of(record)
        assert all(0.2 < span.score <= 1 for span in answer)


def test_pairs_are_answered_as_pairs() -> None:
    classify = encodax.Classifier(pair_classifier().model)
    texts = [(record["text"], record["text_pair"]) for record in PAIRS]
    assert [answer.label for answer in classify.predict(texts)] == [r["label"] for r in PAIRS]
    joined, pair = classify.predict(["what? good thing", ("what?", " good thing")])
    assert joined.scores != pair.scores


def test_no_text_has_no_answer(classify: encodax.Classifier) -> None:
    assert classify.predict([]) == []


def test_one_string_is_no_list_of_texts(classify: encodax.Classifier) -> None:
    with pytest.raises(EncodaxError, match="wants a list of texts, not one string"):
        classify.predict("good")


@pytest.mark.parametrize("text", ["", "  ", "\u200b"])
def test_an_empty_text_is_refused(classify: encodax.Classifier, text: str) -> None:
    with pytest.raises(EncodaxError, match="text 1: the text is empty"):
        classify.predict(["good", text])


def test_a_long_text_is_refused(classify: encodax.Classifier) -> None:
    with pytest.raises(
        EncodaxError, match=r"text 1: 42 tokens, and the model takes 32; .*truncate"
    ):
        classify.predict(["good", LONG])


def test_long_texts_are_cut_and_counted(
    classify: encodax.Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="encodax"):
        answers = classify.predict([LONG, "bad", LONG], truncate=True)
    assert [answer.label for answer in answers] == ["yes", "no", "yes"]
    assert [record.getMessage() for record in caplog.records] == ["2 texts were cut to 32 tokens"]


def test_nothing_is_said_where_nothing_is_cut(
    classify: encodax.Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="encodax"):
        classify.predict(["good"], truncate=True)
    assert not caplog.records


def test_a_cut_text_is_answered_as_far_as_it_goes(tag: encodax.TokenClassifier) -> None:
    text = f"{DAYS[0]['text']} and then we met again"
    (answer,) = tag.predict([text], truncate=True)
    assert all(span.end <= 30 for span in answer)


def test_the_source_is_read_a_window_at_a_time(
    classify: encodax.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictors, "WINDOW", 4)
    read = 0

    def examples() -> Iterator[Example]:
        nonlocal read
        for record in SENTIMENT:
            read += 1
            yield Example(record["text"], None, "here")

    answers = classify.answers(examples())
    assert read == 0
    example, answer = next(answers)
    assert (example.text, answer.label) == ("good", "yes")
    assert read == 4
    labels = [answer.label for _, answer in answers]
    assert read == len(SENTIMENT)
    assert labels == [record["label"] for record in SENTIMENT[1:]]


def test_all_windows_count_together(
    classify: encodax.Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(predictors, "WINDOW", 2)
    with caplog.at_level(logging.WARNING, logger="encodax"):
        classify.predict([LONG, "bad", LONG, LONG, "good"], truncate=True)
    assert [record.getMessage() for record in caplog.records] == ["3 texts were cut to 32 tokens"]


def test_evaluation_measures_labelled_records(
    classify: encodax.Classifier, tag: encodax.TokenClassifier
) -> None:
    wrong = [{"text": "good", "label": "no"}, {"text": "bad", "label": "no"}]
    assert classify.evaluate(records_of(SENTIMENT)) == {"accuracy": 1, "f1": 1}
    assert classify.evaluate(records_of(wrong))["accuracy"] == 0.5
    assert tag.evaluate(records_of(DAYS))["f1"] == 1


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "the data set is empty"),
        ([{"text": "good"}], "here 0: wants a 'label'"),
        ([{"text": "good", "label": "new"}], "here 0: unknown label 'new'; the model knows: no, y"),
        ([{"text": LONG, "label": "no"}], "here 0: 42 tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    classify: encodax.Classifier, records: list[dict[str, Any]], message: str
) -> None:
    found: Iterator[Record] = records_of(records, name="here")
    with pytest.raises(EncodaxError, match=message):
        classify.evaluate(found)


def test_a_predictor_takes_any_model_with_a_head() -> None:
    labels: Predictor[Any] = Predictor(classifier().model)
    spans: Predictor[Any] = Predictor(tagger().model)
    assert labels.predict(["good"])[0].label == "yes"
    assert isinstance(spans.predict([DAYS[0]["text"]])[0][0], Span)


def test_a_predictor_refuses_the_model_of_another_task() -> None:
    with pytest.raises(EncodaxError, match="is one for token-classification, not classification"):
        encodax.Classifier(tagger().model)
    with pytest.raises(EncodaxError, match="is one for classification, not token-classification"):
        encodax.TokenClassifier(classifier().model)


def test_a_predictor_refuses_a_model_without_a_head() -> None:
    model = classifier().model
    with pytest.raises(EncodaxError, match="has no head"):
        encodax.Classifier(replace(model, config=replace(model.config, head=None)))
