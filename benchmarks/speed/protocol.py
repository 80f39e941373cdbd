"""What the driver and a contender say to each other: JSON, a line each way.

A contender is a process of its own, in the environment of its library, that is kept alive. Its
file gives a class, and ends in `serve(TheClass)`; this file needs nothing but NumPy. Texts and
vectors go through files, and no time is taken while they are read or written.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

UNTIMED_CALLS = 20
"""Before the calls whose times are kept, each time."""


class Contender(Protocol):
    """A library with the model in it."""

    packages: tuple[str, ...]
    """Whose versions are told."""
    batch_sizes: tuple[int, ...]
    """Which are tried on a sample, the best to be taken; none where the library has no choice."""

    def __init__(self, model: Path, precision: str, cores: int, onnx: Path):
        """Load `model`, or what was exported from it to the folder `onnx`."""

    def encode(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        """The vectors of texts, in order."""


def serve(make: Callable[..., Contender]) -> None:
    """Answer requests until there are no more."""
    replies = reply_stream()
    session = Session(make)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:  # whatever it is, the driver shows it and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=replies, flush=True)


def reply_stream() -> TextIO:
    """Standard output, which from now on is standard error to whatever a library prints."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


@functools.lru_cache
def read_texts(path: str) -> list[str]:
    """A JSON list of texts."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


class Session:
    """One request, one method."""

    def __init__(self, make: Callable[..., Contender]):
        self._make = make

    def load(self, model: str, precision: str, cores: int, onnx: str) -> dict[str, Any]:
        self._contender = self._make(Path(model), precision, cores, Path(onnx))
        packages = {name: version(name) for name in self._contender.packages}
        return {"versions": {"Python": platform.python_version(), **packages}}

    def tune(self, texts: str) -> dict[str, Any]:
        """The batch size that takes the least time, of two tries each."""
        sample, sizes = read_texts(texts), self._contender.batch_sizes
        seconds = {size: min(self._seconds(sample, size) for _ in range(2)) for size in sizes}
        best = min(seconds, key=seconds.__getitem__) if seconds else None
        return {"batch_size": best, "tried": seconds}

    def encode(self, texts: str, batch_size: int | None, save: str | None = None) -> dict[str, Any]:
        """Seconds for all texts; their vectors go to the file `save`."""
        content = read_texts(texts)
        start = time.perf_counter()
        vectors = self._contender.encode(content, batch_size)
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

    def extra(self, what: str, **request: Any) -> dict[str, Any]:
        """What one contender alone can tell."""
        return getattr(self._contender, what)(**request)

    def _seconds(self, texts: Sequence[str], batch_size: int | None) -> float:
        start = time.perf_counter()
        self._contender.encode(texts, batch_size)
        return time.perf_counter() - start


def peak_memory() -> int:
    """Bytes. Linux's own count is taken where there is one: getrusage's begins at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
