"""The commands of `encodax` in the reference, from what `--help` is made of.

sphinx-click does the same for Click; Typer has a Click of its own, which it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docstrings import escaped, marked_up
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from encodax.cli.main import app as commands

EXAMPLE = re.compile(r"^Example: (?=encodax)", re.MULTILINE)


def panel_of(parameter: Any) -> str:
    """The title under which `--help` shows it."""
    is_argument = parameter.param_type_name == "argument"
    return parameter.rich_help_panel or ("Arguments" if is_argument else "Options")


def described(parameter: Any, context: typer.Context) -> Iterator[str]:
    """An argument or option: what it is called, what it takes, what it does."""
    names, text = parameter.get_help_record(context)
    text = escaped(text.replace("\\[", "["))
    if parameter.param_type_name == "argument":
        yield from (f"``{names}``", f"    {text or 'As the text above says.'}", "")
    else:
        yield from (f".. option:: {names}", "", f"   {text}", "")


def documented(name: str, command: Any) -> Iterator[str]:
    """A command as reStructuredText."""
    context = typer.Context(command, info_name=f"encodax {name}")
    yield from (f".. program:: encodax {name}", "", ".. code-block:: text", "")
    yield from (f"   {command.get_usage(context).removeprefix('Usage: ')}", "")
    yield from (*marked_up(EXAMPLE.sub("Example:\n    ", command.help).splitlines()), "")
    panels: dict[str, list[Any]] = {"Arguments": [], "Options": []}  # these first
    for parameter in command.params:
        panels.setdefault(panel_of(parameter), []).append(parameter)
    for panel, parameters in panels.items():
        yield from (f".. rubric:: {panel}", "") if parameters else ()
        for parameter in parameters:
            yield from described(parameter, context)


class Commands(SphinxDirective):
    """A section for each command, in the order of `encodax --help`."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        found: list[nodes.Node] = []
        for name, command in typer.main.get_command(commands).commands.items():
            title = f"encodax {name}"
            section = nodes.section(ids=[nodes.make_id(title)], names=[title])
            section += nodes.title(text=title)
            lines = StringList(list(documented(name, command)), source="encodax.cli.main")
            self.state.nested_parse(lines, 0, section)
            found.append(section)
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive `commands`."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
