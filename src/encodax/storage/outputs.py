"""Writing, replacing and deleting of files and folders: all of Encodax's deletions are done here.

Only names that Encodax gives, and folders that it has marked, are its own. Everything else is
foreign: it stays as it is, links and modes included, or the work is refused before it begins.

A directory is replaced in one of two ways:

- *exchanged*: the new one is made next to it, gets links to the foreign files, and the two names
  are swapped in one step;
- *in place*, where a mount point, the rights of the parent or the file system prevent that: the new
  files are made in a folder inside, and renamed one by one, while `.encodax-replacing` lists the
  remaining work. After a kill, the next process finishes it (`finish_replacing`).

A directory has one writer at a time (`locks.held`), and the folder in which it works is locked as
long as its process lives (`locks.flocked`). A work folder that no process has locked was left by
a killed writer, and is removed.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from encodax.errors import EncodaxError
from encodax.storage import locks

CONFIG_FILES = ("config.json", "adapter_config.json")
"""Configuration files; new files of a model get the mode of the first of these that exists."""
REPLACING = ".encodax-replacing"
"""File that lists the remaining work while a directory's files are replaced one by one."""
MOST_LINKS = 10_000
"""Largest number of foreign files linked into a new directory; beyond it, replace in place."""
LONGEST_NAME = 255 - len(f".{locks.SUFFIX}")
"""Largest number of bytes of a directory's name: file systems take 255, and its lock adds some."""

Names = Callable[[str], bool]
"""Predicate: True for a name, relative to a directory, that is removed."""


