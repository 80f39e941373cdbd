"""Labels in files: strings, numbers or booleans; labels that mean the same are one class.

CSV has only strings, JSON and Parquet also numbers and booleans, and pandas writes integers as
`1.0` if a value of the column is missing.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_WHOLE = re.compile(r"(-?\d+)\.0+")
_NUMBER = re.compile(r"-?\d{1,4000}")  # Python parses no more digits
BOOLEANS = ("true", "false")
"""Booleans of JSON as labels."""


def label_of(value: Any) -> str | None:
    """Return the label of a value, such as `x`, 1, 1.0 or true; None for no label, such as NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return BOOLEANS[not value]
    if isinstance(value, float) and math.isfinite(value):
        return normalised_label(repr(value))
    if isinstance(value, int):
        return str(value)
    return str(value) if isinstance(value, str) and value else None


def normalised_label(label: str) -> str:
    """Return a form that is equal for labels with one meaning: `1.0` and `1`, `True` and `true`."""
    if label.lower() in BOOLEANS:
        return label.lower()
    whole = _WHOLE.fullmatch(label)
    return whole.group(1) if whole else label


def as_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of labels, in order; labels with one meaning are one class.

    A class is spelled like its labels if all have the same spelling.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        spellings[normalised_label(label)].add(label)
    return in_order(min(own) if len(own) == 1 else meant for meant, own in spellings.items())


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels by name, or in numeric order if all are integers."""
    found = set(labels)
    by_number = all(_NUMBER.fullmatch(label) for label in found)
    return tuple(sorted(found, key=(lambda label: int(label)) if by_number else None))


def index_of_label(label: str, labels: Sequence[str]) -> int | None:
    """Return the index of a label among a model's, by spelling or by meaning; None if missing.

    Args:
        label: label in the data.
        labels: labels of the model.
    """
    if label in labels:
        return labels.index(label)
    wanted = normalised_label(label)
    return next(
        (place for place, own in enumerate(labels) if normalised_label(own) == wanted), None
    )
