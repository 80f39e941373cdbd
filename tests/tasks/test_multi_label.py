"""Records to sets of labels, scores to those that are given, and a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from toys import TRAITS, labeller

import encodax
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.tasks import multi_label
from encodax.tasks.classification import Classification
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.text.tokenizer import Encoding, Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch

BATCH = PackedBatch.from_rows(np.zeros((1, 2), np.int32))


@pytest.fixture(scope="module")
def encoding(tiny_tokenizer: Tokenizer) -> Encoding:
    return tiny_tokenizer.encode(["the cat"])[0]


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return multi_label.parse(Record(fields, "here"), labelled=labelled)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        (["x", "y"], ("x", "y")),
        ([], ()),
        ([1, "x"], ("1", "x")),
        ([1.0, 1, 1.5, True], ("1", "1.5", "true")),
        (["x", "y", "x"], ("x", "y")),
        (["a, b"], ("a, b",)),
        ("x, y", ("x", "y")),
        ("x", ("x",)),
        ("", ()),
    ],
)
def test_a_record_is_a_text_and_its_labels(given: object, target: tuple[str, ...]) -> None:
    assert parsed({"text": "a", "labels": given}) == Example("a", target, "here")


def test_a_pair_has_its_labels() -> None:
    record = {"text": "a", "text_pair": "b", "labels": ["x"]}
    assert parsed(record) == Example(("a", "b"), ("x",), "here")


def test_labels_are_not_looked_at_where_none_are_asked() -> None:
    assert parsed({"text": "a", "labels": 3}, labelled=False) == Example("a", None, "here")


@pytest.mark.parametrize("given", [None, 3, True, [""], [math.nan], [None], [["x"]], {"x": 1}])
def test_other_kinds_of_labels_are_refused(given: object) -> None:
    with pytest.raises(
        EncodaxError, match="here: needs 'labels', a list of strings or numbers, not "
    ):
        parsed({"text": "a", "labels": given})


def test_labels_may_not_be_missing() -> None:
    with pytest.raises(EncodaxError, match="here: needs 'labels'"):
        parsed({"text": "a", "label": "x"})


def examples(*targets: tuple[str, ...]) -> list[Example]:
    return [Example("text", target, f"line {n}") for n, target in enumerate(targets, 1)]


def test_labels_are_those_of_the_examples() -> None:
    assert multi_label.labels(examples(("b", "a"), (), ("a",), ("b",))) == ("a", "b")
    assert multi_label.labels(examples(("a",), (), ("a",))) == ("a",)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([(), ()], "the training data has no label"),
        (
            [("a", "b"), ("b", "a")],
            "every example has the labels a, b, so there is nothing to learn",
        ),
    ],
)
def test_what_teaches_nothing_is_refused(targets: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        multi_label.labels(examples(*targets))


def test_the_target_is_a_number_for_each_label(encoding: Encoding) -> None:
    for target, values in ((("z", "x"), [1, 0, 1]), ((), [0, 0, 0])):
        found = multi_label.targets(Example("a", target, "here"), encoding, ("x", "y", "z"))
        assert found.values.tolist() == values
        assert (found.values.dtype, found.weights) == (np.float32, 1)


def test_the_target_is_known_to_the_model(encoding: Encoding) -> None:
    with pytest.raises(EncodaxError, match="here: unknown label 'z'; the model knows: x, y"):
        multi_label.targets(Example("a", ("x", "z"), "here"), encoding, ("x", "y"))


def test_the_loss_is_the_formula() -> None:
    random = np.random.default_rng(0)
    logits = 3 * random.normal(size=(2, 4, 5)).astype(np.float32)
    values = random.integers(2, size=(2, 4, 5)).astype(np.float32)
    weights = random.choice([0.0, 1.0], size=(2, 4)).astype(np.float32)
    right = 1 / (1 + np.exp(-logits.astype(np.float64)))
    losses = -(values * np.log(right) + (1 - values) * np.log(1 - right)).mean(-1)
    output = ModelOutput(jnp.zeros((2, 3, 1)), jnp.asarray(logits), None, {})
    targets = Targets(jnp.asarray(values), jnp.asarray(weights))
    total, weight = multi_label.loss(output, targets, BATCH, LossOptions())
    np.testing.assert_allclose(total, (losses * weights).sum(), rtol=1e-6)
    assert weight == weights.sum()


def test_an_answer_tells_the_labels_that_are_given(encoding: Encoding) -> None:
    scores = np.asarray([0.75, 0.25, 0.5], np.float32)
    answer = multi_label.TASK.decode(scores, encoding, ("x", "y", "z"))
    assert answer == Classification("x", 0.75, {"x": 0.75, "y": 0.25, "z": 0.5})
    assert multi_label.to_json(answer) == {
        "labels": ["x", "z"],
        "label": "x",
        "score": 0.75,
        "scores": {"x": 0.75, "y": 0.25, "z": 0.5},
    }


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_metrics_are_those_of_scikit_learn(encoding: Encoding, classes: int) -> None:
    random = np.random.default_rng(classes)
    labels = tuple(f"label {index}" for index in range(classes))
    scores = random.uniform(size=(20, classes)).astype(np.float32)
    right = random.integers(2, size=(20, classes))
    right[3] = scores[3] >= 0.5
    answers = [multi_label.TASK.decode(row, encoding, labels) for row in scores]
    targets = [tuple(labels[i] for i in np.flatnonzero(row)) for row in right]
    given = (scores >= 0.5).astype(int)
    assert multi_label.metrics(answers, examples(*targets)) == pytest.approx(
        {
            "f1": f1_score(right, given, average="micro"),
            "f1_macro": f1_score(right, given, average="macro"),
            "exact_match": accuracy_score(right, given),
        }
    )


def test_a_label_that_is_nowhere_has_an_f1_of_0() -> None:
    answers = [Classification("x", 0.9, {"x": 0.9, "y": 0.1})] * 2
    found = multi_label.metrics(answers, examples(("x",), ("x",)))
    assert found == {"f1": 1.0, "f1_macro": 0.5, "exact_match": 1.0}
    nothing = multi_label.metrics([Classification("x", 0.1, {"x": 0.1})], examples(()))
    assert nothing == {"f1": 0.0, "f1_macro": 0.0, "exact_match": 1.0}


def test_a_model_learns_and_is_saved(tmp_path: Path) -> None:
    result = labeller()
    told = dict(result.metrics)
    assert told.pop("loss") < 0.2
    assert told == {"f1": 1.0, "f1_macro": 1.0, "exact_match": 1.0}
    assert result.model.config.labels == ("funny", "short")
    result.model.save(tmp_path / "model")
    classify = encodax.Classifier.load(tmp_path / "model")
    found = classify.evaluate(records_of(TRAITS))
    assert set(found.pop("classes")) == {"funny", "short"}
    assert found == told
    answers = classify.predict([record["text"] for record in TRAITS])
    assert [multi_label.to_json(answer)["labels"] for answer in answers] == [
        record["labels"] for record in TRAITS
    ]
