"""Class weights in a loss, so that rare classes count as much as the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.options.loss import LossOptions
from encodax.tasks.labels import index_of_label, quoted
from encodax.tasks.task import Example

BALANCED = "balanced"
WANTS = 'give "balanced", LABEL=2.5,... or a number for each label'


def loss_options_for(
    options: LossOptions, examples: Sequence[Example], model: Model, batch_size: int | None
) -> LossOptions:
    """Add the weight of each of the model's labels to the options, as `weighted`."""
    return weighted(options, examples, model.labels)


def weighted(
    options: LossOptions, examples: Sequence[Example], labels: Sequence[str]
) -> LossOptions:
    """Add the weight of each label to the options, if class weights are requested.

    Balanced weights are those of scikit-learn: for n examples, n_c of them of class c, and C
    classes

        w_c = n / (C n_c)

    If several labels may be right, each is a problem of two classes: examples with the label weigh
    (n - n_c) / n_c times as much as those without. A label without examples has the weight 1.

    Args:
        options: options of the loss, which may request class weights.
        examples: training examples.
        labels: labels of the model; the weights are in their order.

    Raises:
        EncodaxError: the weights are invalid, or for labels that the model does not have.
    """
    given = read(options.class_weights)
    if given is None:
        return options
    if given == BALANCED:
        found = _balanced(examples, labels)
    elif isinstance(given, dict):
        found = dict.fromkeys(labels, 1.0) | _of_labels(given, labels)
    else:
        if len(given) != len(labels):
            raise EncodaxError(
                f"class_weights: {len(given)} numbers are given, and there are {len(labels)} "
                f"labels: {quoted(labels)}"
            )
        found = dict(zip(labels, given, strict=True))
    return replace(options, class_weights=found)


def read(given: Any) -> Any:
    """Parse the option for class weights: None, `balanced`, numbers by label, or a list.

    Raises:
        EncodaxError: it is none of these, or a label has two weights.
    """
    if isinstance(given, str):
        given = _parsed(given)
    if given is None or given == BALANCED:
        return given
    if not isinstance(given, Mapping):
        return list(map(_number, given))
    return {str(label): _number(weight) for label, weight in given.items()}


def _check_once(labels: Sequence[str]) -> None:
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise EncodaxError(
            f"class_weights: {quoted(twice)} is given twice: give each label one weight"
        )


def _of_labels(named: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Key weights by the labels as the model spells them."""
    if unknown := [label for label in named if index_of_label(label, labels) is None]:
        hint = ' ("balanced" takes no number)' if BALANCED in unknown else ""
        raise EncodaxError(
            f"class_weights: no label {quoted(unknown)}{hint}; the labels are: {quoted(labels)}"
        )
    own = [labels[index_of_label(label, labels) or 0] for label in named]
    _check_once(own)
    return dict(zip(own, named.values(), strict=True))


def _parsed(text: str) -> Any:
    """Parse `balanced`, `LABEL=2.5,...` to a mapping, or `1,2.5` to a list."""
    if text.strip() == BALANCED:
        return BALANCED
    if not text.strip():
        raise EncodaxError(f"class_weights is empty: {WANTS}")
    parts = [part.strip() for part in text.split(",")]
    if not any("=" in part for part in parts):
        return parts
    if not all("=" in part for part in parts):
        raise EncodaxError(f"class_weights {text!r}: {WANTS}")
    named = [part.rpartition("=") for part in parts]
    _check_once([label.strip() for label, _, _ in named])
    return {label.strip(): number for label, _, number in named}


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise EncodaxError(f"class_weights: {value!r} is not a number above 0; {WANTS}")
    return number


def _balanced(examples: Sequence[Example], labels: Sequence[str]) -> dict[str, float]:
    is_of_several = isinstance(examples[0].target, tuple)
    targets = (each.target if is_of_several else (each.target,) for each in examples)
    counts = Counter(index_of_label(label, labels) for target in targets for label in target)
    total, classes = len(examples), len(counts)

    def weight(count: int) -> float:
        if is_of_several:
            return (total - count) / count if 0 < count < total else 1.0
        return total / (classes * count) if count else 1.0

    return {label: weight(counts[place]) for place, label in enumerate(labels)}
