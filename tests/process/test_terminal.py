"""What is shown on a terminal is plain text, whoever shows it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.progress import Progress, TextColumn
from rich.text import Text

from encodax.process.terminal import Terminal, table

HOSTILE = "[/b] [red]a \x1b[31m\x07 b\r\n c\u202e \u2028 :smile:"
SHOWN = r"[/b] [red]a \x1b[31m\x07 b\r\n c\u202e \u2028 :smile:"


def terminal(**options: Any) -> Terminal:
    return Terminal(file=io.StringIO(), width=80, **options)


def shown(console: Terminal) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("options", [{}, {"style": "red"}, {"soft_wrap": True}])
def test_a_string_is_a_line_of_plain_text(options: dict[str, Any]) -> None:
    console = terminal()
    console.print(HOSTILE, **options)
    console.print("one", HOSTILE, sep="\n")
    assert shown(console).splitlines() == [SHOWN, "one", SHOWN]


def test_so_is_a_text_of_rich_and_what_stands_in_a_table() -> None:
    console = terminal()
    console.print(Text(HOSTILE.replace("\n", "")))
    made = table("head [b]", "what", "number", numbers=1, title=HOSTILE, caption=HOSTILE)
    made.add_row(HOSTILE, "[/]", "1,000")
    console.print(made)
    found = shown(console)
    assert not {"\x1b", "\x07", "\u202e", "\u2028"} & {*found}
    assert "head [b]" in found and "[/]" in found and r"\x1b[31m" in found


def test_colours_are_still_those_of_the_console() -> None:
    console = terminal(force_terminal=True, color_system="standard")
    console.print(HOSTILE, style="red")
    assert shown(console) == f"\x1b[31m{SHOWN}\x1b[0m\n"


def test_a_live_display_shows_fields_as_they_stand() -> None:
    console = terminal(force_terminal=True)
    with Progress(TextColumn("{task.fields[told]}", markup=False), console=console) as progress:
        progress.add_task("train", told="[/b] loss \x07")
    assert "[/b] loss " in shown(console)
    assert "\x07" not in shown(console)


def test_nothing_of_a_table_is_cut() -> None:
    console = Terminal(file=io.StringIO(), width=40)
    made = table("module", "parameters", numbers=1)
    name = "encoder/layer_11/" + "/".join(f"part_{number}" for number in range(9))
    made.add_row(name, "23,040,000")
    console.print(made)
    cells = [line.split("\u2502")[1].strip() for line in shown(console).splitlines()[3:-1]]
    assert "".join(cells) == name
    assert "23,040,000" in shown(console) and "\u2026" not in shown(console)
