"""Consistent reading of a directory that another process may be replacing.

A reader shares a lock on the directory itself (`locks.flocked`), for which Encodax's writers wait a
moment. Changes by writers without the lock are noticed, as files change when they are written, and
the directory is read again. Work left by a writer that was killed while it replaced files one by
one is finished first, by any process that may write there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from encodax.errors import EncodaxError
from encodax.storage import locks, outputs

ENDINGS = (".json", ".safetensors", ".txt", ".model", ".spm")
"""Endings of the files that a model is read from; others, such as logs, may grow meanwhile."""
WAITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, *7 * (1.0,))
"""Seconds between attempts."""

Result = TypeVar("Result")
State = tuple[tuple[str, int, int, int], ...]

_held: ContextVar[tuple[Path, ...]] = ContextVar("directories that are being read", default=())


def read_consistently(directory: Path, read: Callable[[], Result]) -> Result:
    """Read a directory as it was at one time, before or after it was replaced.

    Results and errors of a reading during which it changed are discarded, and it is read again.
    While a directory is being read, a nested call for it or for a folder in it just calls `read`.

    Args:
        directory: the directory.
        read: function that reads it.

    Raises:
        EncodaxError: it kept changing, or is half replaced and may not be written; or the error of
            `read` when it did not change.
    """
    place = Path(os.path.abspath(directory))
    held = _held.get()
    if any(place.is_relative_to(other) for other in held):
        return read()
    for wait in (*WAITS, None):
        unfinished = _finish(place)
        with locks.flocked(place, shared=True, wait=locks.READ_SECONDS):
            before = state_of(place)
            if not outputs.is_being_replaced(place):
                token = _held.set((*held, place))
                try:
                    found = read()
                except Exception:
                    if state_of(place) == before:
                        raise
                else:
                    if state_of(place) == before:
                        return found
                finally:
                    _held.reset(token)
        if wait is not None:
            time.sleep(wait)
    if unfinished is not None:
        raise unfinished
    raise EncodaxError(
        f"{directory} changed each of the {len(WAITS) + 1} times it was read: wait until nothing "
        "writes it"
    )


def _finish(place: Path) -> EncodaxError | None:
    """Finish the work of a killed writer, where we may; return the error that prevents it."""
    if not outputs.is_being_replaced(place):
        return None
    if not locks.may_be_written(place):
        return EncodaxError(
            f"{place} is being replaced, or a process was killed while it replaced it (it holds "
            f"{outputs.REPLACING}); only a user who may write there can finish that: wait, or run "
            f"`encodax info {place}` as its owner"
        )
    try:
        with locks.held(place):
            outputs.finish_replacing(place)
    except OSError as error:
        return EncodaxError(
            f"{place} is half replaced, and cannot be written: {error.strerror or error}"
        )
    except EncodaxError as error:
        return error
    return None


def state_of(directory: Path) -> State:
    """Return a state that differs when a model's files do: names, sizes and times of change.

    It covers the directory and the folders in it. Links count, also on the way there, and so do
    their targets, as in the hub's cache. The time at which an entry changed cannot be set back;
    the numbers of inodes are reused.
    """
    found = [
        _seen(path, os.lstat(path)) for path in (directory, *directory.parents) if path.is_symlink()
    ]
    folders = [directory]
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if folder == directory and entry.is_dir():
                        folders.append(Path(entry.path))
                    elif entry.name.endswith((*ENDINGS, outputs.REPLACING)):
                        found.append(_seen(entry.path, entry.stat(follow_symlinks=False)))
                        found.append(_seen(entry.path, entry.stat()))
    return tuple(sorted(found))


def _seen(path: os.PathLike[str] | str, at: os.stat_result) -> tuple[str, int, int, int]:
    return os.fspath(path), at.st_size, at.st_mtime_ns, at.st_ctime_ns
