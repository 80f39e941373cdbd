"""Options of commands, built from the fields of the settings that they set."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

import typer

Command = Callable[..., None]
PRETRAINING = frozenset(
    [
        "steps",
        "epochs",
        "batch_size",
        "batch_tokens",
        "learning_rate",
        "warmup",
        "schedule",
        "weight_decay",
        "evaluate_every",
        "metric",
        "patience",
        "seed",
        "save_every",
        "keep",
        "mesh",
        "accumulate",
        "remat",
        "scan",
        "precision",
        "profile_steps",
        "bad_steps",
        "max_positions",
        "dropout_rate",
        "tokenizer",
        "lowercase",
        "mask_rate",
        "whole_words",
        "resume",
        "resume_step",
        "checkpoints",
        "distributed",
        "coordinator",
        "processes",
        "process",
        "dry_run",
    ]
)
"""Fields that are options of `encodax pretrain`."""


def with_fields(
    *kinds: type,
    only: typing.Collection[str] | None = None,
    help: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command an option for each field of these dataclasses.

    The command takes them as `**choices`, by the names of the fields. An option that is not given
    is None, or False.

    Args:
        kinds: dataclasses whose fields are declared with `encodax.options.fields.option`.
        only: names of the fields that are options of this command; None for all.
        help: descriptions that differ for this command, by field.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        named = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        found = [
            _parameter(field, hint, (help or {}).get(field.name))
            for kind in kinds
            for field, hint in _fields(kind)
            if only is None or field.name in only
        ]
        parameters = [*named, *found]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _fields(kind: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.metadata:
            yield field, hints[field.name]


def _parameter(field: dataclasses.Field[Any], hint: Any, help: str | None) -> inspect.Parameter:
    """Return the parameter of a command for a field."""
    told = field.metadata
    name = f"--{told['name'] or field.name.replace('_', '-')}"
    kind = told["type"] or _plain(hint)
    option = typer.Option(name, help=help or told["help"], rich_help_panel=told["panel"])
    annotation: Any = kind
    default: Any = False
    if told["show_default"]:
        default = field.default
    elif kind is not bool:
        annotation, default = kind | None, None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, option],
    )


def _plain(hint: Any) -> Any:
    """Return the type that the command line reads for a field: the settings check what it says."""
    if typing.get_origin(hint) is Literal:
        return str
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [_plain(each) for each in typing.get_args(hint) if each is not NoneType]
        return float if float in kinds else kinds[0]
    return hint
