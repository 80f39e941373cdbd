"""Tasks, one file each: loss, metric, decode."""

from encodax.config import ModelConfig
from encodax.errors import EncodaxError
from encodax.tasks import classification, token_classification
from encodax.tasks.task import Task

TASKS: dict[str, Task] = {task.NAME: task for task in (classification, token_classification)}
"""Tasks by name."""


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        EncodaxError: there is none.
    """
    if name not in TASKS:
        raise EncodaxError(f"task {name!r} is not one of: {', '.join(TASKS)}")
    return TASKS[name]


def task_of(config: ModelConfig) -> Task:
    """The task that a model's head answers.

    Raises:
        EncodaxError: the model has no head.
    """
    for task in TASKS.values():
        if config.head is not None and config.head.kind == task.HEAD:
            return task
    raise EncodaxError("the model has no head: train one with `encodax train`")
