"""A progress bar on standard error for long work, and for nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from encodax.errors import EncodaxError
from encodax.process.terminal import Terminal

MANY = 4096
"""Texts from which on a bar is worth showing."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def listed(
    texts: Sequence[Item],
    answer: Callable[[Iterable[Item]], Iterator[Answer]],
    *,
    progress: bool | None,
) -> Iterator[Answer]:
    """The answers for a list of texts, in order.

    Args:
        texts: the list.
        answer: gives the answers of a stream.
        progress: show a progress bar; None for where standard error is a terminal and the list is
            long.

    Raises:
        EncodaxError: it is one string, a list of characters by mistake.
    """
    if isinstance(texts, str):
        raise EncodaxError("a list of texts is wanted, not one string")
    shown = False if progress is None and len(texts) <= MANY else progress
    return counted(answer(texts), shown=shown, total=len(texts))


def counted(
    items: Iterable[Item],
    *,
    shown: bool | None = None,
    total: int | None = None,
    texts: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """The same items, counted on the terminal as they pass.

    Args:
        items: what to count.
        shown: whether to show it; None for where standard error is a terminal.
        total: how many texts there are, where that is known.
        texts: how many an item stands for.
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
