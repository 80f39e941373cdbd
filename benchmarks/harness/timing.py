"""Times, taken in turn so that whatever else the machine does meets all sides alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Clock:
    """Seconds that pass, and seconds of all cores, between its two ends."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = time.process_time() - self._cpu

    def each(self, count: int) -> dict[str, float]:
        """Of one of so many."""
        return {"seconds": self._wall / count, "cpu_seconds": self._cpu / count}


def seconds_of(call: Callable[..., Any], *arguments: Any) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def in_turn(
    rounds: int,
    sides: Mapping[str, Callable[[], T]],
    after: Callable[[int], None] = lambda turn: None,
) -> dict[str, list[T]]:
    """What each side gives, round by round; `after` is told the rounds that are done."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
        after(turn + 1)
    return found
