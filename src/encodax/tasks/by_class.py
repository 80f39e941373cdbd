"""How right the answers are, class by class, of the tasks that tell classes apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any

from encodax.tasks import classification, multi_label, token_classification
from encodax.tasks.task import Example, Task

Told = Set[tuple[Any, str]]
"""Of one example: (where, label) pairs that are right, or that were given."""
Reading = Callable[[Any, Example], tuple[Told, Told]]
"""What is right of an example, and what its answer gives."""


class ByClass:
    """Counts what is right and what is given of each class; answers are not kept."""

    def __init__(self, task: Task):
        """Nothing is counted yet.

        Args:
            task: whose answers will be counted; nothing is of one that has no classes.
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
        """Precision, recall, F1 and support (how often it is right) of each class.

        As scikit-learn has them: classes are those that are right or given somewhere, and a figure
        is 0 where there is nothing to divide by.
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


def _of_text(answer: classification.Classification, example: Example) -> tuple[Told, Told]:
    return {(0, example.target)}, {(0, answer.label)}


def _of_labels(answer: classification.Classification, example: Example) -> tuple[Told, Told]:
    given = multi_label.given(answer)
    return {(0, label) for label in example.target}, {(0, label) for label in given}


def _of_spans(answer: Sequence[Any], example: Example) -> tuple[Told, Told]:
    wanted, found = (
        {((span.start, span.end), span.label) for span in spans}
        for spans in (example.target, answer)
    )
    return wanted, found


def _of_words(answer: Sequence[Any], example: Example) -> tuple[Told, Told]:
    found = enumerate(token_classification.labels_of_words(answer, example))
    wanted = enumerate(word.label for word in example.target)
    return set(wanted), {(place, label) for place, label in found if label}


OF_TASKS: dict[str, Reading] = {
    classification.NAME: _of_text,
    multi_label.NAME: _of_labels,
    token_classification.NAME: _of_spans,
}
"""Tasks that have classes."""
