"""What every contender answers; it needs nothing but NumPy.

Texts and vectors go through files, and no time is taken while they are read or written.
"""

from __future__ import annotations

import abc
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.protocol import read_texts
from benchmarks.harness.timing import seconds_of

UNTIMED_CALLS = 20
"""Before the calls whose times are kept, each time."""


class Embedding(abc.ABC):
    """A library with the model in it; the methods are what is asked, but for `vectors`."""

    batch_sizes: tuple[int, ...] = ()
    """Which are tried on a sample, the best to be taken; none where the library has no choice."""

    @abc.abstractmethod
    def vectors(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        """Of texts, in order."""

    def tune(self, texts: str) -> dict[str, Any]:
        """The batch size that takes the least time, of two tries each."""
        sample, sizes = read_texts(texts), self.batch_sizes
        seconds = {size: min(self._seconds(sample, size) for _ in range(2)) for size in sizes}
        best = min(seconds, key=seconds.__getitem__) if seconds else None
        return {"batch_size": best, "tried": seconds}

    def encode(self, texts: str, batch_size: int | None, save: str | None = None) -> dict[str, Any]:
        """Seconds for all texts; their vectors go to the file `save`."""
        content = read_texts(texts)
        start = time.perf_counter()
        vectors = self.vectors(content, batch_size)
        seconds = time.perf_counter() - start
        if save:
            np.save(save, vectors)
        return {"seconds": seconds, "output_bytes": vectors.nbytes}

    def latency(self, texts: str, calls: int) -> dict[str, Any]:
        """Milliseconds of each of so many calls, a text a call."""
        content = read_texts(texts)

        def milliseconds(call: int) -> float:
            return 1e3 * self._seconds([content[call % len(content)]], None)

        taken = [milliseconds(call) for call in range(UNTIMED_CALLS + calls)]
        return {"milliseconds": taken[UNTIMED_CALLS:]}

    def memory(self) -> dict[str, Any]:
        """The most bytes that this process has held."""
        return {"bytes": peak_memory()}

    def _seconds(self, texts: Sequence[str], batch_size: int | None) -> float:
        return seconds_of(self.vectors, texts, batch_size)


def peak_memory() -> int:
    """Bytes. Linux's own count is taken where there is one: getrusage's begins at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
