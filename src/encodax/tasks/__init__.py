"""Tasks, one file each: loss, metrics, decoding."""

import itertools
from collections.abc import Iterator
from typing import Any

from encodax.config import ModelConfig
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import (
    classification,
    distillation,
    embedding,
    masked_lm,
    multi_label,
    question_answering,
    regression,
    reranking,
    token_classification,
    translation,
)
from encodax.tasks.task import Task

TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (
        classification,
        multi_label,
        regression,
        token_classification,
        question_answering,
        reranking,
        embedding,
        masked_lm,
        distillation,
        translation,
    )
}
"""Tasks by name."""
MEASURED_HEADS = {"embedding": embedding.TASK, "vocabulary": masked_lm.TASK}
"""Kind of head without answers -> task that measures it."""
OTHER_USES = {
    "embedding": "embeddings: use `encodax embed` or `encodax search` (encodax.Embedder)",
    "vocabulary": "hidden tokens: use `encodax fill-mask` (encodax.FillMask)",
}
"""Kind of head that belongs to no task -> use of such a model."""


def task_named(name: str) -> Task:
    """Return the task with this name.

    Raises:
        EncodaxError: there is no such task.
    """
    if name not in TASKS:
        raise EncodaxError(f"task {name!r} is not one of: {', '.join(TASKS)}")
    return TASKS[name]


def task_of(config: ModelConfig) -> Task:
    """Return the task that a model's head was made for; the first one if there are several.

    Raises:
        EncodaxError: the model has no head, or one that belongs to no task.
    """
    return _tasks_of(config)[0]


def task_of_records(config: ModelConfig, records: Any) -> tuple[Task, Iterator[Record]]:
    """Return the task for a model's head and for the first record, and the records.

    A head with one score serves regression and reranking, whose fields have other names. `records`
    has no precise type, as type checking would consume a record.

    Raises:
        EncodaxError: the model has no head, or one that belongs to no task.
    """
    tasks, records = _tasks_of(config), iter(records)
    first = list(itertools.islice(records, 1))
    found = first[0].fields.keys() if first else ()
    best = max(tasks, key=lambda task: sum(name in found for name in task.text_fields))
    return best, itertools.chain(first, records)


def _tasks_of(config: ModelConfig) -> list[Task]:
    head = config.head
    if head is not None and head.kind in OTHER_USES:
        raise EncodaxError(f"the model is one for {OTHER_USES[head.kind]}")
    tasks = [
        task
        for task in TASKS.values()
        if head is not None
        and head.kind == task.head
        and (head.kind != "sequence" or head.problem == task.problem)
    ]
    if not tasks:
        raise EncodaxError(
            "the model has no head: train one with `encodax train`, or use `encodax embed`"
        )
    return tasks
