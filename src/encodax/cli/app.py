"""Application of the command line: its commands, its terminal, its lines of JSON."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from encodax._version import __version__
from encodax.errors import EncodaxError, escape_invisible
from encodax.process.terminal import Terminal

COMMANDS = (
    "demo", "train", "pretrain", "report", "evaluate", "predict", "embed", "embed-corpus",
    "translate", "fill-mask", "search", "rerank", "explore", "info", "plan",
)  # fmt: skip
"""Commands, in the order of `--help`."""


class _Commands(TyperGroup):
    """Group of the commands, whose errors about arguments are printed as plain text."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return sorted(super().list_commands(ctx), key=COMMANDS.index)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _plain_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        with _plain_errors():
            return super().invoke(context)


class _Command(TyperCommand):
    """Command that refuses empty values: an empty path would mean the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.get_params(ctx):
            name, value = parameter.opts[0], given.get(parameter.name or "")
            if parameter.param_type_name == "argument":
                name = getattr(parameter, "metavar", None) or name
                if name not in ("MODEL", "OUT"):  # a text; its errors name it by its number
                    continue
            if "" in (value if isinstance(value, list) else [value]):
                raise EncodaxError(
                    f"{name} is empty: give it a value (is a shell variable not set?)"
                )
        return super().parse_args(ctx, args)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Make errors of click plain text: they quote the user's input, which may contain anything."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = escape_invisible(message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    name="encodax",
    help="Transformer encoders for JAX: train one, measure it, use it.",
    epilog="Begin with: encodax demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


command = functools.partial(app.command, cls=_Command)


stderr_console = Terminal(stderr=True)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"encodax {__version__}")
        raise typer.Exit


def json_line(fields: dict[str, Any]) -> str:
    """Return one line of JSON Lines."""
    return json.dumps(fields, ensure_ascii=False) + "\n"


def for_tables(width: int) -> Terminal:
    """Return a console on standard output; `width` applies if that is not a terminal."""
    return Terminal() if sys.stdout.isatty() else Terminal(width=width)
