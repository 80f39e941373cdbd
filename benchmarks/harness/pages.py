"""Pages that a command writes a part of: what stands outside of two marks stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

from rich.markdown import Markdown

from benchmarks.harness.tables import wide_console

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_measured(page: Path, title: str, command: str, measured: str) -> None:
    """Put Markdown between the marks of a page, and show it.

    Args:
        page: the file; begun with the title and a word on the marks where it is not there.
        title: its first line.
        command: what writes it, for that word.
        measured: what goes between the marks.
    """
    first = (
        f"# {title}\n\nWhat stands between the two marks is written by `{command}`; what stands "
        f"outside of them is\nwritten by hand, and stays.\n\n{BEGIN}\n{END}\n"
    )
    content = page.read_text(encoding="utf-8") if page.exists() else first
    before, rest = content.split(BEGIN)
    after = rest.split(END)[1]
    partial = page.with_suffix(".partial")
    partial.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", encoding="utf-8")
    os.replace(partial, page)
    wide_console().print(Markdown(measured))
