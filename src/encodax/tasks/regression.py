"""Regression: one quantity for each text, or pair of texts, such as the similarity of sentences.

The head has one score, as in published cross-encoders (`reranking.py`).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data.parquet import ClassName
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import classification
from encodax.tasks.classification import Classification
from encodax.tasks.evaluation_data import warn_if_alike
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.task import Example, LossOptions, Targets, Task
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"text": ..., "score": 1.5}`, with `text_pair` for pairs; a number may be a string.

    Raises:
        EncodaxError: a field is missing or has a wrong type, or the number is not finite.
    """
    text = text_of(record)
    return Example(text, number_of(record, "score") if labelled else None, record.where)


def number_of(record: Record, name: str) -> float:
    """Return the number in a field, which may be a string, as in tables.

    Raises:
        EncodaxError: there is no number, or it is not finite in float32.
    """
    value = record.fields.get(name)
    if isinstance(value, ClassName):
        value = value.number
    try:
        number = float("nan") if value is None or isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        number = float("nan")
    if not abs(number) <= float(np.finfo(np.float32).max):
        comma = isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d*,\d+\s*", value)
        message = f"{record.where}: needs a {name!r}, a finite number{instead_of(record, name)}"
        raise EncodaxError(message + ("; write the decimal comma as a point" if comma else ""))
    return number


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the name of the one score.

    Raises:
        EncodaxError: all examples have the same number.
    """
    first = examples[0].target
    if all(example.target == first for example in examples):
        message = f"every example has the number {first:g}"
        raise EncodaxError(
            f"{message}, so there is nothing to learn: add examples with another number"
        )
    return ("score",)


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return the quantity.

    Raises:
        EncodaxError: the model has more than one score.
    """
    if len(labels) != 1:
        raise EncodaxError(
            f"{example.where}: one number is given, and the model has {len(labels)} scores"
        )
    return Targets(np.asarray(example.target, np.float32), np.asarray(1.0, np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the squared error, as (weighted sum, weight)."""
    losses = jnp.square(score_of(output) - targets.values)  # (B, N)
    return jnp.sum(losses * targets.weights), jnp.sum(targets.weights)


def score_of(output: ModelOutput) -> Float[Array, "B N"]:
    """Return the one score of each sequence."""
    assert output.logits is not None
    return output.logits[..., 0].astype(jnp.float32)  # (B, N)


def metrics(answers: Iterable[Classification], examples: Iterable[Example]) -> dict[str, float]:
    """Return Pearson's correlation, Spearman's (that of the ranks), and the mean squared error.

    A constant has correlation 0 with everything.
    """
    scores, targets = array("d"), array("d")
    for answer, example in zip(answers, examples, strict=True):
        scores.append(answer.score)
        targets.append(example.target)
    found, right = np.asarray(scores), np.asarray(targets)  # (examples,)
    return {**correlations(found, right), "mse": float(np.mean(np.square(found - right)))}


def correlations(
    found: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation; 0 if one of the two is constant."""
    by_rank = _correlation(_ranks(found), _ranks(right))
    return {"pearson": _correlation(found, right), "spearman": by_rank}


def _correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    first, second = first - first.mean(), second - second.mean()  # (n,)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return ranks from 1; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Float[np.ndarray, " n"] = (np.cumsum(counts) - (counts - 1) / 2)[places]  # (n,)
    return ranks


TASK = Task(
    name="regression",
    head="sequence",
    problem="regression",
    metric_names=("spearman", "pearson", "mse"),
    parse=parse,
    labels=labels,
    activation_for=lambda activation: "linear",
    targets=targets,
    loss=loss,
    decode=classification.decode,
    metrics=metrics,
    check_evaluation=warn_if_alike,
    no_answer=classification.NO_ANSWER,
    to_json=classification.to_json,
)
