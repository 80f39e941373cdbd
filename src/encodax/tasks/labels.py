"""Labels in files: strings, numbers or booleans; labels that mean the same are one class.

CSV has only strings, JSON and Parquet also numbers and booleans, and pandas writes integers as
`1.0` if a value of the column is missing.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from encodax.errors import EncodaxError

logger = logging.getLogger(__name__)

_WHOLE = re.compile(r"(-?\d+)\.0+")
_NUMBER = re.compile(r"-?\d{1,4000}")  # Python parses no more digits
BOOLEANS = ("true", "false")
"""Booleans of JSON as labels."""
SOME_NAMES = 50
"""Maximum number of labels to mend that an error or a log message lists."""
SOME_QUOTED = 10
"""Maximum number of labels that a message lists in quotes."""
SOME_KNOWN = 20
"""Maximum number of a model's labels that an error lists."""


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


def checked_labels(seen: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the classes in (label, where) pairs, in numeric order or by name.

    Labels that occur once are logged: little can be learned about them.

    Raises:
        EncodaxError: there are no labels.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for label, where in seen:
        counts[label] += 1
        first.setdefault(label, where)
    if not counts:
        raise EncodaxError("the training data has no label")
    rare = [f"{label!r} ({where})" for label, where in first.items() if counts[label] == 1]
    if rare:
        logger.warning(
            "%s seen once, so little can be learned about %s: %s",
            "a label is" if len(rare) == 1 else f"{len(rare)} labels are",
            "it" if len(rare) == 1 else "them",
            listed(rare, SOME_NAMES),
        )
    return in_order(counts)


class UnknownLabels(EncodaxError):
    """Labels that a model does not know."""

    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, where: str, counts: Mapping[str, int], known: Sequence[str]) -> UnknownLabels:
        """Create the error that lists the labels, with their numbers of records if above 1.

        Args:
            where: source of the first label.
            counts: number of records of each label.
            known: labels of the model.
        """
        named = [
            repr(label) + (f" ({count:,} records)" if count > 1 else "")
            for label, count in counts.items()
        ]
        what = "unknown label" + "s" * (len(named) > 1)
        labels = listed(known, SOME_KNOWN)
        error = cls(f"{where}: {what} {listed(named, SOME_NAMES)}; the model knows: {labels}")
        error.labels = tuple(counts)
        return error


def check_known(wanted: Iterable[str], labels: tuple[str, ...], where: str) -> None:
    """Refuse labels that a model does not know, all those of a record at once.

    Raises:
        UnknownLabels: there are such labels; the error names them.
    """
    unknown = {label: 1 for label in wanted if index_of_label(label, labels) is None}
    if unknown:
        raise UnknownLabels.of(where, unknown, labels)


def index_of(label: str, labels: tuple[str, ...], where: str) -> int:
    """Return the class of a label.

    Raises:
        UnknownLabels: the model does not know the label.
    """
    place = index_of_label(label, labels)
    if place is None:
        raise UnknownLabels.of(where, {label: 1}, labels)
    return place


def listed(names: Sequence[str], limit: int) -> str:
    """Format names for a message: the first ones, if there are more than a limit."""
    left = len(names) - limit
    return ", ".join(names[:limit]) + (f", ... ({left:,} more)" if left > 0 else "")


def quoted(labels: Sequence[str]) -> str:
    """Format labels for a message, in quotes: the first ones, if there are many."""
    return listed([repr(label) for label in labels], SOME_QUOTED)
