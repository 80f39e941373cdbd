"""Check that evaluation data can tell a better model from a worse one."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from encodax.tasks import classification, embedding, regression, reranking
from encodax.tasks.embedding import all_alike
from encodax.tasks.task import Example, Task

logger = logging.getLogger(__name__)


def check_evaluation_data(task: Task, examples: Iterable[Example]) -> None:
    """Refuse data by which no model is better than another; warn of data that says little.

    Args:
        task: the task.
        examples: the examples; they are read only as far as needed.

    Raises:
        EncodaxError: no query has a relevant text.
    """
    if task.NAME == reranking.NAME:
        reranking.check_relevant(examples)
        if all(example.target >= reranking.RELEVANT for example in examples):  # never empty here
            _note("every text is relevant")
    elif task.NAME in (classification.NAME, regression.NAME):
        _note_alike(examples)
    elif task.NAME == embedding.NAME:
        first = next(iter(examples), None)
        if first is None or first.target is not None:
            _note_alike(examples)
        elif all_alike(example.others[0] for example in examples):
            _note("every example has the same positive, which is the nearest of one")


def _note_alike(examples: Iterable[Example]) -> None:
    first = next(iter(examples), None)
    if first is not None and all_alike(example.target for example in examples):
        _note(f"every example has {first.target!r}")


def _note(what: str) -> None:
    logger.warning("the evaluation data says little of a model: %s", what)
