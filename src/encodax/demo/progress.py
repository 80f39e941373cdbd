"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from encodax.training.loop.progress import SECONDS_BETWEEN_LINES

Report = Callable[[int, int], None]
"""Function that takes the number of items done and of all items."""


@contextmanager
def watch(name: str, console: Console) -> Iterator[Report]:
    """Show the progress that is reported through the function this context yields."""
    if console.is_terminal:
        columns = (
            TextColumn(name, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
    else:
        yield _lines(name, console)


def _lines(name: str, console: Console) -> Report:
    """Return a function that prints a line every few seconds, and one at the end."""
    begin = last = time.monotonic()
    loaded: int | None = None  # items at the first report, whose time includes loading

    def report(done: int, total: int) -> None:
        nonlocal begin, last, loaded
        now = time.monotonic()
        if loaded is None:
            begin, loaded = now, done
        if now - last >= SECONDS_BETWEEN_LINES or done == total:
            last = now
            left = (now - begin) / max(done - loaded, 1) * (total - done)
            known = f"  {left:.0f} s left" if done > loaded else ""
            console.print(f"{name}  {done:,}/{total:,}{known}", highlight=False)

    return report
