"""One consistent reading of a directory that another process may be replacing.

A reader holds a shared lock on the directory itself, for which our own writers wait a moment
(`undisturbed`). Whatever writes without it is noticed, as files change when they are written, and
the directory is read again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from encodax.errors import EncodaxError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ENDINGS = (".json", ".safetensors", ".txt", ".model", ".spm")
"""Of the files that a model is read from; others, such as the log of a run, may grow meanwhile."""
REPLACING = ".encodax-replacing"
"""Stands in a directory while its files are replaced one by one."""
WAITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, *7 * (1.0,))
"""Seconds between attempts."""
PATIENCE = 2.0
"""Seconds that a writer waits for readers: a save must not hang on one that is stuck."""

Result = TypeVar("Result")
State = tuple[tuple[str, int, int, int], ...]

_held: ContextVar[tuple[Path, ...]] = ContextVar("directories that are being read", default=())


def whole(directory: Path, read: Callable[[], Result]) -> Result:
    """Read a directory as it was at one time, before or after it was replaced.

    What was read while it changed is thrown away, errors too, and read again. Inside the reading
    of a directory, another of it or of a folder in it is a plain call.

    Args:
        directory: what is read.
        read: reads it.

    Raises:
        EncodaxError: it was never at rest; or what `read` raises when it was.
    """
    place = Path(os.path.abspath(directory))
    held = _held.get()
    if any(place.is_relative_to(other) for other in held):
        return read()
    for wait in (*WAITS, None):
        with _shared(place):
            before = state_of(place)
            if not is_being_replaced(place):
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
    if is_being_replaced(place):
        raise EncodaxError(
            f"{directory} is being replaced, or what replaced it was killed (it holds {REPLACING}):"
            " wait, or save the model there again"
        )
    raise EncodaxError(
        f"{directory} changed each of the {len(WAITS) + 1} times it was read: wait until nothing "
        "writes it"
    )


def is_being_replaced(directory: Path) -> bool:
    """Whether its files are replaced one by one now, or were when their writer was killed."""
    return os.path.lexists(directory / REPLACING)


def state_of(directory: Path) -> State:
    """What differs when a model's files do: name, size, and when content and entry changed.

    Of the directory and of the folders in it. Links count, on the way there too, and so does what
    they lead to, as the hub's cache has them. The time at which an entry changed cannot be set
    back; the numbers of inodes are used again.
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
                    elif entry.name.endswith((*ENDINGS, REPLACING)):
                        found.append(_seen(entry.path, entry.stat(follow_symlinks=False)))
                        found.append(_seen(entry.path, entry.stat()))
    return tuple(sorted(found))


def _seen(path: os.PathLike[str] | str, at: os.stat_result) -> tuple[str, int, int, int]:
    return os.fspath(path), at.st_size, at.st_mtime_ns, at.st_ctime_ns


@contextlib.contextmanager
def _shared(directory: Path) -> Iterator[None]:
    """A shared lock on what has the name now; without one where there can be none."""
    with _opened(directory) as descriptor:
        if descriptor is not None and fcntl is not None:
            _locked(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def undisturbed(directory: Path) -> Iterator[None]:
    """For a writer: wait until nobody reads a directory, and let nobody begin meanwhile.

    It waits `PATIENCE` at most: who reads longer notices, and reads again.
    """
    with _opened(directory) as descriptor:
        if descriptor is not None and fcntl is not None:
            _locked(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    """Try for a while to lock; False where it cannot be had."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        except OSError:  # a file system without locks
            return False
