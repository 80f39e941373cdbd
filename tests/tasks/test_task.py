"""What the tasks share: texts, labels and the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from encodax.config import ModelConfig
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.tasks import (
    classification,
    multi_label,
    regression,
    reranking,
    task_named,
    task_of,
    task_of_records,
    token_classification,
)
from encodax.tasks.labels import UnknownLabels, checked_labels, index_of
from encodax.tasks.losses import cross_entropy
from encodax.tasks.record_fields import text_of
from encodax.tasks.task import Targets


def test_a_task_has_a_name() -> None:
    assert task_named("classification") is classification.TASK
    assert task_named("token-classification") is token_classification.TASK
    with pytest.raises(
        EncodaxError, match="'nonsense' is not one of: classification, multi-label, regr"
    ):
        task_named("nonsense")


def test_the_head_tells_the_task(tiny_config: ModelConfig) -> None:
    head = tiny_config.head
    assert head is not None
    tokens = replace(tiny_config, head=replace(head, kind="token", pooling=None))
    assert task_of(tiny_config) is classification.TASK
    assert task_of(tokens) is token_classification.TASK
    with pytest.raises(EncodaxError, match="has no head"):
        task_of(replace(tiny_config, head=None))


@pytest.mark.parametrize(
    ("problem", "task"),
    [
        ("single_label", classification.TASK),
        ("multi_label", multi_label.TASK),
        ("regression", regression.TASK),
    ],
)
def test_what_scores_mean_tells_the_task_too(
    tiny_config: ModelConfig, problem: Any, task: object
) -> None:
    head = tiny_config.head
    assert head is not None
    assert task_of(replace(tiny_config, head=replace(head, problem=problem))) is task


def test_the_first_record_tells_regression_from_reranking(tiny_config: ModelConfig) -> None:
    head = tiny_config.head
    assert head is not None
    one_score = replace(tiny_config, head=replace(head, classes=1, problem="regression"))
    pair = {"query": "a", "text": "b"}
    for fields, task in (
        ({"text": "a", "score": 1}, regression.TASK),
        ({"text": "a", "text_pair": "b", "query": "c"}, regression.TASK),
        ({"score": 1}, regression.TASK),
        (pair, reranking.TASK),
        ({"query": "a"}, reranking.TASK),
    ):
        assert task_of_records(one_score, records_of([fields]))[0] is task
        assert task_of_records(tiny_config, records_of([fields]))[0] is classification.TASK
    task, records = task_of_records(one_score, records_of([pair, {}, pair]))
    assert [record.fields for record in records] == [pair, {}, pair]
    task, records = task_of_records(one_score, records_of([]))
    assert (task, list(records)) == (regression.TASK, [])


def test_a_text_or_a_pair() -> None:
    assert text_of(Record({"text": "a"}, "here")) == "a"
    assert text_of(Record({"text": "a", "text_pair": "b"}, "here")) == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"here: no field 'text' \(found: nothing\)"),
        ({"txt": "a", "label": "x"}, r"no field 'text' \(found: txt, label\)"),
        ({"text": 3}, "a text is a string, not 3"),
        ({"text": None}, "a text is a string, not None"),
        ({"text": " \n"}, "here: the text is empty"),
        ({"text": "a", "text_pair": ""}, "here: the text is empty"),
        ({"text": "a", "text_pair": None}, "a text is a string, not None"),
        ({"text": "ab\ud800"}, r"here: character 2 of the text, '\\ud800', is not Unicode"),
    ],
)
def test_what_is_no_text_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        text_of(Record(fields, "here"))


def seen(*labels: str) -> list[tuple[str, str]]:
    return [(label, f"line {number}") for number, label in enumerate(labels, 1)]


def test_labels_are_sorted() -> None:
    assert checked_labels(seen("b", "a", "b", "a")) == ("a", "b")


def test_numbers_are_sorted_as_numbers() -> None:
    numbers = ["10", "9", "-1", "2"]
    assert checked_labels(seen(*numbers, *numbers)) == ("-1", "2", "9", "10")
    assert checked_labels(seen("10", "9", "x", "x", "10", "9")) == ("10", "9", "x")


def test_labels_seen_once_are_noted_all_at_once(caplog: pytest.LogCaptureFixture) -> None:
    assert checked_labels(seen("a", "b", "a", "c")) == ("a", "b", "c")
    (record,) = caplog.records
    assert record.getMessage() == (
        "2 labels are seen once, so little can be learned about them: 'b' (line 2), 'c' (line 4)"
    )


def test_unknown_labels_are_named_with_their_records() -> None:
    error = UnknownLabels.of("line 2", {"x": 1, "y": 3}, [str(i) for i in range(52)])
    assert str(error).startswith(
        "line 2: unknown labels 'x', 'y' (3 records); the model knows: 0, 1"
    )
    assert str(error).endswith(", 18, 19, ... (32 more)")


def test_no_label_is_refused() -> None:
    with pytest.raises(EncodaxError, match="no label"):
        checked_labels([])


def test_an_unknown_label_is_refused() -> None:
    assert index_of("b", ("a", "b"), "line 1") == 1
    with pytest.raises(EncodaxError, match=r"line 1: unknown label 'c'; the model knows: a, b$"):
        index_of("c", ("a", "b"), "line 1")


def test_an_error_does_not_list_a_thousand_labels() -> None:
    with pytest.raises(EncodaxError, match=r"knows: 0, .*, 19, \.\.\. \(980 more\)$"):
        index_of("c", tuple(map(str, range(1000))), "line 1")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("places", [(5,), (3, 4)])
def test_cross_entropy_is_the_formula(places: tuple[int, ...], smoothing: float) -> None:
    random = np.random.default_rng(0)
    classes = 7
    logits = 3 * random.normal(size=(*places, classes)).astype(np.float32)
    right = random.integers(classes, size=places).astype(np.int32)
    weights = random.choice([0.0, 1.0, 2.5], size=places).astype(np.float32)

    exact = logits.astype(np.float64)
    log_scores = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(classes)[right] + smoothing / classes
    losses = -(wanted * log_scores).sum(-1)

    targets = Targets(jnp.asarray(right), jnp.asarray(weights))
    total, weight = cross_entropy(jnp.asarray(logits), targets, label_smoothing=smoothing)
    np.testing.assert_allclose(total, (losses * weights).sum(), rtol=1e-6)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)


def test_what_weighs_nothing_adds_nothing() -> None:
    logits = jnp.asarray([[1.0, 2.0], [3.0, -1.0]])
    targets = Targets(jnp.asarray([0, 1]), jnp.asarray([1.0, 0.0]))
    other = logits.at[1].set(jnp.asarray([-50.0, 70.0]))
    assert cross_entropy(logits, targets) == cross_entropy(other, targets)
    assert cross_entropy(logits, targets)[1] == 1
