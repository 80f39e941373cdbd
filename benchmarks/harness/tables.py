"""Tables, to look at or to paste."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

errors = Console(stderr=True, highlight=False, soft_wrap=True)
"""For what is said meanwhile."""


def wide_console() -> Console:
    """The terminal; 120 columns where there is none."""
    return Console() if Console().is_terminal else Console(width=120)


def in_markdown(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False
) -> str:
    """A table in Markdown; columns of numbers, all but the first, stand to the right."""
    rules = ["---", *["---:" if numbers else "---"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rules, *rows))


def show(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    markdown: bool = False,
    end: str = "\n",
    numbers: bool = False,
    title: str | None = None,
    console: Console | None = None,
) -> None:
    """Print a table, to look at or in Markdown, which ends in `end`."""
    if markdown:
        print(in_markdown(heads, rows, numbers=numbers), end=end)
        return
    table = Table(title=title)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if numbers and index else "left")
    for row in rows:
        table.add_row(*row)
    (console or Console()).print(table)
