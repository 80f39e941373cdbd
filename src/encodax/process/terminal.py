"""What is shown on a terminal: labels, paths and texts as they stand, whatever is in them."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from encodax.errors import plain


class Terminal(Console):
    """A console on which a string is one line of plain text.

    Square brackets are no markup, and control characters are shown as escapes, also those in cells
    of tables. Several lines are several strings.
    """

    def __init__(self, **options: Any):
        """Take the options of rich's console, such as `stderr` and `width`."""
        super().__init__(**options, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """A string as rich has it, in one line."""
        return super().render_str(plain(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Pieces of a line; what is a text of rich by now is made plain here."""
        for piece in super().render(renderable, options):
            text = "\n".join(map(plain, piece.text.split("\n")))
            yield piece if piece.control or text == piece.text else piece._replace(text=text)


class Screen(io.FileIO):
    """A terminal to write to. Of one that has been closed nothing is said: SIGHUP tells that."""

    def write(self, content: Any, /) -> int:
        """The bytes that were written, or would have been."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(content)


def table(*heads: str, numbers: int = 0, **options: Any) -> Table:
    """A table in which nothing is cut: what is too wide goes on in the next line of its cell.

    Args:
        *heads: of the columns.
        numbers: how many of the last columns are numbers: they stand at the right, unbroken.
        **options: of rich's table, such as `title`.
    """
    made = Table(**options)
    words = len(heads) - numbers
    for place, head in enumerate(heads):
        if place < words:
            made.add_column(head, overflow="fold")
        else:
            made.add_column(head, justify="right", no_wrap=True, overflow="fold")
    return made
