"""Multi-label text classification: none, one or several labels for each text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data.cells import list_of
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import classification
from encodax.tasks.classification import Classification
from encodax.tasks.labels import (
    as_classes,
    check_known,
    checked_labels,
    index_of,
    label_of,
    normalised_label,
)
from encodax.tasks.losses import weights_of
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.task import Example, LabelledItems, LossOptions, Targets, accept
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch

THRESHOLD = 0.5
"""Minimum probability of a predicted label."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"text": ..., "labels": ["...", ...]}`, with `text_pair` for pairs; `[]` is no label.

    In a table, `labels` may be one string: labels separated by commas, or a list as written by
    JSON, Python or NumPy.

    Raises:
        EncodaxError: a field is missing or has a wrong type.
    """
    text = text_of(record)
    if not labelled:
        return Example(text, None, record.where)
    found = list_of(record, "labels", wants='x, y or ["x", "y"]')
    if isinstance(found, str):
        found = [label for label in map(str.strip, found.split(",")) if label]
    given = [label_of(item) for item in found] if isinstance(found, list) else [None]
    if None in given:
        message = f"{record.where}: needs 'labels', a list of strings or numbers"
        raise EncodaxError(message + instead_of(record, "labels"))
    return Example(text, tuple(dict.fromkeys(label for label in given if label)), record.where)


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the labels of the examples.

    Raises:
        EncodaxError: there are no labels, or all examples have the same ones.
    """
    seen = ((label, each.where) for each in examples for label in each.target)
    found = as_classes(checked_labels(seen))
    meant = set(map(normalised_label, found))
    if all(set(map(normalised_label, example.target)) == meant for example in examples):
        named = ", ".join(found)
        raise EncodaxError(
            f"every example has the labels {named}, so there is nothing to learn: add examples "
            "with others"
        )
    return found


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return 1 for each label of the text, 0 for the others: (C,)."""
    check_known(example.target, labels, example.where)
    values = np.zeros(len(labels), np.float32)  # (C,)
    values[[index_of(label, labels, example.where) for label in example.target]] = 1
    return Targets(values, np.asarray(1.0, np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the binary cross entropy of the sigmoid of each score, the mean over the labels.

    1/C * sum_c -(y_c log s(z_c) + (1 - y_c) log(1 - s(z_c))), as (weighted sum, weight).

    A class weight multiplies the texts that have the label, not those that lack it, in the sum and
    in the weight.
    """
    import optax  # not needed for prediction, and slow to import

    assert output.logits is not None
    logits = output.logits.astype(jnp.float32)  # (B, N, C)
    losses = optax.sigmoid_binary_cross_entropy(logits, targets.values)  # (B, N, C)
    weights = jnp.broadcast_to(jnp.asarray(targets.weights)[..., None], losses.shape)  # (B, N, C)
    of_labels = weights_of(loss_options.class_weights)
    if of_labels is not None:
        weights = weights * jnp.where(jnp.asarray(targets.values) > 0, of_labels, 1.0)
    classes = losses.shape[-1]
    return jnp.sum(losses * weights) / classes, jnp.sum(weights) / classes


def metrics(answers: Iterable[Classification], examples: Iterable[Example]) -> dict[str, float]:
    """Return F1 over all labels together (micro) and averaged over them (macro), and exact match.

    F1 = 2 * hits / (predicted + right), and 0 for a label that is neither. An exact match predicts
    all right labels, and no other.
    """
    exact = total = 0
    hits: np.ndarray = np.zeros((), np.int64)  # (C,)
    counts: np.ndarray = hits
    for answer, example in zip(answers, examples, strict=True):
        given = np.array([score >= THRESHOLD for score in answer.scores.values()])  # (C,)
        meant = set(map(normalised_label, example.target))
        right = np.array([normalised_label(label) in meant for label in answer.scores])
        hits = hits + (given & right)
        counts = counts + given + right
        exact += bool((given == right).all())
        total += 1
    return {
        "f1": float(2 * hits.sum() / max(counts.sum(), 1)),
        "f1_macro": float(np.mean(2 * hits / np.maximum(counts, 1))),
        "exact_match": exact / total,
    }


def given(answer: Classification) -> list[str]:
    """Return the predicted labels of an answer."""
    return [label for label, score in answer.scores.items() if score >= THRESHOLD]


def labelled_items(answer: Classification, example: Example) -> tuple[LabelledItems, LabelledItems]:
    """Return the right labels and the predicted ones."""
    return {(0, label) for label in example.target}, {(0, label) for label in given(answer)}


def to_json(answer: Classification) -> dict[str, Any]:
    """Return the JSON fields `labels` (predicted), `label` (most probable), `score`, `scores`."""
    return {"labels": given(answer), **classification.to_json(answer)}


TASK = replace(
    classification.TASK,
    name="multi-label",
    problem="multi_label",
    metric_names=("f1_macro", "f1", "exact_match"),
    options=frozenset({"class_weights"}),
    parse=parse,
    labels=labels,
    targets=targets,
    loss=loss,
    metrics=metrics,
    labelled_items=labelled_items,
    check_evaluation=accept,
    no_answer={"labels": None, **classification.NO_ANSWER},
    to_json=to_json,
    has_known_shapes=False,
)
