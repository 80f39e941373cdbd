"""Weights of classes are those of scikit-learn, and so are the losses that they make."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from encodax.errors import EncodaxError
from encodax.tasks import classification, multi_label
from encodax.tasks.class_weights import weighted
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.training.setup.origins import StartModel
from encodax.training.setup.prepare import prepare
from encodax.types.batches import ModelOutput, PackedBatch

RIGHT = ["a"] * 12 + ["b"] * 3 + ["c"]
EXAMPLES = [Example("text", label, f"line {n}") for n, label in enumerate(RIGHT, 1)]
ANY = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))


def weights(given: Any, labels: tuple[str, ...] = ("a", "b", "c")) -> Any:
    asked = LossOptions(class_weights=given)
    return weighted(asked, EXAMPLES, labels).class_weights


def test_balanced_is_that_of_scikit_learn() -> None:
    wanted = compute_class_weight("balanced", classes=np.unique(RIGHT), y=RIGHT)
    assert weights("balanced") == pytest.approx(dict(zip("abc", wanted, strict=True)))


def test_a_label_that_is_not_learned_weighs_one() -> None:
    found = weights("balanced", ("z", "c", "b", "a"))
    assert list(found) == ["z", "c", "b", "a"]  # as the model has them
    assert found == {"z": 1.0, **weights("balanced")}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("b=2.5", {"a": 1, "b": 2.5, "c": 1}),
        ("c=3, a=0.5", {"a": 0.5, "b": 1, "c": 3}),
        ({"c": 3}, {"a": 1, "b": 1, "c": 3}),
        ("1,2,3", {"a": 1, "b": 2, "c": 3}),
        ([1, 2, 3.5], {"a": 1, "b": 2, "c": 3.5}),
        (None, None),
    ],
)
def test_weights_are_given_by_label_or_in_order(given: Any, wanted: Any) -> None:
    found = weights(given)
    assert found == wanted
    assert found is None or list(found) == ["a", "b", "c"]


def test_labels_that_mean_one_thing_have_one_weight() -> None:
    with pytest.raises(EncodaxError, match="class_weights: '1' is given twice"):
        weights("1=2,1.0=3", ("1", "2"))


def test_a_label_may_hold_an_equals_sign() -> None:
    assert weights("a=b=2", ("a=b", "c")) == {"a=b": 2, "c": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("z=2", "class_weights: no label 'z'; the labels are: 'a', 'b', 'c'"),
        ("1,2", "class_weights: 2 numbers are given, and there are 3 labels: 'a', 'b', 'c'"),
        ("balance", "class_weights: 1 numbers are given|'balance' is not a number above 0; give"),
        ("a=2,3", "class_weights 'a=2,3': give \"balanced\", LABEL=2.5,"),
        ({"a": 0}, "class_weights: 0 is not a number above 0"),
        ({"a": -1}, "-1 is not a number above 0"),
        ({"a": float("nan")}, "nan is not a number above 0"),
        ({"a": True}, "True is not a number above 0"),
        ("", 'class_weights is empty: give "balanced", LABEL='),
        (
            "balanced=2",
            r"no label 'balanced' \(\"balanced\" takes no number\); the labels are: 'a'",
        ),
        ("a=1,b=2,a=2", "class_weights: 'a' is given twice: give each label one weight$"),
        ("a=inf", "'inf' is not a number above 0"),
    ],
)
def test_what_is_no_weight_is_named(given: Any, message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        weights(given)


def test_what_is_wrong_is_told_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StartModel, "of", lambda *_: pytest.fail("it is loaded"))
    records = [{"text": "a", "label": label} for label in "xy"]
    for choices in ({"class_weights": "x=1,x=2"}, {"class_weights": ""}, {"metric": "best"}):
        with pytest.raises(EncodaxError, match=r"given twice|is empty|metric 'best' is not one of"):
            prepare("classification", train=records, eval=records, model="base", **choices)


def test_the_loss_is_that_of_weighted_examples() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, len(RIGHT), 3)).astype(np.float32)
    values = np.asarray([["abc".index(label) for label in RIGHT]], np.int32)
    targets = Targets(jnp.asarray(values), jnp.ones(values.shape))
    loss_options = LossOptions(class_weights=weights("balanced"))
    output = ModelOutput(jnp.zeros((1, 2, 1)), jnp.asarray(logits))
    total, weight = classification.TASK.loss(output, targets, ANY, loss_options)
    each = np.exp(logits[0]) / np.exp(logits[0]).sum(axis=-1, keepdims=True)
    sample = compute_sample_weight("balanced", RIGHT)
    wanted = log_loss(RIGHT, each, sample_weight=sample)
    assert float(total / weight) == pytest.approx(wanted, rel=1e-5)
    assert float(weight) == pytest.approx(sample.sum(), rel=1e-6)


def test_of_several_labels_each_is_a_problem_of_two_classes() -> None:
    random = np.random.default_rng(0)
    right = random.random((40, 3)) < [0.1, 0.5, 0.7]
    labels = np.asarray(["x", "y", "z"])
    examples = [Example("", tuple(labels[own].tolist()), "") for own in right]
    asked = LossOptions(class_weights="balanced")
    loss_options = weighted(asked, examples, ("x", "y", "z"))
    logits = random.normal(size=(1, 40, 3)).astype(np.float32)
    targets = Targets(jnp.asarray(right[None].astype(np.float32)), jnp.ones((1, 40)))
    output = ModelOutput(jnp.zeros((1, 2, 1)), jnp.asarray(logits))
    total, weight = multi_label.loss(output, targets, ANY, loss_options)
    sums = np.zeros(2)
    for own, scores in zip(right.T, logits[0].T, strict=True):
        balanced = compute_sample_weight("balanced", own)
        sample = balanced / balanced[~own][0]  # what does not have the label weighs 1
        probability = 1 / (1 + np.exp(-scores.astype(np.float64)))
        sums += log_loss(own, probability, sample_weight=sample, normalize=False), sample.sum()
    assert float(total / weight) == pytest.approx(sums[0] / sums[1], rel=1e-5)


def test_equal_weights_are_none() -> None:
    right = jnp.asarray([[0, 1, 2]])
    targets = Targets(right, jnp.asarray([[1.0, 1.0, 0.0]]))
    output = ModelOutput(jnp.zeros((1, 2, 1)), jnp.asarray(np.eye(3, dtype=np.float32)[None]))
    plain = classification.TASK.loss(output, targets, ANY, LossOptions())
    equal = classification.TASK.loss(
        output, targets, ANY, LossOptions(class_weights=weights("1,1,1"))
    )
    assert list(map(float, equal)) == list(map(float, plain))
