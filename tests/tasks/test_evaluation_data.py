"""Data by which no model can be told from another is refused, or noted."""

from __future__ import annotations

from typing import Any

import pytest

from encodax.errors import EncodaxError
from encodax.tasks import classification, embedding, regression, reranking
from encodax.tasks.task import Example


def texts(*targets: Any) -> list[Example]:
    return [Example("a", target, "") for target in targets]


def pairs(*labels: float) -> list[Example]:
    return [Example(("q", str(label)), label, "") for label in labels]


def belonging(*positives: str) -> list[Example]:
    return [Example("a", None, "", (text,)) for text in positives]


def test_without_a_relevant_text_nothing_is_measured() -> None:
    with pytest.raises(EncodaxError, match="none of 1 queries has a relevant text"):
        reranking.TASK.check_evaluation(pairs(0.0, 0.0))


@pytest.mark.parametrize(
    ("task", "examples"),
    [
        (reranking.TASK, pairs(0.0, 1.0)),
        (regression.TASK, texts(1.0, 2.0)),
        (classification.TASK, texts("x", "y")),
        (embedding.TASK, belonging("b", "c")),
        (embedding.TASK, texts(1.0, 0.0)),
    ],
)
def test_what_tells_models_apart_is_not_noted(
    task: Any, examples: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    task.check_evaluation(examples)
    assert not caplog.records


@pytest.mark.parametrize(
    ("task", "examples", "told"),
    [
        (reranking.TASK, pairs(1.0, 1.0), "every text is relevant"),
        (regression.TASK, texts(1.0, 1.0), "every example has 1.0"),
        (classification.TASK, texts("x"), "every example has 'x'"),
        (embedding.TASK, belonging("b", "b"), "every example has the same positive"),
        (embedding.TASK, texts(0.5), "every example has 0.5"),
    ],
)
def test_what_says_little_is_noted(
    task: Any, examples: list[Example], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    task.check_evaluation(examples)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the evaluation data says little about a model: {told}")
