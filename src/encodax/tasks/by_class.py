"""Precision and recall for each class, for tasks with classes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from encodax.tasks.task import Example, Task


class ByClass:
    """Counters of right and predicted labels of each class; answers are not kept."""

    def __init__(self, task: Task):
        """Start with all counts at zero.

        Args:
            task: task of the answers; without classes, nothing is counted.
        """
        self._labelled_items = task.labelled_items
        self._right, self._given, self._hits = Counter[str](), Counter[str](), Counter[str]()

    def add(self, answer: Any, example: Example) -> None:
        """Count the answer to an example."""
        if self._labelled_items is None:
            return
        right, given = self._labelled_items(answer, example)
        for counter, labels in (
            (self._right, right),
            (self._given, given),
            (self._hits, right & given),
        ):
            counter.update(label for _, label in labels)

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
