"""Locks on directories, of two kinds.

`held` lets one writer at a time have a directory, on any number of hosts. The lock is a file next
to the directory, or inside it where not all writers may see the neighbouring files (a mount point,
as in containers). It names the process and the host of its owner, who touches it every other
second. A lock whose owner has died is taken over.

`flocked` is the kernel's lock on an existing folder, which ends with its process. Readers share it,
as they may have no right to create a file. A writer holds it on the folder in which it works: so
that folder is known to be in use even where two writers do not see the same lock of the first kind
(inside and outside of a container), or one was stopped for longer than its lock lasts.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from encodax.errors import EncodaxError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEASE_SECONDS = 60.0
"""Silence after which an owner on another host, whose process cannot be seen, counts as dead."""
HEARTBEAT_SECONDS = 2.0
"""Time between two touches: a second writer is refused as soon as it has seen one."""
SAVE_SECONDS = 60.0
"""Time that a save of a model waits for another save of the same directory to end."""
UNSIGNED_SECONDS = 5.0
"""Age from which a lock without a name counts as left by a process killed before it signed."""
READ_SECONDS = 2.0
"""Time that readers and a writer wait for each other: a save must not hang on a stuck reader."""
SUFFIX = ".encodax-lock"


class DirectoryInUse(EncodaxError):
    """Error of a directory that another process, or another thread of this one, is writing."""


@contextmanager
def held(*directories: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the locks of some directories. A thread that has one already continues with it.

    Args:
        directories: directories to be written; they need not exist.
        wait: seconds to wait for an owner that is alive.

    Raises:
        DirectoryInUse: another process is writing one of them.
        EncodaxError: a lock cannot be made.
    """
    with ExitStack() as stack:
        for place in sorted({directory.resolve() for directory in directories}):
            stack.enter_context(_held(place, wait))
        yield


def lock_of(directory: Path) -> Path:
    """Return the path of a directory's lock."""
    place = directory.resolve()
    is_alone = os.path.ismount(place) or not place.name
    if is_alone or (place.is_dir() and not may_be_written(place.parent)):
        return place / SUFFIX
    return place.with_name(f".{place.name}{SUFFIX}")


def may_be_written(folder: Path) -> bool:
    """Return True if this process has the right to create files in a folder."""
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def _held(place: Path, wait: float) -> Iterator[None]:
    path = lock_of(place)
    lock = filelock.SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=HEARTBEAT_SECONDS,
        is_singleton=True,  # one for each path, so that a run that holds it may save a model there
    )
    is_over = _WaitCondition(path, wait)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=max(wait, LEASE_SECONDS) + HEARTBEAT_SECONDS, cancel_check=is_over)
    except (filelock.Timeout, filelock.LeaseSettingsMismatch):
        raise DirectoryInUse(_in_use(place, lock)) from None
    except OSError as error:
        raise EncodaxError(
            f"{place} cannot be written: {error.strerror or error}; what was there is unchanged"
        ) from error
    try:
        _remove_leftovers(path)
        yield
    finally:
        lock.release()


def _remove_leftovers(path: Path) -> None:
    """Remove filelock's temporary files of processes that were killed while they took a lock over.

    The lock is ours meanwhile. A file that cannot go, such as another user's, stays.
    """
    temporary = re.compile(rf"{re.escape(path.name)}\.(?:break|restore)\.(\d+)\..*")
    for other in path.parent.glob(f"{glob.escape(path.name)}.*"):
        found = temporary.fullmatch(other.name)
        if found and not _runs(int(found[1])):
            with suppress(OSError):
                other.unlink()


def _runs(process: int) -> bool:
    """Return whether a process of this number runs; True where nobody can tell."""
    try:
        if fcntl is not None:  # on Windows such a call would end the process
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True


class _WaitCondition:
    """Condition to stop waiting: the owner has been seen alive, and the time is up."""

    def __init__(self, path: Path, wait: float):
        self._path, self._until = path, time.monotonic() + wait
        self._seen: int | None = None

    def __call__(self) -> bool:
        try:
            found = os.stat(self._path)
        except OSError:
            return False  # just released
        if found.st_size == 0 and time.time() - found.st_mtime > UNSIGNED_SECONDS:
            _remove_unsigned(self._path)
        touched = found.st_mtime_ns
        if self._seen is None:
            self._seen = touched
        return touched != self._seen and time.monotonic() >= self._until


def _remove_unsigned(path: Path) -> None:
    """Remove a lock that no process has signed; of many who try, one does, and never a new one."""
    with flocked(path) as is_ours:
        if is_ours and os.stat(path).st_size == 0:
            path.unlink()


def _in_use(place: Path, lock: filelock.SoftFileLease) -> str:
    owner = lock.owner
    by = "another process" if owner is None else f"process {owner.pid} on {owner.hostname}"
    return (
        f"{place} is being written by {by}: wait until that has ended, or choose another place "
        f"(if nothing writes there, delete {lock.lock_file})"
    )


@contextmanager
def flocked(folder: Path, *, shared: bool = False, wait: float = 0.0) -> Iterator[bool | None]:
    """Try to lock a folder, or a file, for as long as the context, or the process, lasts.

    Args:
        folder: the path; the folder may be renamed meanwhile.
        shared: whether others may share the lock.
        wait: seconds to wait for others.

    Yields:
        True where the lock is ours; False where another process has it, or the folder is gone;
        None where that is unknown (no right to read it, a file system without locks, Windows).
    """
    is_held = None
    with ExitStack() as stack:
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            if fcntl is not None:
                is_held = _flock(descriptor, folder, shared, time.monotonic() + wait)
        except FileNotFoundError:
            is_held = False
        except OSError:
            pass
        yield is_held


def _flock(descriptor: int, folder: Path, shared: bool, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), os.stat(folder))
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.002)