def write_directory(
    target: Path,
    write: Callable[[Path], None],
    *,
    overwrite: bool = False,
    replaces: Collection[str] = (),
) -> None:
    """Write a directory whole or not at all: a killed process leaves the old one or the new one.

    Foreign files in a directory that is overwritten stay as they are, and replaced files keep their
    modes.

    Args:
        target: the directory to make; where it is a link, its target is replaced.
        write: function that writes the new files into the directory it is given.
        overwrite: whether `target` may exist already and not be empty.
        replaces: patterns of files in `target` to remove even without a new file of that name; each
            part of a path has its own pattern (`*_Pooling/config.json`).

    Raises:
        EncodaxError: `target` exists, or something cannot be written (a full disk).
    """
    check_can_write(target, overwrite=overwrite, replaces=replaces)
    place = target.resolve()
    try:
        with locks.held(place, wait=locks.SAVE_SECONDS):
            finish_replacing(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            _sweep(place, functools.partial(_matches, replaces))
            with _staged(place) as (stage, mode):
                write(stage)
                check_can_write(
                    target, overwrite=overwrite, replaces=replaces
                )  # another may have come
                _put_in_place(stage, place, mode, replaces)
    except OSError as error:
        done = "save again to finish it" if is_being_replaced(place) else UNCHANGED
        raise EncodaxError(
            f"{target} cannot be written: {error.strerror or error}; {done}"
        ) from error


UNCHANGED = "what was there is unchanged"


def check_can_write(target: Path, *, overwrite: bool, replaces: Collection[str] = ()) -> None:
    """Refuse a target with contents that must not be replaced.

    Args:
        target: the directory to write.
        overwrite: whether it may have contents.
        replaces: patterns of the files that will be written or removed.

    Raises:
        EncodaxError: `target` is a file, or a directory with contents without `overwrite`, or the
            current directory, which cannot be replaced while in use; or something else has the name
            of a file or a folder to be replaced.
    """
    _check_no_file(target)
    check_not_here(target)
    if not target.is_dir():
        return
    try:
        is_free = all(is_ours(path.name) for path in target.iterdir())
        taken = [name for name, entry in _entries(target, replaces) if not _is_file(entry)]
        folders = _entries(target, _folders(replaces))
        taken += [name for name, entry in folders if not entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise EncodaxError(f"{target} cannot be read: {error.strerror or error}") from error
    if not is_free and not overwrite:
        raise EncodaxError(
            f"{target} exists; choose another place, or ask to overwrite it "
            "(--overwrite, overwrite=True)"
        )
    if taken:
        raise _in_the_way(target / taken[0])


def check_not_here(target: Path) -> None:
    """Refuse the current directory, or one above it: it cannot be replaced while in use.

    Raises:
        EncodaxError: it is one of these, whatever the disk holds.
    """
    if Path.cwd().is_relative_to(target.resolve()):
        raise EncodaxError(f"{target} is the working directory, or holds it; choose another place")


def check_name(target: Path) -> None:
    """Refuse a directory whose name is too long to be extended for the files next to it.

    Raises:
        EncodaxError: its name is too long.
    """
    size = len(os.fsencode(target.name))
    if size > LONGEST_NAME:
        raise EncodaxError(
            f"the name {target.name} has {size} bytes, and the names of the files beside it leave "
            f"room for {LONGEST_NAME}: choose a shorter one"
        )


def sibling_path(place: Path, ending: str) -> Path:
    """Return the path next to a directory with its name and `ending` added.

    Raises:
        EncodaxError: as in `check_not_here`: such a directory may have no name.
    """
    check_not_here(place)
    named = place if place.name not in ("", "..") else place.resolve()
    return named.with_name(named.name + ending)


def _check_no_file(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise EncodaxError(f"{target} is a file, not a directory")


def _in_the_way(path: Path) -> EncodaxError:
    return EncodaxError(f"{path} is in the way of a file or folder to write; move it away")


def check_folder(path: Path) -> None:
    """Refuse a path where no folder can be: nothing there is fine, it can be made.

    Raises:
        EncodaxError: there is a file, a pipe or a broken link.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise _in_the_way(path)


def check_writable(target: Path, way_out: str = "choose another place") -> None:
    """Refuse a directory that cannot be written, before any work is done for it.

    Args:
        target: the directory; it need not exist.
        way_out: advice to the caller in the error.

    Raises:
        EncodaxError: nothing can be created in it, or in the folder where it is to be created.
    """
    try:
        _check_no_file(target)
        place = target.resolve()
        while not place.exists() and place != place.parent:
            place = place.parent
        probe = place / unfinished_name()
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise EncodaxError(
            f"{target} cannot be written: {error.strerror or error}; {way_out}"
        ) from error


@contextmanager
def open_file(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file of Encodax to write, whole or not at all, with the mode of the old file.

    A link with its name is replaced, and the link's target stays as it is.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.lexists(path) and not (path.is_symlink() or path.is_file()):
        raise FileExistsError(17, "it is a folder or a pipe; move it away", str(path))
    stage = path.with_name(unfinished_name(path.name))
    try:
        with stage.open("wb") if binary else stage.open("w", encoding="utf-8") as stream:
            yield stream
        copy_mode(stage, path)
        stage.replace(path)
    finally:
        stage.unlink(missing_ok=True)


@contextmanager
def unfinished_file(place: Path) -> Iterator[Path]:
    """Create a temporary file next to a path, locked until the context or its process ends.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        stage = place.with_name(unfinished_name(place.name))
        stage.touch()
        with locks.flocked(stage, wait=locks.READ_SECONDS) as is_held:
            if is_held is not False:  # else another process took it before it was locked
                yield stage
                return


def left_unfinished(place: Path) -> Iterator[Path]:
    """Yield temporary files of a path left by killed writers, each locked; not those in use."""
    with suppress(OSError):  # the folder may not be listable
        for name in sorted(os.listdir(place.parent)):
            path = place.with_name(name)
            if is_unfinished(name, place.name) and path.is_file() and not path.is_symlink():
                with locks.flocked(path) as is_left:
                    if is_left:
                        yield path


def copy_mode(new: Path, old: Path) -> None:
    """Give a file the mode, and where allowed the owner, of the file that it will replace."""
    if not old.is_file() or old.is_symlink():
        return
    found = old.stat()
    for owner in (found.st_uid, -1):
        with suppress(OSError):  # users may not change the owner, but perhaps the group
            os.chown(new, owner, found.st_gid)
            break
    new.chmod(stat.S_IMODE(found.st_mode))


def remove_folder(folder: Path, way_out: str) -> None:
    """Remove a folder of Encodax with all its contents.

    Raises:
        EncodaxError: something in it cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise EncodaxError(
            f"{error.filename or folder} cannot be removed: {error.strerror or error}; {way_out}"
        ) from error


def remove_files(folder: Path, own: re.Pattern[str]) -> None:
    """Remove the files of a folder whose names match `own`; links and all else stay.

    Raises:
        OSError: one cannot be removed.
    """
    for path in sorted(folder.iterdir()):
        if own.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


# Names that Encodax gives.


def unfinished_name(name: str = "encodax") -> str:
    """Return a unique name for an unfinished file or folder."""
    return f".{_short(name)}.{uuid.uuid4().hex}.partial"


def _short(name: str) -> str:
    """Return the name, or for one too long to extend, its digest and its last characters."""
    whole = os.fsencode(name)
    return name if len(whole) < 200 else hashlib.sha256(whole).hexdigest() + name[-8:]


def is_ours(name: str) -> bool:
    """Return True for a name in a directory of its lock, or of an unfinished file of Encodax."""
    return name == locks.SUFFIX or is_unfinished(name, "encodax")


def is_unfinished(name: str, of: str) -> bool:
    """Return True for a name that Encodax gives to an unfinished file that will be called `of`."""
    return finished_name(name) == _short(of)


def finished_name(name: str) -> str | None:
    """Return the name that an unfinished file will have, shortened if long; None for others.

    Args:
        name: name made by `unfinished_name`.
    """
    found = _UNFINISHED.fullmatch(name)
    return None if found is None else found[1]


_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{32}\.(partial|old)", re.DOTALL)


def _matches(patterns: Collection[str], name: str) -> bool:
    found = _compiled(tuple(patterns)).get(name.count("/"))
    return found is not None and found.match(name) is not None


@functools.lru_cache(maxsize=4)
def _compiled(patterns: tuple[str, ...]) -> dict[int, re.Pattern[str]]:
    """Return the patterns compiled, by the number of folders in them."""
    by_depth: dict[int, list[str]] = {}
    for pattern in patterns:
        by_depth.setdefault(pattern.count("/"), []).append(fnmatch.translate(pattern))
    return {depth: re.compile("|".join(found)) for depth, found in by_depth.items()}


def _entries(place: Path, patterns: Collection[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the entries of a directory with names of these patterns; no link is followed."""
    depth = max(_compiled(tuple(patterns)), default=-1)

    def below(folder: Path, start: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = start + entry.name
            if _matches(patterns, name):
                yield name, entry
            elif name.count("/") < depth and entry.is_dir(follow_symlinks=False):
                with suppress(PermissionError):  # then it holds nothing of Encodax
                    yield from below(Path(entry.path), f"{name}/")

    if depth >= 0:
        yield from below(place, "")


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def _files(folder: Path) -> list[str]:
    """Return the files that a writer has made, by their paths relative to the folder."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _folders(names: Iterable[str]) -> list[str]:
    """Return the folders that contain these files, outer ones first."""
    found = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})


# Work folder of a writer.


@contextmanager
def _staged(place: Path) -> Iterator[tuple[Path, int]]:
    """Create a folder to write in, next to a path or else inside it; yield it and its usual mode.

    It is next to the path where it could be moved there from inside: no mount point is between.
    """
    with _made(place) as (stage, mode):
        if stage.parent == place:
            beside = place.with_name(unfinished_name(place.name))
            with suppress(OSError):
                stage.rename(beside)
                stage = beside
        try:
            yield stage, mode
        finally:
            if not is_being_replaced(place):
                _discard(stage)


@contextmanager
def _made(place: Path) -> Iterator[tuple[Path, int]]:
    while True:
        is_inside = place.exists()
        stage = (
            place / unfinished_name() if is_inside else place.with_name(unfinished_name(place.name))
        )
        stage.mkdir()
        mode = stat.S_IMODE(stage.stat().st_mode)
        stage.chmod(0o700)
        with locks.flocked(stage) as is_held:
            if is_held is not False:  # else another process has just removed it
                yield stage, mode
                return


def _sweep(place: Path, is_gone: Names) -> None:
    """Remove work folders of this path that killed writers have left."""
    for folder, name in ((place.parent, place.name), (place, "encodax")):
        with suppress(OSError):
            for left in sorted(folder.iterdir()):
                if is_unfinished(left.name, name) and left.is_dir() and not left.is_symlink():
                    with suppress(OSError):  # one that cannot be removed does not stop the others
                        _remove_left(left, place, is_gone)


def _remove_left(left: Path, place: Path, is_gone: Names) -> None:
    with locks.flocked(left) as is_left:  # where that is unknown, it stays
        if is_left and left.suffix == ".old":
            _clear(left, place, is_gone, is_late=True)
        elif is_left:
            _discard(left)


def _discard(folder: Path) -> None:
    """Remove a folder of a writer; foreign files in it are links to files kept elsewhere."""
    if not os.path.lexists(folder):
        return
    for inner, _, _ in os.walk(folder):  # outer ones first, and no links
        os.chmod(inner, 0o700)
    shutil.rmtree(folder)


# Moving the new directory to its path.


def _put_in_place(stage: Path, place: Path, mode: int, replaces: Collection[str]) -> None:
    new = _files(stage)
    _check_parents(place, new)
    for name in new:
        _flush(stage / name)
    _take_modes(stage, place, new, mode)
    if not place.exists():
        _flush_folders(stage)
        stage.chmod(mode)
        stage.rename(place)
        _flush(place.parent)
        return

    def is_gone(name: str) -> bool:
        return name in written or _matches(replaces, name)

    written = frozenset(new)
    with locks.flocked(place, wait=locks.READ_SECONDS):  # wait for readers, and block new ones
        if stage.parent == place or not _exchanged(stage, place, is_gone):
            gone = [name for name, _ in _entries(place, replaces) if name not in written]
            _replace_in_place(stage, place, new, gone)


def _check_parents(place: Path, new: Iterable[str]) -> None:
    """Refuse to write into a folder that is a link, or over something that is not a file."""
    for folder in _folders(new):
        path = place / folder
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            raise _in_the_way(path)
    for name in new:
        path = place / name
        if os.path.lexists(path) and not (path.is_symlink() or path.is_file()):
            raise _in_the_way(path)


def _take_modes(stage: Path, place: Path, new: Iterable[str], mode: int) -> None:
    """Give new files the mode of those they replace, else of the configuration, else the default.

    Libraries create some files with access only for their owner.
    """
    for name in new:
        path = stage / name
        path.chmod(mode & 0o666)
        for old in (*(place / config for config in CONFIG_FILES[::-1]), place / name):
            copy_mode(path, old)


def _exchanged(stage: Path, place: Path, is_gone: Names) -> bool:
    """Swap the new and the old directory; return False where that cannot be done."""
    try:
        _link_others(place, stage, is_gone)
        _like(place, stage)
        os.utime(stage)
    except OSError:  # another owner, unreadable, on another file system, or too many
        return False
    _flush_folders(stage)
    if not _exchange(stage, place):
        return False
    _flush(place.parent)
    old = stage.with_suffix(".old")
    stage.rename(old)
    with suppress(OSError):  # the rest is removed by the next save
        _clear(old, place, is_gone)
    return True


def _link_others(old: Path, new: Path, is_gone: Names) -> None:
    """Bring foreign files into the new directory, as hard links, in folders like the old ones.

    Raises:
        OSError: something cannot be brought exactly as it is.
    """
    device, room = old.lstat().st_dev, iter(range(MOST_LINKS))

    def bring(folder: Path, start: str) -> bool:
        """Return True if a folder stays: it has foreign files, or it was empty."""
        with os.scandir(folder) as found:
            entries = list(found)
        stays = not entries
        for entry in entries:
            name = start + entry.name
            if next(room, None) is None:
                raise OSError("there are too many")
            if entry.is_dir(follow_symlinks=False):
                if entry.stat(follow_symlinks=False).st_dev != device:
                    raise OSError("another file system is mounted there")
                if bring(Path(entry.path), f"{name}/"):
                    (new / name).mkdir(parents=True, exist_ok=True)
                    stays = True
                if (new / name).is_dir():
                    _like(Path(entry.path), new / name)
            elif not is_gone(name):
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(entry.path, new / name, follow_symlinks=False)
                stays = True
        return stays

    bring(old, "")


def _like(old: Path, new: Path) -> None:
    """Give a folder the owner, the mode and the times of another.

    Raises:
        OSError: its owner may not be changed.
    """
    found, own = old.stat(), new.stat()
    if (found.st_uid, found.st_gid) != (own.st_uid, own.st_gid):
        os.chown(new, found.st_uid, found.st_gid)
    shutil.copystat(old, new)


def _clear(old: Path, place: Path, is_gone: Names, *, is_late: bool = False) -> None:
    """Remove a replaced directory, and move files that were added to it meanwhile to the new one.

    Foreign files in it are links to files in the new one, unless they were added later. Much later
    (`is_late`), files that differ stay where they are: it is unknown which are wanted.

    Raises:
        OSError: something cannot be removed.
    """
    for inner, _, _ in os.walk(old):
        os.chmod(inner, 0o700)
    for name in _files(old):
        path, kept = old / name, place / name
        is_kept = os.path.lexists(kept) and os.path.samestat(path.lstat(), kept.lstat())
        if is_kept or is_gone(name):
            path.unlink()
        elif not (is_late and os.path.lexists(kept)):
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)
    for inner, _, _ in os.walk(old, topdown=False):
        os.rmdir(inner)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step, which Python's `os` cannot do; return False where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return bool(libc.renameat2(here, names[0], here, names[1], exchange) == 0)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        swap = 2  # RENAME_SWAP
        return bool(libc.renamex_np(*names, swap) == 0)
    return False


def _flush(path: Path) -> None:
    """Wait until a path is on the disk, so that a later rename is not there before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folders(folder: Path) -> None:
    for inner, _, _ in os.walk(folder, topdown=False):
        with suppress(PermissionError):  # a foreign folder that may not be read
            _flush(Path(inner))


# Replacement file by file.


def is_being_replaced(directory: Path) -> bool:
    """Return True if files are being replaced one by one, or a killed writer left them so."""
    return os.path.lexists(directory / REPLACING)


def finish_replacing(directory: Path) -> None:
    """Finish the work of a writer killed while it replaced a directory file by file.

    Raises:
        EncodaxError: it is still at work, or the list of its work cannot be read.
        OSError: a file cannot be renamed.
    """
    if not is_being_replaced(directory):
        return
    stage = directory / _journal(directory)["stage"]
    if not stage.is_dir():
        _replace_files(directory)
        return
    with locks.flocked(stage) as is_left:
        if is_left is False:
            raise EncodaxError(
                f"{directory} is being replaced by another process; try again when it has ended"
            )
        _replace_files(directory)


def _replace_in_place(stage: Path, place: Path, new: list[str], gone: list[str]) -> None:
    inner = place / unfinished_name()
    stage.chmod(0o700)
    stage.rename(inner)
    try:
        _flush_folders(inner)
        begun = inner / REPLACING
        journal = {"stage": inner.name, "put": new, "remove": gone}
        begun.write_text(json.dumps(journal), encoding="utf-8")
        _flush(begun)
        begun.rename(place / REPLACING)  # from here on the new files count, wherever they are
        _flush(place)
        _replace_files(place)
    finally:
        if not is_being_replaced(place):
            _discard(inner)


def _replace_files(place: Path) -> None:
    journal = _journal(place)
    stage = place / journal["stage"]
    for name in journal["put"]:
        if os.path.lexists(stage / name):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(place / name)
    for name in journal["remove"]:
        (place / name).unlink(missing_ok=True)
    for folder in ["", *_folders([*journal["put"], *journal["remove"]])]:
        if (place / folder).is_dir():
            _flush(place / folder)
    for folder in _folders(journal["remove"])[::-1]:
        with suppress(OSError):  # it has foreign contents
            (place / folder).rmdir()
    (place / REPLACING).unlink()
    _discard(stage)


def _journal(place: Path) -> dict[str, Any]:
    """Return the list of remaining work, which names nothing outside of the directory."""
    path = place / REPLACING
    if path.is_symlink() or not path.is_file():
        raise _damaged(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        stage, put, gone = str(found["stage"]), list(found["put"]), list(found["remove"])
        names = [PurePosixPath(name) for name in (*put, *gone)]
        is_whole = is_unfinished(stage, "encodax") and not (place / stage).is_symlink()
        is_inside = all(not name.is_absolute() and ".." not in name.parts for name in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not (is_whole and is_inside):
        raise _damaged(path)
    _check_parents(place, [*put, *gone])
    return {"stage": stage, "put": put, "remove": gone}


def _damaged(path: Path) -> EncodaxError:
    return EncodaxError(
        f"{path} does not say what is left to replace: the files beside it may belong to two "
        "models; remove it, and save the model again"
    )
