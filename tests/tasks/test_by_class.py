"""Figures of each class are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from encodax.tasks import classification, embedding, multi_label, token_classification
from encodax.tasks.by_class import ByClass
from encodax.tasks.classification import Classification
from encodax.tasks.task import Example, Task
from encodax.types.batches import Span

LABELS = ("a", "b", "c", "d")


def counted(task: Task, pairs: list[tuple[object, Example]]) -> dict[str, dict[str, float]]:
    counts = ByClass(task)
    for answer, example in pairs:
        counts.add(answer, example)
    return counts.figures()


def test_of_classes() -> None:
    random = np.random.default_rng(0)
    right = random.choice(["a", "b", "c"], 50, p=[0.9, 0.06, 0.04]).tolist()
    given = random.choice(["a", "d"], 50).tolist()  # nothing of b and c; d is never right
    found = counted(
        classification.TASK,
        [
            (Classification(g, 1.0, {}), Example("", r, ""))
            for g, r in zip(given, right, strict=True)
        ],
    )
    wanted = precision_recall_fscore_support(right, given, labels=LABELS, zero_division=0)
    assert list(found) == list(LABELS)
    for label, figures in zip(LABELS, np.transpose(wanted), strict=True):
        assert list(found[label].values()) == pytest.approx(figures.tolist())
    macro = np.mean([figures["f1"] for figures in found.values()])
    answers = [Classification(label, 1.0, {}) for label in given]
    told = classification.metrics(answers, [Example("", label, "") for label in right])
    assert told["f1"] == pytest.approx(macro)


def test_of_labels_of_which_several_may_be_right() -> None:
    random = np.random.default_rng(0)
    right, scores = random.random((20, 4)) < 0.3, random.random((20, 4))
    right[:, 3] = scores[:, 3] = False  # of d there is nothing
    pairs: list[tuple[object, Example]] = [
        (
            Classification("a", 1.0, dict(zip(LABELS, map(float, own), strict=True))),
            Example("", tuple(np.asarray(LABELS)[wanted].tolist()), ""),
        )
        for own, wanted in zip(scores, right, strict=True)
    ]
    found = counted(multi_label.TASK, pairs)
    wanted = precision_recall_fscore_support(right, scores >= 0.5, zero_division=0)
    assert list(found) == ["a", "b", "c"]
    for label, figures in zip("abc", np.transpose(wanted)[:3], strict=True):
        assert list(found[label].values()) == pytest.approx(figures.tolist())


def test_of_spans_those_that_are_right_in_all() -> None:
    right = (Span(0, 3, "day"), Span(4, 6, "who"), Span(8, 9, "who"))
    given = (Span(0, 3, "day", 0.5), Span(4, 6, "day", 0.5), Span(8, 10, "who", 0.5))
    found = counted(token_classification.TASK, [(given, Example("", right, ""))])
    assert found["day"] == {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3), "support": 1}
    assert found["who"] == {"precision": 0, "recall": 0, "f1": 0, "support": 2}


def test_vectors_have_no_classes() -> None:
    assert counted(embedding.TASK, [([], Example("", None, ""))]) == {}
