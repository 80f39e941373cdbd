"""Records to labels, scores to an answer, answers to metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import classification
from encodax.tasks.classification import Classification
from encodax.tasks.labels import index_of
from encodax.tasks.task import Example
from encodax.text.tokenizer import Encoding, Tokenizer


@pytest.fixture(scope="module")
def encoding(tiny_tokenizer: Tokenizer) -> Encoding:
    return tiny_tokenizer.encode(["the cat"])[0]


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return classification.parse(Record(fields, "here"), labelled=labelled)


def test_a_record_is_a_text_and_a_label() -> None:
    assert parsed({"text": "a", "label": "x"}) == Example("a", "x", "here")


def test_a_label_may_be_a_number() -> None:
    assert parsed({"text": "a", "label": 3}).target == "3"
    assert parsed({"text": "a", "label": 0}).target == "0"


def test_a_pair_has_one_label() -> None:
    record = {"text": "a", "text_pair": "b", "label": "x"}
    assert parsed(record) == Example(("a", "b"), "x", "here")


def test_a_label_is_not_looked_at_where_none_is_asked() -> None:
    assert parsed({"text": "a", "label": []}, labelled=False) == Example("a", None, "here")
    assert parsed({"text": "a"}, labelled=False).target is None


@pytest.mark.parametrize("label", [None, "", math.nan, math.inf, ["x"], {}])
def test_another_kind_of_label_is_refused(label: object) -> None:
    with pytest.raises(EncodaxError, match="here: needs a 'label', a string or a number, not "):
        parsed({"text": "a", "label": label})


def test_a_label_may_not_be_missing() -> None:
    with pytest.raises(EncodaxError, match=r"here: .* \(found: text, stars\); .* label=NAME$"):
        parsed({"text": "a", "stars": 1})


def test_labels_that_mean_one_thing_are_one_class() -> None:
    mixed = examples("1", "1.0", "0.0", "0.0")
    assert classification.labels(mixed) == ("0.0", "1")
    assert [index_of(each.target, ("0.0", "1"), "here") for each in mixed] == [1, 1, 0, 0]
    known = ("False", "True")  # as a model has them whose data was of another format
    assert index_of("true", known, "here") == 1
    answers = [Classification("True", 1.0, {"True": 1.0, "False": 0.0})] * 2
    assert classification.metrics(answers, examples("true", "TRUE"))["accuracy"] == 1
    assert classification.metrics(answers, examples("true", "false"))["accuracy"] == 0.5


def examples(*labels: str) -> list[Example]:
    return [Example("text", label, f"line {n}") for n, label in enumerate(labels, 1)]


def test_labels_are_those_of_the_examples() -> None:
    assert classification.labels(examples("b", "a", "a", "b")) == ("a", "b")


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(EncodaxError, match="every example has the label 'a'"):
        classification.labels(examples("a", "a"))


def test_the_target_is_the_class(encoding: Encoding) -> None:
    targets = classification.targets(Example("a", "y", "here"), encoding, ("x", "y"))
    assert (targets.values, targets.weights) == (1, 1)
    assert np.shape(targets.values) == np.shape(targets.weights) == ()


def test_the_target_is_known_to_the_model(encoding: Encoding) -> None:
    with pytest.raises(EncodaxError, match="here: unknown label 'z'"):
        classification.targets(Example("a", "z", "here"), encoding, ("x", "y"))


def test_the_answer_is_the_most_probable_label(encoding: Encoding) -> None:
    scores = np.asarray([0.25, 0.625, 0.125], np.float32)
    answer = classification.decode(scores, encoding, ("x", "y", "z"))
    assert answer == Classification("y", 0.625, {"x": 0.25, "y": 0.625, "z": 0.125})
    assert classification.to_json(answer) == {
        "label": "y",
        "score": 0.625,
        "scores": {"x": 0.25, "y": 0.625, "z": 0.125},
    }


def test_metrics_are_accuracy_and_macro_f1() -> None:
    found = [Classification(label, 1.0, {}) for label in ("x", "x", "y", "y", "x")]
    metrics = classification.metrics(found, examples("x", "y", "y", "y", "z"))
    # F1: of x 2 * 1 / (3 + 1), of y 2 * 2 / (2 + 3), of z 0.
    assert metrics == pytest.approx({"accuracy": 3 / 5, "f1": (0.5 + 0.8 + 0) / 3})


def test_the_metric_that_decides_is_measured() -> None:
    found = [Classification("x", 1.0, {})]
    assert classification.TASK.metric in classification.metrics(found, examples("x"))


def test_many_labels_on_few_examples_warn_of_nothing() -> None:
    labels = [str(number) for number in range(30)]
    found = [Classification(label, 1.0, {}) for label in labels]
    assert classification.metrics(found, examples(*labels))["accuracy"] == 1
