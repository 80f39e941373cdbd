"""Tasks, one file each: loss, metric, decode."""

from encodax.config import ModelConfig
from encodax.errors import EncodaxError
from encodax.tasks import (
    classification,
    distillation,
    masked_lm,
    question_answering,
    token_classification,
)
from encodax.tasks.task import Task

_ALL: tuple[Task, ...] = (
    classification,
    token_classification,
    question_answering,
    masked_lm,
    distillation,
)
TASKS: dict[str, Task] = {task.NAME: task for task in _ALL}
"""Tasks by name."""


OTHER_USES = {
    "embedding": "embeddings: use `encodax embed` or `encodax search` (encodax.Embedder)",
    "vocabulary": "hidden tokens: use `encodax fill-mask` (encodax.FillMask)",
}
"""Kind of head that is not of a task -> what such a model is for."""


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
        EncodaxError: the model has no head, or one that no task trains.
    """
    if config.head is not None and config.head.kind in OTHER_USES:
        raise EncodaxError(f"the model is one for {OTHER_USES[config.head.kind]}")
    for task in TASKS.values():
        if config.head is not None and config.head.kind == task.HEAD:
            return task
    raise EncodaxError("the model has no head: train one with `encodax train`")
