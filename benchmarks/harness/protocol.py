"""What a driver and a worker say to each other: JSON, a line each way.

A worker is a process of its own, in the environment of its library, that is kept alive. Its module
gives a class, and ends in `serve(TheClass)`; this one needs nothing but Python. The driver's side
is `workers.py`.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TextIO


class Served(Protocol):
    """What answers: its methods take a request's values, and give an answer's."""

    packages: tuple[str, ...]
    """Whose versions are told."""


def serve(make: Callable[..., Served]) -> None:
    """Answer requests until there are no more.

    A request names in `do` what is done: `load` makes the object, anything else is a method of it.
    """
    replies = reply_stream()
    served = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "load":
                served = make(**request)
                answer = {"versions": versions(served.packages)}
            else:
                answer = getattr(served, do)(**request)
        except Exception as error:  # whatever it is, the driver shows it and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=replies, flush=True)


def reply_stream() -> TextIO:
    """Standard output, which from now on is standard error to whatever a library prints."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


@functools.lru_cache
def read_texts(path: str) -> list[Any]:
    """A JSON list of texts: they go through files."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def versions(packages: tuple[str, ...]) -> dict[str, Any]:
    """Of Python, and of packages."""
    return {"Python": platform.python_version(), **{name: version(name) for name in packages}}
