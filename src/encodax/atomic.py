"""Directories that are replaced whole or not at all."""

from __future__ import annotations

import ctypes
import fnmatch
import os
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from encodax import reading
from encodax.errors import EncodaxError


def write_directory(
    target: Path,
    write: Callable[[Path], None],
    *,
    overwrite: bool = False,
    replaces: Collection[str] = (),
) -> None:
    """Write a directory beside its place, then put it there in one step.

    Whoever is killed on the way leaves what was there before. Other files of a directory that is
    overwritten are kept.

    Args:
        target: the directory to make; where it is a link, what it points to is replaced.
        write: writes the new files into the directory it is given.
        overwrite: whether `target` may exist already with something in it.
        replaces: patterns of names in `target` that are not kept, though nothing new has the name.

    Raises:
        EncodaxError: `target` exists, or something cannot be written (a full disk).
    """
    check_free(target, overwrite=overwrite)
    place = target.resolve()
    partial = place.with_name(f".{place.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)  # of a run that was killed
        partial.mkdir(parents=True)
        write(partial)
        if place.exists():
            _link_others(place, partial, replaces)
        _flush(partial)
        with reading.undisturbed(place):
            _put_in_place(partial, place)
    except OSError as error:
        raise EncodaxError(
            f"{target} cannot be written: {error.strerror or error}; what was there is unchanged"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(target: Path, *, overwrite: bool) -> None:
    """Refuse a place where something stands already.

    Raises:
        EncodaxError: `target` is a file, or a directory that holds something without `overwrite`,
            or the one we are in, which cannot be replaced under our feet.
    """
    if target.exists() and not target.is_dir():
        raise EncodaxError(f"{target} is a file, not a directory")
    if Path.cwd().is_relative_to(target.resolve()):
        raise EncodaxError(f"{target} is where this runs; choose another place")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise EncodaxError(
            f"{target} exists; choose another place, or ask to overwrite it "
            "(--overwrite, overwrite=True)"
        )


def _link_others(old: Path, new: Path, replaces: Collection[str]) -> None:
    """Bring the files of `old` that `new` does not have, as links: they cost no room."""

    def replaced(folder: str, names: list[str]) -> list[str]:
        found = (fnmatch.filter(names, pattern) for pattern in replaces)
        return [name for matching in found for name in matching] if Path(folder) == old else []

    def link(source: str, destination: str) -> None:
        if not os.path.exists(destination):
            try:
                os.link(source, destination)
            except OSError:  # a file system without links
                shutil.copy2(source, destination)

    shutil.copytree(old, new, copy_function=link, dirs_exist_ok=True, ignore=replaced)


def _flush(directory: Path) -> None:
    """Wait until the files are on the disk, so that the rename is not there before them."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_file() or path.is_dir():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _put_in_place(new: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        new.replace(target)
    elif not _exchange(new, target):
        old = new.with_name(new.name + ".old")
        target.rename(old)  # where two names cannot be exchanged, two steps
        new.rename(target)
        shutil.rmtree(old)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step, which Python's `os` cannot; False where none can."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return bool(libc.renameat2(here, names[0], here, names[1], exchange) == 0)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        swap = 2  # RENAME_SWAP
        return bool(libc.renamex_np(*names, swap) == 0)
    return False
