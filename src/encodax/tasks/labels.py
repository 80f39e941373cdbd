"""Labels as files have them: strings, numbers, true and false, and when two of them mean one class.

CSV knows strings alone, JSON and Parquet also numbers and booleans, and pandas writes whole numbers
as `1.0` where one of the column is missing.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_WHOLE = re.compile(r"(-?\d+)\.0+")
_NUMBER = re.compile(r"-?\d{1,4000}")  # Python reads none of more digits
BOOLEANS = ("true", "false")
"""What JSON's booleans are as labels."""


def label_of(value: Any) -> str | None:
    """The label that a value is: `x`, 1, 1.0, true; None of all that is none, such as NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return BOOLEANS[not value]
    if isinstance(value, float) and math.isfinite(value):
        return meaning(repr(value))
    if isinstance(value, int):
        return str(value)
    return str(value) if isinstance(value, str) and value else None


def meaning(label: str) -> str:
    """The same for labels that mean one thing: `1.0` and `1`, `True` and `true`."""
    if label.lower() in BOOLEANS:
        return label.lower()
    whole = _WHOLE.fullmatch(label)
    return whole.group(1) if whole else label


def as_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes that labels are of, where those that mean one thing are one; in order.

    A class is spelled as its label is, where that is the only one.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        spellings[meaning(label)].add(label)
    return in_order(min(own) if len(own) == 1 else meant for meant, own in spellings.items())


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels by name, or in numeric order where all are whole numbers."""
    found = set(labels)
    by_number = all(_NUMBER.fullmatch(label) for label in found)
    return tuple(sorted(found, key=(lambda label: int(label)) if by_number else None))


def place_of(label: str, labels: Sequence[str]) -> int | None:
    """Where a label stands among a model's, as it is or by what it means; None where it does not.

    Args:
        label: of the data.
        labels: of the model.
    """
    if label in labels:
        return labels.index(label)
    wanted = meaning(label)
    return next((place for place, own in enumerate(labels) if meaning(own) == wanted), None)
