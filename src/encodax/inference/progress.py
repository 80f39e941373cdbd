"""Progress bar for long work, on standard error if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from encodax.errors import EncodaxError
from encodax.process.terminal import Terminal

PROGRESS_THRESHOLD = 4096
"""Number of texts above which a bar is shown by default."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def answer_list(
    texts: Sequence[Item],
    answer: Callable[[Iterable[Item]], Iterator[Answer]],
    *,
    progress: bool | None,
) -> Iterator[Answer]:
    """Yield the answers for a list of texts, in order.

    Args:
        texts: the list.
        answer: function that answers a stream.
        progress: show a progress bar; None to show one if standard error is a terminal and the list
            is long.

    Raises:
        EncodaxError: `texts` is one string, which would be read as a list of characters.
    """
    if isinstance(texts, str):
        raise EncodaxError("give a list of texts, not one string")
    shown = False if progress is None and len(texts) <= PROGRESS_THRESHOLD else progress
    return with_progress(answer(texts), shown=shown, total=len(texts))


def with_progress(
    items: Iterable[Item],
    *,
    shown: bool | None = None,
    total: int | None = None,
    texts: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield the items unchanged, and count them on the terminal as they pass.

    Args:
        items: items to count.
        shown: show the count; None to show it if standard error is a terminal.
        total: number of texts, if known.
        texts: function that returns the number of texts in an item.
    """
    if shown is None:
        shown = sys.stderr is not None and sys.stderr.isatty()
    if not shown:
        yield from items
        return
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    known = [BarColumn(), TimeRemainingColumn()] if total is not None else [TimeElapsedColumn()]
    columns = [SpinnerColumn(), TextColumn("{task.completed:,} texts"), *known]
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for item in items:
            yield item
            progress.advance(task, texts(item))
