"""Output on a terminal: labels, paths and texts exactly as they are, whatever they contain."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from encodax.errors import escape_invisible


class Terminal(Console):
    """Console on which a string is one line of plain text.

    Square brackets are not markup, and control characters are shown as escapes, also in cells of
    tables. Several lines are several strings.
    """

    def __init__(self, **options: Any):
        """Set the options of rich's console, such as `stderr` and `width`."""
        super().__init__(**options, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return rich's text of a string, in one line."""
        return super().render_str(escape_invisible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield segments of a line; rich texts are made plain here."""
        for piece in super().render(renderable, options):
            text = "\n".join(map(escape_invisible, piece.text.split("\n")))
            yield piece if piece.control or text == piece.text else piece._replace(text=text)


class Screen(io.FileIO):
    """Terminal to write to. Errors of a closed one are dropped: SIGHUP reports it."""

    def write(self, content: Any, /) -> int:
        """Write bytes; return the number written, or that would have been."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(content)


def table(*heads: str, numbers: int = 0, **options: Any) -> Table:
    """Return a table in which nothing is cut: long text wraps inside its cell.

    Args:
        *heads: titles of the columns.
        numbers: number of columns, the last ones, that hold numbers: aligned right, unbroken.
        **options: options of rich's table, such as `title`.
    """
    made = Table(**options)
    words = len(heads) - numbers
    for place, head in enumerate(heads):
        if place < words:
            made.add_column(head, overflow="fold")
        else:
            made.add_column(head, justify="right", no_wrap=True, overflow="fold")
    return made
