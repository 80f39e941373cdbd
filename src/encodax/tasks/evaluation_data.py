"""Warnings of evaluation data that can hardly tell a better model from a worse one."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from typing import Any

from encodax.tasks.task import Example

logger = logging.getLogger(__name__)


def warn_if_alike(examples: Iterable[Example]) -> None:
    """Warn if all examples have the same target; they are read only as far as needed."""
    first = next(iter(examples), None)
    if first is not None and all_alike(example.target for example in examples):
        warn(f"every example has {first.target!r}")


def all_alike(values: Iterable[Any]) -> bool:
    """Return whether all values are equal; stops at the first difference."""
    return all(first == second for first, second in itertools.pairwise(values))


def warn(what: str) -> None:
    """Log that no evaluation on this data says much."""
    logger.warning("the evaluation data says little about a model: %s", what)
