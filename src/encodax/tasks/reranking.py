"""Reranking: a cross-encoder reads a query and a text together and scores how relevant the text is.

One score for each pair (Nogueira & Cho 2019, arXiv:1901.04085). The head is that of a regression,
as in published cross-encoders, so that `Reranker` accepts all of them; its score is the logit of a
sigmoid in training.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import regression
from encodax.tasks.classification import Classification
from encodax.tasks.evaluation_data import warn
from encodax.tasks.labels import BOOLEANS, label_of, normalised_label
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.task import (
    Example,
    LossOptions,
    Targets,
    number_of_text,
)
from encodax.types.batches import ModelOutput, PackedBatch

DEPTH = 10
"""Number of the best texts that the reciprocal rank and the gain take into account."""

METRICS = ("map", f"mrr@{DEPTH}", f"ndcg@{DEPTH}")
RELEVANT = 0.5
"""Minimum label of a relevant text, for metrics that need a yes or no."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"query": ..., "text": ..., "label": 1}`: 1 for a relevant text, 0 for another.

    The label may also be a number in between, for partial relevance; or true or false.

    Raises:
        EncodaxError: a field is missing or has a wrong type, or the label is not in 0..1.
    """
    text = text_of(record, ("query", "text"))
    if isinstance(text, str):
        raise EncodaxError(f"{record.where}: no field 'text'{instead_of(record, 'text')}")
    if not labelled:
        return Example(text, None, record.where)
    name = normalised_label(label_of(record.fields.get("label")) or "")
    label = float(name == "true") if name in BOOLEANS else regression.number_of(record, "label")
    if not 0 <= label <= 1:
        raise EncodaxError(f"{record.where}: the label {label:g} is not in 0..1")
    return Example(text, label, record.where)


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the binary cross entropy of the score's sigmoid, as (weighted sum, weight)."""
    import optax  # not needed for prediction, and slow to import

    scores = regression.score_of(output)
    losses = optax.sigmoid_binary_cross_entropy(scores, targets.values)  # (B, N)
    return jnp.sum(losses * targets.weights), jnp.sum(targets.weights)


def metrics(answers: Iterable[Classification], examples: Iterable[Example]) -> dict[str, float]:
    """Return ranking metrics of the relevant texts, the means over the queries.

    Average precision (`map`), the reciprocal rank of the first relevant text (`mrr@10`) and the
    normalized discounted cumulative gain (`ndcg@10`; Järvelin & Kekäläinen 2002, section 2.2, with
    the label as the gain). Queries without a relevant text are left out. Of texts with equal scores
    the less relevant one is ranked higher, so that constant scores earn nothing.

    Raises:
        EncodaxError: no query has a relevant text.
    """
    queries, scores, labels = array("q"), array("d"), array("d")
    for answer, example in zip(answers, examples, strict=True):
        queries.append(number_of_text(example.text[0]))
        scores.append(answer.score)
        labels.append(example.target)
    asked, gained = np.asarray(queries), np.asarray(labels)  # (texts,)
    order = np.lexsort((gained, -np.asarray(scores), asked))  # by query, best first
    ranked = gained[order]
    _, begins = np.unique(asked[order], return_index=True)
    ends = np.append(begins[1:], len(ranked))
    measured = array("d")
    for begin, end in zip(begins, ends, strict=True):
        gains = ranked[begin:end]  # (texts,)
        if gains.max() >= RELEVANT:
            measured.extend(_of_query(gains))
    if not measured:
        raise _nothing_relevant(len(begins))
    means = np.asarray(measured).reshape(-1, len(METRICS)).mean(axis=0)
    return dict(zip(METRICS, means.tolist(), strict=True))


def check_evaluation(examples: Iterable[Example]) -> None:
    """Refuse data by which no order of texts is better; warn if every text is relevant.

    Raises:
        EncodaxError: no query has a relevant text.
    """
    queries = set()
    for example in examples:
        if example.target >= RELEVANT:
            break
        queries.add(number_of_text(example.text[0]))
    else:
        raise _nothing_relevant(len(queries))
    if all(example.target >= RELEVANT for example in examples):
        warn("every text is relevant")


def _nothing_relevant(queries: int) -> EncodaxError:
    return EncodaxError(
        f"none of {queries} queries has a relevant text (a label of {RELEVANT} or more): there is "
        "nothing to measure"
    )


def _of_query(gains: Float[np.ndarray, " texts"]) -> tuple[float, float, float]:
    """Return average precision, reciprocal rank and gain of texts in the order of their ranks."""
    places = np.flatnonzero(gains >= RELEVANT) + 1  # (relevant,), ranks from 1
    precision = np.arange(1, len(places) + 1) / places  # (relevant,)
    first = 1 / places[0] if places[0] <= DEPTH else 0.0
    gain = _discounted(gains) / _discounted(np.sort(gains)[::-1])
    return float(precision.mean()), float(first), float(gain)


def _discounted(gains: Float[np.ndarray, " texts"]) -> float:
    """Return the sum of gain / log2(rank + 1) over the first texts."""
    best = gains[:DEPTH]
    return float(np.sum(best / np.log2(np.arange(2, len(best) + 2))))


TASK = replace(
    regression.TASK,
    name="reranking",
    text_fields=("query", "text"),
    is_cross_encoder=True,
    metric_names=METRICS,
    parse=parse,
    activation_for=lambda activation: activation or "sigmoid",  # the loss assumes the sigmoid
    loss=loss,
    metrics=metrics,
    check_evaluation=check_evaluation,
)
