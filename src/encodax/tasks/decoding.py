"""Options of the answers of each task, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypedDict

from encodax.errors import EncodaxError
from encodax.tasks import TASKS
from encodax.tasks.tag_schemes import SchemeName
from encodax.tasks.task import Decoding, Task
from encodax.tasks.token_classification import Aggregation

OWNERS = {field.name: name for name, task in TASKS.items() for field in fields(task.decoding)}
"""Option -> name of its task."""


class DecodingOptions(TypedDict, total=False):
    """Fields of the `decoding` of all tasks, which document them; None is the default."""

    aggregation: Aggregation | None
    """Token classification: how tokens are aggregated into spans or words."""
    tag_scheme: SchemeName | None
    """Token classification: scheme of the labels."""
    stride: int | None
    """Token classification: number of tokens that consecutive windows of a long text share."""
    top_k: int | None
    """Question answering: number of answers."""
    max_answer_tokens: int | None
    """Question answering: maximum number of tokens of an answer."""


def decoding_of(task: Task, options: Mapping[str, Any]) -> Decoding:
    """Return the decoding of a task with these options.

    Args:
        task: the task.
        options: values by name, as in `DecodingOptions`.

    Raises:
        EncodaxError: an option belongs to another task, or has an invalid value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        owner = OWNERS.get(name, task.name)
        if owner != task.name:
            raise EncodaxError(
                f"{name} {value!r} is for {owner.replace('-', ' ')}, and the model is one for "
                f"{task.name}: leave it out"
            )
    return task.decoding(**given)
