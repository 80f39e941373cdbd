"""Precision and recall for each class, for tasks with classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any

from encodax.tasks import classification, multi_label, token_classification
from encodax.tasks.task import Example, Task

LabelledItems = Set[tuple[Any, str]]
"""Labels of one example, (position, label), either the right or the predicted ones."""
LabelReader = Callable[[Any, Example], tuple[LabelledItems, LabelledItems]]
"""(answer, example) -> the right labels, and the predicted ones."""


class ByClass:
    """Counters of right and predicted labels of each class; answers are not kept."""

    def __init__(self, task: Task):
        """Start with all counts at zero.

        Args:
            task: task of the answers; without classes, nothing is counted.
        """
        self._reading = OF_TASKS.get(task.NAME)
        if isinstance(task, token_classification.Reading) and task.is_of_words:
            self._reading = _of_words
        self._right, self._given, self._hits = Counter[str](), Counter[str](), Counter[str]()

    def add(self, answer: Any, example: Example) -> None:
        """Count the answer to an example."""
        if self._reading is None:
            return
        right, given = self._reading(answer, example)
        for counter, told in (
            (self._right, right),
            (self._given, given),
            (self._hits, right & given),
        ):
            counter.update(label for _, label in told)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support (number of right labels) of each class.

        Values are those of scikit-learn: classes are those that are right or predicted somewhere,
        and a value is 0 where its denominator is 0.
        """
        return {label: self._of_class(label) for label in sorted(self._right | self._given)}

    def _of_class(self, label: str) -> dict[str, float]:
        right, given, hits = self._right[label], self._given[label], self._hits[label]
        return {
            "precision": hits / max(given, 1),
            "recall": hits / max(right, 1),
            "f1": 2 * hits / (given + right),
            "support": right,
        }


def _of_text(
    answer: classification.Classification, example: Example
) -> tuple[LabelledItems, LabelledItems]:
    return {(0, example.target)}, {(0, answer.label)}


def _of_labels(
    answer: classification.Classification, example: Example
) -> tuple[LabelledItems, LabelledItems]:
    given = multi_label.given(answer)
    return {(0, label) for label in example.target}, {(0, label) for label in given}


def _of_spans(answer: Sequence[Any], example: Example) -> tuple[LabelledItems, LabelledItems]:
    wanted, found = (
        {((span.start, span.end), span.label) for span in spans}
        for spans in (example.target, answer)
    )
    return wanted, found


def _of_words(answer: Sequence[Any], example: Example) -> tuple[LabelledItems, LabelledItems]:
    found = enumerate(token_classification.labels_of_words(answer, example))
    wanted = enumerate(word.label for word in example.target)
    return set(wanted), {(place, label) for place, label in found if label}


OF_TASKS: dict[str, LabelReader] = {
    classification.NAME: _of_text,
    multi_label.NAME: _of_labels,
    token_classification.NAME: _of_spans,
}
"""Functions for the tasks that have classes."""
