"""Text classification: one label for each text, or pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import class_weights
from encodax.tasks.evaluation_data import warn_if_alike
from encodax.tasks.labels import as_classes, checked_labels, index_of, label_of, normalised_label
from encodax.tasks.losses import classes_loss
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.task import Example, LabelledItems, Targets, Task
from encodax.text.tokenizer import Encoding

NO_ANSWER = {"label": None, "score": None, "scores": None}
"""JSON fields for an empty text."""


@dataclass(frozen=True)
class Classification:
    """Answer for one text."""

    label: str
    """Most probable label."""
    score: float
    """Probability of this label."""
    scores: dict[str, float]
    """Probability of every label. They sum to 1, unless several labels may be right
    (`multi_label`); for `regression` they are quantities."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"text": ..., "label": ...}`, with `text_pair` for pairs.

    Raises:
        EncodaxError: a field is missing or has a wrong type.
    """
    text = text_of(record)
    if not labelled:
        return Example(text, None, record.where)
    label = label_of(record.fields.get("label"))
    if label is None:
        message = f"{record.where}: needs a 'label', a string or a number"
        raise EncodaxError(message + instead_of(record, "label"))
    return Example(text, label, record.where)


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the labels of the examples.

    Raises:
        EncodaxError: there are fewer than two labels.
    """
    found = as_classes(checked_labels((example.target, example.where) for example in examples))
    if len(found) == 1:
        raise EncodaxError(
            f"every example has the label {found[0]!r}, so there is nothing to learn: add examples "
            "of another label"
        )
    return found


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return the class of the text."""
    index = index_of(example.target, labels, example.where)
    return Targets(np.asarray(index, np.int32), np.asarray(1.0, np.float32))


def decode(
    scores: Float[np.ndarray, " C"], encoding: Encoding, labels: tuple[str, ...]
) -> Classification:
    """Return the most probable label."""
    best = int(np.argmax(scores))
    by_label = {label: float(score) for label, score in zip(labels, scores, strict=True)}
    return Classification(labels[best], float(scores[best]), by_label)


def metrics(answers: Iterable[Classification], examples: Iterable[Example]) -> dict[str, float]:
    """Return accuracy, and F1 averaged over the labels (macro)."""
    pairs = zip(answers, examples, strict=True)
    return metrics_of_confusions(
        Counter((normalised_label(e.target), normalised_label(answer.label)) for answer, e in pairs)
    )


def metrics_of_confusions(
    counts: Mapping[tuple[str, str], int], labels: Sequence[str] | None = None
) -> dict[str, float]:
    """Return accuracy and macro F1 from a confusion matrix.

    Args:
        counts: (right label, predicted label) -> number of examples.
        labels: labels that F1 is averaged over; None for all that occur.
    """
    from sklearn.metrics import accuracy_score, f1_score  # slow to import (a second)

    right, given = zip(*counts, strict=True)
    times = list(counts.values())
    f1 = f1_score(
        right, given, sample_weight=times, labels=labels, average="macro", zero_division=0
    )
    accuracy = accuracy_score(right, given, sample_weight=times)
    return {"accuracy": float(accuracy), "f1": float(f1)}


def labelled_items(answer: Classification, example: Example) -> tuple[LabelledItems, LabelledItems]:
    """Return the right label and the predicted one."""
    return {(0, example.target)}, {(0, answer.label)}


def to_json(answer: Classification) -> dict[str, Any]:
    """Return the JSON fields `label`, `score` and `scores`."""
    return asdict(answer)


TASK = Task(
    name="classification",
    head="sequence",
    metric_names=("f1", "accuracy"),  # F1 averaged over labels: rare ones count as much as others
    options=frozenset({"label_smoothing", "class_weights"}),
    parse=parse,
    loss=classes_loss,
    labels=labels,
    loss_options_for=class_weights.loss_options_for,
    targets=targets,
    decode=decode,
    metrics=metrics,
    labelled_items=labelled_items,
    check_evaluation=warn_if_alike,
    no_answer=NO_ANSWER,
    to_json=to_json,
    has_known_shapes=True,
)
