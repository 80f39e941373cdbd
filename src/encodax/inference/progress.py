"""A progress bar on standard error for long work, and for nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def counted(
    items: Iterable[Item], *, shown: bool | None = None, total: int | None = None
) -> Iterator[Item]:
    """The same items, counted on the terminal as they pass.

    Args:
        items: what to count.
        shown: whether to show it; None for where standard error is a terminal.
        total: how many there are, where that is known.
    """
    if not (sys.stderr.isatty() if shown is None else shown):
        yield from items
        return
    from rich.console import Console
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total)
