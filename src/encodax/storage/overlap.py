"""Paths of one command: an output may not be, contain or lie in an input."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from encodax.errors import EncodaxError

Named = Mapping[str, Path | str | Sequence[Path | str] | None]
"""Option -> its paths; None and nonexistent paths are left out."""


def check_apart(written: Named, read: Named) -> None:
    """Refuse outputs that overlap with an input, or with one another.

    Links are followed, so that another name of the same place does not evade the check.

    Args:
        written: outputs of the command, by option.
        read: inputs, by option; those that do not exist, such as ids of the hub, cannot be
            overwritten.

    Raises:
        EncodaxError: two paths overlap; the message names both.
    """
    outputs = [(name, path) for name, paths in written.items() for path in _paths(paths)]
    inputs = [(name, path) for name, paths in read.items() for path in _paths(paths)]
    for (name, path), (other, read_path) in itertools.product(outputs, inputs):
        if os.path.exists(read_path) and (how := _relation(path, read_path)):
            raise EncodaxError(
                f"{name} {path} {how} {other} {read_path}, which is an input: write to another "
                "place"
            )
    for (name, path), (other, second) in itertools.combinations(outputs, 2):
        if how := _relation(path, second):
            raise EncodaxError(f"{name} {path} {how} {other} {second}: give each its own place")


def _paths(paths: Path | str | Sequence[Path | str] | None) -> list[Path]:
    if paths is None:
        return []
    several = [paths] if isinstance(paths, str | Path) else paths
    return [Path(path) for path in several if str(path) != "-"]


def _relation(first: Path, second: Path) -> str | None:
    """Return in words how two paths overlap; None where they do not."""
    is_in, holds = is_within(first, second), is_within(second, first)
    if is_in and holds:
        return "is the same as"
    return "lies in" if is_in else "holds" if holds else None


def is_within(path: Path, folder: Path) -> bool:
    """Return True if a path is a folder or in it, whatever their names; neither must exist."""
    place, above = path.resolve(), folder.resolve()
    if place.is_relative_to(above):
        return True
    if not above.exists():
        return False
    return any(each.exists() and each.samefile(above) for each in (place, *place.parents))
