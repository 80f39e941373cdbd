"""What can be asked of answers: the options of each task, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypedDict

from encodax.errors import EncodaxError
from encodax.tasks import question_answering, token_classification
from encodax.tasks.tag_schemes import SchemeName
from encodax.tasks.task import Decoding, Task
from encodax.tasks.token_classification import Aggregation

DECODINGS: dict[str, type[Decoding]] = {
    token_classification.NAME: token_classification.TokenDecoding,
    question_answering.NAME: question_answering.AnswerDecoding,
}
"""Tasks of whose answers something can be asked, by name."""
OWNERS = {field.name: name for name, decoding in DECODINGS.items() for field in fields(decoding)}
"""Option -> the name of its task."""


class DecodingOptions(TypedDict, total=False):
    """The fields of all of `DECODINGS`, where more is said of each; None stands for the default."""

    aggregation: Aggregation | None
    """Of token classification: whether a token or a word has one tag."""
    tag_scheme: SchemeName | None
    """Of token classification: the scheme of the labels."""
    stride: int | None
    """Of token classification: tokens that the windows of a long text share."""
    top_k: int | None
    """Of question answering: how many answers are given."""
    max_answer_tokens: int | None
    """Of question answering: most tokens of an answer."""


def decoding_of(task: Task, options: Mapping[str, Any]) -> Decoding:
    """How a task makes answers, with these of its options.

    Args:
        task: the task.
        options: values by name, as `DecodingOptions` has them.

    Raises:
        EncodaxError: an option is of another task, or its value is none that there is.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        owner = OWNERS.get(name, task.NAME)
        if owner != task.NAME:
            raise EncodaxError(
                f"{name} {value!r} is for {owner.replace('-', ' ')}, and the model is one for "
                f"{task.NAME}: leave it out"
            )
    return DECODINGS.get(task.NAME, Decoding)(**given)
