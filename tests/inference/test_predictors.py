"""Texts in, answers out: in order, lazily, with long texts refused or cut and counted."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from questions import LONG_QUESTIONS, QUESTIONS, answerer
from toys import (
    DAYS,
    PAIRS,
    SENTIMENT,
    classifier,
    contextless,
    pair_classifier,
    spans_of,
    tagger,
)

import encodax
from encodax.config import InferenceConfig
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.inference.predictors import Predictor, Ranked
from encodax.models.encoder_model import Model
from encodax.tasks.decoding import OWNERS, DecodingOptions
from encodax.tasks.task import Example
from encodax.types.batches import Span

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
    with pytest.raises(EncodaxError, match="give a list of texts, not one string"):
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
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 4)
    read = 0

    def examples() -> Iterator[Example]:
        nonlocal read
        for record in 9 * SENTIMENT:
            read += 1
            yield Example(record["text"], None, "here")

    answers = classify.answers(examples())
    assert read == 0
    example, answer = next(answers)
    assert (example.text, answer.label) == ("good", "yes")
    assert read <= 6 * 4 < 9 * len(SENTIMENT)
    labels = [answer.label for _, answer in answers]
    assert read == 9 * len(SENTIMENT)
    assert labels == [record["label"] for record in (9 * SENTIMENT)[1:]]


def test_all_windows_count_together(
    classify: encodax.Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 2)
    with caplog.at_level(logging.WARNING, logger="encodax"):
        classify.predict([LONG, "bad", LONG, LONG, "good"], truncate=True)
    assert [record.getMessage() for record in caplog.records] == ["3 texts were cut to 32 tokens"]


def test_evaluation_measures_labelled_records(
    classify: encodax.Classifier, tag: encodax.TokenClassifier
) -> None:
    wrong = [{"text": "good", "label": "no"}, {"text": "bad", "label": "no"}]
    measured = classify.evaluate(records_of(SENTIMENT))
    every = {"precision": 1, "recall": 1, "f1": 1, "support": 8}
    assert measured == {"accuracy": 1, "f1": 1, "classes": {"no": every, "yes": every}}
    assert classify.evaluate(records_of(wrong))["accuracy"] == 0.5
    assert tag.evaluate(records_of(DAYS))["f1"] == 1


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "the data set is empty"),
        ([{"text": "good"}], "here 0: needs a 'label'"),
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


# Heads whose scores mean something else.

TEXTS = ["the cat sat", "a dog", "what a wonderful film!"]


def logits_of(model: Model, texts: list[Any]) -> np.ndarray:
    """(texts, C), from a batch of one text a row."""
    logits = np.asarray(model.apply(model.params, model.batch(texts)).logits, np.float64)
    return logits[:, 0]


def test_of_several_labels_each_has_a_probability_of_its_own(tiny_model: Model) -> None:
    labels = ("a", "b", "c", "d")
    model = tiny_model.with_head("sequence", labels=labels, problem="multi_label")
    answers = encodax.Classifier(model).predict(TEXTS)
    wanted = 1 / (1 + np.exp(-logits_of(model, TEXTS)))
    for answer, row in zip(answers, wanted, strict=True):
        assert tuple(answer.scores) == labels
        np.testing.assert_allclose(list(answer.scores.values()), row, rtol=0, atol=1e-5)
        assert answer.label == labels[int(row.argmax())]
        assert answer.score == answer.scores[answer.label]
        assert not math.isclose(sum(answer.scores.values()), 1, rel_tol=1e-3)


def test_a_regression_gives_its_quantity(tiny_model: Model) -> None:
    model = tiny_model.with_head("sequence", labels=("stars",), problem="regression")
    answers = encodax.Classifier(model).predict(TEXTS)
    for answer, (wanted,) in zip(answers, logits_of(model, TEXTS), strict=True):
        assert answer.label == "stars"
        assert answer.score == answer.scores["stars"] == pytest.approx(wanted, abs=1e-5)
        assert answer.score != 1


def test_a_problem_comes_back_from_its_file(tiny_model: Model, tmp_path: Path) -> None:
    for problem in ("multi_label", "regression", "single_label"):
        labels = ("a",) if problem == "regression" else ("a", "b")
        model = tiny_model.with_head("sequence", labels=labels, problem=problem)
        model.save(tmp_path / problem)
        found = encodax.Classifier.load(tmp_path / problem).predict(TEXTS)
        assert found == encodax.Classifier(model).predict(TEXTS)


# Spans by words.


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_an_aggregation_is_asked_of_the_task(aggregation: Any) -> None:
    model = tagger().model
    tag = encodax.TokenClassifier(model, aggregation=aggregation)
    text = DAYS[0]["text"]
    (found,) = tag.predict([text])
    wanted = spans_of(DAYS[0])
    if aggregation == "none":
        wanted = [(i, i + 1, label) for start, end, label in wanted for i in range(start, end)]
    assert [(span.start, span.end, span.label) for span in found] == wanted


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(EncodaxError, match="'last' is not one of: none, simple, first, average, m"):
        encodax.TokenClassifier(tagger().model, aggregation="last")  # type: ignore[arg-type]


def test_spans_are_of_one_text(tag: encodax.TokenClassifier) -> None:
    with pytest.raises(EncodaxError, match="text 1: token classification takes one text, not a p"):
        tag.predict([DAYS[0]["text"], ("on Monday", "we met")])


# Texts in windows.

DIARY = " and ".join(record["text"] for record in DAYS)
"""A text of many times what the tagger takes."""


@pytest.fixture(scope="module")
def short_and_long() -> tuple[Model, Model]:
    """Two models of the same scores: one takes 32 tokens, and one all of `DIARY`."""
    model = tagger().model
    assert isinstance(model, Model)
    return contextless(model, 32), contextless(model, 256)


@pytest.mark.parametrize("stride", [0, 9])
def test_a_text_in_windows_is_tagged_as_a_whole(
    short_and_long: tuple[Model, Model], stride: int
) -> None:
    short, long = short_and_long
    texts = [DIARY, DAYS[0]["text"], f" {DIARY}"]
    windows = encodax.TokenClassifier(short, stride=stride, aggregation="max")
    whole = encodax.TokenClassifier(long, aggregation="max")
    for found, wanted in (
        (windows.predict(texts), whole.predict(texts)),
        (windows.predict_words(texts), whole.predict_words(texts)),
    ):
        for own, right in zip(found, wanted, strict=True):
            assert [s[:3] for s in map(astuple, own)] == [s[:3] for s in map(astuple, right)]
            np.testing.assert_allclose([s.score for s in own], [s.score for s in right], atol=1e-5)
    assert max(span.end for span in found[0]) > 150


def test_spans_beyond_the_first_window_are_measured(short_and_long: tuple[Model, Model]) -> None:
    short, long = short_and_long
    (spans,) = encodax.TokenClassifier(long).predict([DIARY])
    own = [{"start": span.start, "end": span.end, "label": span.label} for span in spans]
    records = list(records_of([{"text": DIARY, "spans": own}]))
    measured = encodax.TokenClassifier(short, stride=8).evaluate(records)
    assert measured["f1"] == 1
    assert sum(found["support"] for found in measured["classes"].values()) == len(own)
    cut = encodax.TokenClassifier(short).evaluate(records, truncate=True)
    assert cut["recall"] < 0.5


def test_a_short_text_is_no_window(tag: encodax.TokenClassifier) -> None:
    texts = [record["text"] for record in DAYS]
    in_windows = encodax.TokenClassifier(tagger().model, stride=8)
    assert in_windows.predict(texts) == tag.predict(texts)


def test_a_long_text_is_told_the_ways_out(tag: encodax.TokenClassifier) -> None:
    told = r"text 0: \d+ tokens, and the model takes 32; .*--truncate.*, or for windows.*--stride N"
    for ask in (tag.predict, tag.predict_words):
        with pytest.raises(EncodaxError, match=told):
            ask([DIARY])
    with pytest.raises(EncodaxError, match="--stride N"):
        tag.evaluate(records_of([{"text": DIARY, "spans": []}]))


@pytest.mark.parametrize("stride", [30, 99])
def test_a_stride_leaves_room_for_other_tokens(stride: int) -> None:
    told = f"stride {stride} leaves a window no new token: it holds 30 tokens of a text"
    with pytest.raises(EncodaxError, match=told):
        encodax.TokenClassifier(tagger().model, stride=stride)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("aggregation", "first"),
        ("tag_scheme", "io"),
        ("stride", 8),
        ("top_k", 1),
        ("max_answer_tokens", 9),
    ],
)
def test_an_option_of_another_task_is_refused(option: str, value: Any) -> None:
    options: Any = {option: value}
    owner = OWNERS[option].replace("-", " ")
    told = f"{option} {value!r} is for {owner}, and the model is one for class"
    with pytest.raises(EncodaxError, match=f"{told}.*: leave it out"):
        Predictor(classifier().model, **options)


def test_every_option_is_of_a_task() -> None:
    assert OWNERS.keys() == DecodingOptions.__annotations__.keys()


# Questions.


@pytest.fixture(scope="module")
def ask() -> encodax.QuestionAnswerer:
    return encodax.QuestionAnswerer(answerer().model)


def test_answers_are_pieces_of_contexts_longer_than_the_model(
    ask: encodax.QuestionAnswerer,
) -> None:
    pairs = [(record["question"], record["context"]) for record in LONG_QUESTIONS]
    assert min(len(encoding) for encoding in ask.model.tokenizer.encode(pairs)) > 2 * 32
    answers = ask.predict(pairs)
    for (_, context), answer in zip(pairs, answers, strict=True):
        assert answer.text == context[answer.start : answer.end] != ""
        assert answer.score > -math.inf
    right = [
        (answer.text, answer.start) == (record["answers"][0]["text"], record["answers"][0]["start"])
        for answer, record in zip(answers, LONG_QUESTIONS, strict=True)
    ]
    assert np.mean(right) >= 0.8
    measured = ask.evaluate(records_of(LONG_QUESTIONS))
    assert measured["exact_match"] == pytest.approx(np.mean(right))


def test_a_context_without_the_answer_has_none(ask: encodax.QuestionAnswerer) -> None:
    answers = ask.predict([(record["question"], record["context"]) for record in QUESTIONS])
    told = [answer.score > answer.no_answer_score for answer in answers]
    assert np.mean([t == bool(r["answers"]) for t, r in zip(told, QUESTIONS, strict=True)]) >= 0.9
    assert ask.evaluate(records_of(QUESTIONS))["f1"] >= 0.9


def test_the_windows_of_one_context_share_rows_with_others(ask: encodax.QuestionAnswerer) -> None:
    pairs = [(record["question"], record["context"]) for record in LONG_QUESTIONS[:6] + QUESTIONS]
    for pair, answer in zip(pairs, ask.predict(pairs), strict=True):
        (alone,) = ask.predict([pair])
        assert (alone.text, alone.start, alone.end) == (answer.text, answer.start, answer.end)
        assert alone.score == pytest.approx(answer.score, abs=1e-4)
        assert alone.no_answer_score == pytest.approx(answer.no_answer_score, abs=1e-4)


def test_the_next_best_answers_are_given_too(ask: encodax.QuestionAnswerer) -> None:
    pairs = [(record["question"], record["context"]) for record in LONG_QUESTIONS[:6] + QUESTIONS]
    several = encodax.QuestionAnswerer(ask.model, top_k=4)
    for (_, context), answer, best in zip(
        pairs, several.predict(pairs), ask.predict(pairs), strict=True
    ):
        assert replace(answer, alternatives=()) == best
        given = [answer, *answer.alternatives]
        assert len({(each.start, each.end) for each in given}) == len(given) > 1
        assert len(given) == 4 or len(context.split()) < 4
        assert sorted(given, key=lambda each: -each.score) == given
        for each in given:
            assert each.text == context[each.start : each.end] != ""
            assert each.no_answer_score == answer.no_answer_score
    assert best.alternatives == ()


def test_an_answer_has_so_many_tokens(ask: encodax.QuestionAnswerer) -> None:
    pair = (LONG_QUESTIONS[0]["question"], LONG_QUESTIONS[0]["context"])
    for most in (1, 2):
        answerer = encodax.QuestionAnswerer(ask.model, top_k=50, max_answer_tokens=most)
        (answer,) = answerer.predict([pair])
        given = [answer, *answer.alternatives]
        texts = [each.text for each in given]
        lengths = {int((~own.is_special).sum()) for own in ask.model.tokenizer.encode(texts)}
        assert max(lengths) == most


def test_a_question_without_a_context_is_refused(ask: encodax.QuestionAnswerer) -> None:
    for text in ("which colour?", ("which colour?", "")):
        with pytest.raises(EncodaxError, match="text 0: the context is empty"):
            ask.predict([text])


# Ranking.

QUERY = "the cat"


def rows(texts: list[str]) -> list[tuple[str, str]]:
    return [(QUERY, text) for text in texts]


@pytest.mark.parametrize("problem", ["regression", "single_label", "multi_label"])
def test_one_score_goes_through_its_activation(tiny_model: Model, problem: Any) -> None:
    model = tiny_model.with_head("sequence", labels=("score",), problem=problem)
    logits = logits_of(model, rows(TEXTS))[:, 0]
    plain = replace(model, config=replace(model.config, usage=InferenceConfig(activation="linear")))
    found = encodax.Reranker(plain).predict(rows(TEXTS))
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5)
    rerank = encodax.Reranker(model)
    wanted = 1 / (1 + np.exp(-logits))  # the sigmoid, where nothing is said
    np.testing.assert_allclose(rerank.predict(rows(TEXTS)), wanted, rtol=0, atol=1e-5)
    assert list(rerank.stream(iter(rows(TEXTS)))) == rerank.predict(rows(TEXTS))
    assert len(set(wanted.round(5))) == 3


def test_of_two_classes_the_second_is_the_score(tiny_model: Model) -> None:
    model = tiny_model.with_head("sequence", labels=("no", "yes"))
    exponentials = np.exp(logits_of(model, rows(TEXTS)))
    wanted = exponentials[:, 1] / exponentials.sum(axis=1)
    found = encodax.Reranker(model).predict(rows(TEXTS))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_three_classes_rank_nothing(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match="one score or two classes, and the model has 3"):
        encodax.Reranker(tiny_model)


def test_a_model_of_another_kind_ranks_nothing(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match="the model is one for embeddings"):
        encodax.Reranker(tiny_model.with_embeddings())
    with pytest.raises(EncodaxError, match="is one for token-classification"):
        encodax.Reranker(tagger().model)


@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
def test_texts_are_ranked_best_first(tiny_model: Model, top_k: int | None) -> None:
    rerank = encodax.Reranker(tiny_model.with_head("sequence", labels=("score",)))
    texts = ["a dog", "dull", "the cat sat", "a dog", "what a film"]
    scores = rerank.predict(rows(texts))
    order = sorted(range(5), key=lambda index: -scores[index])  # equal texts keep their order
    wanted = [Ranked(index, scores[index], texts[index]) for index in order]
    assert rerank.rank(QUERY, texts, top_k=top_k) == wanted[:top_k]
    assert rerank.rank(QUERY, []) == []


def test_a_long_pair_is_refused_or_cut(tiny_model: Model) -> None:
    rerank = encodax.Reranker(tiny_model.with_head("sequence", labels=("score",)))
    with pytest.raises(EncodaxError, match=r"text 1: .* tokens, and the model takes 32"):
        rerank.rank(QUERY, ["a dog", "cat " * 40])
    assert len(rerank.rank(QUERY, ["a dog", "cat " * 40], truncate=True)) == 2


def test_a_model_for_something_else_says_what_for(tiny_model: Model) -> None:
    vocabulary = tiny_model.with_head("vocabulary", classes=tiny_model.tokenizer.vocabulary_size)
    for model, command in ((tiny_model.with_embeddings(), "embed"), (vocabulary, "fill-mask")):
        with pytest.raises(EncodaxError, match=f"use `encodax {command}`"):
            Predictor(model)


def test_every_word_has_its_label(tiny_tokenizer: Tokenizer, tiny_model: Model) -> None:
    model = tiny_model.with_head("token", labels=["O", "B-x", "I-x", "NOUN"], seed=3)
    text = "the quick brown fox, jumps"
    (words,) = encodax.TokenClassifier(model).predict_words([text])
    assert [text[word.start : word.end] for word in words] == [
        "the", "quick", "brown", "fox", ",", "jumps",
    ]  # fmt: skip
    assert {word.label for word in words} <= {"O", "x", "NOUN"}
    (spans,) = encodax.TokenClassifier(model, aggregation="first").predict([text])
    for span in spans:  # spans are words of one label, joined
        inside = [word for word in words if span.start <= word.start < span.end]
        assert {word.label for word in inside} == {span.label}
        assert inside[-1].end == span.end
