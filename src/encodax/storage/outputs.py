"""What Encodax writes, and what may be removed of it: all that deletes or replaces comes here.

Only names that Encodax gives, and folders that it has marked, are its own. All else is foreign: it
stays as it is, links and modes included, or the work is refused before it begins.

A directory is replaced in one of two ways:

- *exchanged*: the new one is made beside it, gets links to what is foreign, and the two names
  change places in one step;
- *in place*, where a mount point, the rights of the parent or the file system forbid that: the new
  files are made in a folder inside, and renamed one by one, while `.encodax-replacing` says what is
  left to do. Whoever comes after a kill does it (`finish_replacing`).

A directory has one writer at a time (`locks.held`), and the folder in which it works is locked as
long as its process lives (`locks.flocked`). What nobody has was left by one that was killed, and
goes.
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
"""New files of a model may be read by those who could read the first of these that was there."""
REPLACING = ".encodax-replacing"
"""Stands in a directory while its files are replaced one by one, and says what is left to do."""
MOST_LINKS = 10_000
"""Foreign files that are linked into a new directory; where there are more, it is done in place."""
LONGEST_NAME = 255 - len(f".{locks.SUFFIX}")
"""Bytes of the name of a directory: file systems take 255, and its lock has that and more."""

Names = Callable[[str], bool]
"""Whether a name, relative to a directory, is one that goes."""


def write_directory(
    target: Path,
    write: Callable[[Path], None],
    *,
    overwrite: bool = False,
    replaces: Collection[str] = (),
) -> None:
    """Write a directory whole or not at all: whoever is killed leaves the old one or the new one.

    What is foreign in a directory that is overwritten stays as it is, and files that are replaced
    keep their modes.

    Args:
        target: the directory to make; where it is a link, what it points to is replaced.
        write: writes the new files into the directory it is given.
        overwrite: whether `target` may exist already with something in it.
        replaces: patterns of files in `target` that go, though nothing new has the name; each part
            of a path has its own (`*_Pooling/config.json`).

    Raises:
        EncodaxError: `target` exists, or something cannot be written (a full disk).
    """
    check_free(target, overwrite=overwrite, replaces=replaces)
    place = target.resolve()
    try:
        with locks.held(place, wait=locks.SAVE_SECONDS):
            finish_replacing(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            _sweep(place, functools.partial(_matches, replaces))
            with _staged(place) as (stage, mode):
                write(stage)
                check_free(target, overwrite=overwrite, replaces=replaces)  # another may have come
                _put_in_place(stage, place, mode, replaces)
    except OSError as error:
        done = "save again, and it is finished" if is_being_replaced(place) else UNCHANGED
        raise EncodaxError(
            f"{target} cannot be written: {error.strerror or error}; {done}"
        ) from error


UNCHANGED = "what was there is unchanged"


def check_free(target: Path, *, overwrite: bool, replaces: Collection[str] = ()) -> None:
    """Refuse a place where something stands that is not to be replaced.

    Args:
        target: the directory to write.
        overwrite: whether it may hold something.
        replaces: patterns of the files that will be written or go.

    Raises:
        EncodaxError: `target` is a file, or a directory that holds something without `overwrite`,
            or the one we are in, which cannot be replaced under our feet; or something else has the
            name of a file or a folder that is to be replaced.
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
    """Refuse the directory we are in, or one above it: it cannot be replaced under our feet.

    Raises:
        EncodaxError: it is that, whatever the disk holds.
    """
    if Path.cwd().is_relative_to(target.resolve()):
        raise EncodaxError(f"{target} is where this runs; choose another place")


def check_name(target: Path) -> None:
    """Refuse a directory beside which nothing could stand that has its name and an ending.

    Raises:
        EncodaxError: its name is too long.
    """
    size = len(os.fsencode(target.name))
    if size > LONGEST_NAME:
        raise EncodaxError(
            f"the name {target.name} has {size} bytes, and the names beside it that are made of it "
            f"leave room for {LONGEST_NAME}: choose a shorter one"
        )


def beside(place: Path, ending: str) -> Path:
    """The path beside a directory to write that is called as it is, and ends so.

    Raises:
        EncodaxError: see `check_not_here`: of such a one there may be no name.
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
    """Refuse what is in the way of a folder; where nothing stands, it can be made.

    Raises:
        EncodaxError: a file, a pipe or a link to nothing is there.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise _in_the_way(path)


def check_writable(target: Path, way_out: str = "choose another place") -> None:
    """Refuse a directory that could not be written, before any work is done for it.

    Args:
        target: the directory; it need not exist.
        way_out: what the caller can do then.

    Raises:
        EncodaxError: nothing can be made in it, or where it is to be made.
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
    """A file of ours to write, which is there whole or not at all, with the mode that it had.

    A link of its name is replaced, and what it points to stays as it is.

    Raises:
        OSError: it cannot be written.
    """
    if os.path.lexists(path) and not (path.is_symlink() or path.is_file()):
        raise FileExistsError(17, "it is a folder or a pipe; move it away", str(path))
    stage = path.with_name(unfinished_name(path.name))
    try:
        with stage.open("wb") if binary else stage.open("w", encoding="utf-8") as stream:
            yield stream
        take_mode(stage, path)
        stage.replace(path)
    finally:
        stage.unlink(missing_ok=True)


@contextmanager
def unfinished_file(place: Path) -> Iterator[Path]:
    """A new file to write beside a place, locked as long as this lasts and its process lives.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        stage = place.with_name(unfinished_name(place.name))
        stage.touch()
        with locks.flocked(stage, wait=locks.READ_SECONDS) as is_held:
            if is_held is not False:  # else another has taken it for left, as it had no lock yet
                yield stage
                return


def left_unfinished(place: Path) -> Iterator[Path]:
    """What writers have left of a file that were killed, each locked; not what is being written."""
    with suppress(OSError):  # whose folder may not be listed
        for name in sorted(os.listdir(place.parent)):
            path = place.with_name(name)
            if is_unfinished(name, place.name) and path.is_file() and not path.is_symlink():
                with locks.flocked(path) as is_left:
                    if is_left:
                        yield path


def take_mode(new: Path, old: Path) -> None:
    """Give a file the mode, and where we may the owner, of the one that it will replace."""
    if not old.is_file() or old.is_symlink():
        return
    found = old.stat()
    for owner in (found.st_uid, -1):
        with suppress(OSError):  # a user gives nothing away, but may be of the group
            os.chown(new, owner, found.st_gid)
            break
    new.chmod(stat.S_IMODE(found.st_mode))


def remove_folder(folder: Path, way_out: str) -> None:
    """Remove a folder of ours with all that is in it.

    Raises:
        EncodaxError: something of it cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise EncodaxError(
            f"{error.filename or folder} cannot be removed: {error.strerror or error}; {way_out}"
        ) from error


def remove_files(folder: Path, own: re.Pattern[str]) -> None:
    """Remove the files of a folder that have one of our names; links and all else stay.

    Raises:
        OSError: one cannot be removed.
    """
    for path in sorted(folder.iterdir()):
        if own.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


# Names that are ours.


def unfinished_name(name: str = "encodax") -> str:
    """Return a name that nothing else has, for what is not finished."""
    return f".{_short(name)}.{uuid.uuid4().hex}.partial"


def _short(name: str) -> str:
    """A name, or of a long one, to which nothing could be added, a digest and its end."""
    whole = os.fsencode(name)
    return name if len(whole) < 200 else hashlib.sha256(whole).hexdigest() + name[-8:]


def is_ours(name: str) -> bool:
    """Whether a name in a directory is that of its lock, or of what is not finished there."""
    return name == locks.SUFFIX or is_unfinished(name, "encodax")


def is_unfinished(name: str, of: str) -> bool:
    """Whether a name is one that Encodax gives to what will be called `of`, before it is whole."""
    return finished_name(name) == _short(of)


def finished_name(name: str) -> str | None:
    """What will be called otherwise once it is whole, or its end if that is long; None for others.

    Args:
        name: as `unfinished_name` gives one.
    """
    found = _UNFINISHED.fullmatch(name)
    return None if found is None else found[1]


_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{32}\.(partial|old)", re.DOTALL)


def _matches(patterns: Collection[str], name: str) -> bool:
    found = _compiled(tuple(patterns)).get(name.count("/"))
    return found is not None and found.match(name) is not None


@functools.lru_cache(maxsize=4)
def _compiled(patterns: tuple[str, ...]) -> dict[int, re.Pattern[str]]:
    """By how many folders deep they reach."""
    by_depth: dict[int, list[str]] = {}
    for pattern in patterns:
        by_depth.setdefault(pattern.count("/"), []).append(fnmatch.translate(pattern))
    return {depth: re.compile("|".join(found)) for depth, found in by_depth.items()}


def _entries(place: Path, patterns: Collection[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What stands in a directory under names of these patterns; no link is followed."""
    depth = max(_compiled(tuple(patterns)), default=-1)

    def below(folder: Path, start: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = start + entry.name
            if _matches(patterns, name):
                yield name, entry
            elif name.count("/") < depth and entry.is_dir(follow_symlinks=False):
                with suppress(PermissionError):  # then nothing of ours is in there
                    yield from below(Path(entry.path), f"{name}/")

    if depth >= 0:
        yield from below(place, "")


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def _files(folder: Path) -> list[str]:
    """The files that a writer has made, by their names from the folder."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _folders(names: Iterable[str]) -> list[str]:
    """The folders in which these files stand, outer ones first."""
    found = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})


# The folder in which a writer works.


@contextmanager
def _staged(place: Path) -> Iterator[tuple[Path, int]]:
    """A new folder to write in, beside a place or else inside it, and the mode of a new folder.

    It is beside where it could be moved there from the inside: no mount point is between them.
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
            if is_held is not False:  # else another has just swept it away
                yield stage, mode
                return


def _sweep(place: Path, is_gone: Names) -> None:
    """Remove what writers of this place left that were killed."""
    for folder, name in ((place.parent, place.name), (place, "encodax")):
        with suppress(OSError):
            for left in sorted(folder.iterdir()):
                if is_unfinished(left.name, name) and left.is_dir() and not left.is_symlink():
                    with suppress(OSError):  # what cannot go does not keep the rest
                        _remove_left(left, place, is_gone)


def _remove_left(left: Path, place: Path, is_gone: Names) -> None:
    with locks.flocked(left) as is_left:  # where nobody can tell, it stays
        if is_left and left.suffix == ".old":
            _clear(left, place, is_gone, is_late=True)
        elif is_left:
            _discard(left)


def _discard(folder: Path) -> None:
    """Remove a folder of a writer; what is foreign in it are links to what stands elsewhere."""
    if not os.path.lexists(folder):
        return
    for inner, _, _ in os.walk(folder):  # outer ones first, and no links
        os.chmod(inner, 0o700)
    shutil.rmtree(folder)


# Putting it in its place.


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
    with locks.flocked(place, wait=locks.READ_SECONDS):  # readers end, and none begins
        if stage.parent == place or not _exchanged(stage, place, is_gone):
            gone = [name for name, _ in _entries(place, replaces) if name not in written]
            _replace_in_place(stage, place, new, gone)


def _check_parents(place: Path, new: Iterable[str]) -> None:
    """Refuse to write into a folder that is a link, or over what is no file."""
    for folder in _folders(new):
        path = place / folder
        if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
            raise _in_the_way(path)
    for name in new:
        path = place / name
        if os.path.lexists(path) and not (path.is_symlink() or path.is_file()):
            raise _in_the_way(path)


def _take_modes(stage: Path, place: Path, new: Iterable[str], mode: int) -> None:
    """New files have the mode of those they replace, else of the configuration, else the usual one.

    Libraries make some of them for their owner alone.
    """
    for name in new:
        path = stage / name
        path.chmod(mode & 0o666)
        for old in (*(place / config for config in CONFIG_FILES[::-1]), place / name):
            take_mode(path, old)


def _exchanged(stage: Path, place: Path, is_gone: Names) -> bool:
    """Let the new directory and the old one change places; False where it cannot be done."""
    try:
        _link_others(place, stage, is_gone)
        _like(place, stage)
        os.utime(stage)
    except OSError:  # another owner's, unreadable, of another file system, or too many
        return False
    _flush_folders(stage)
    if not _exchange(stage, place):
        return False
    _flush(place.parent)
    old = stage.with_suffix(".old")
    stage.rename(old)
    with suppress(OSError):  # what is left goes with the next save
        _clear(old, place, is_gone)
    return True


def _link_others(old: Path, new: Path, is_gone: Names) -> None:
    """Bring what is foreign into the new directory: links to files, and folders like the old ones.

    Raises:
        OSError: something cannot be brought exactly as it is.
    """
    device, room = old.lstat().st_dev, iter(range(MOST_LINKS))

    def bring(folder: Path, start: str) -> bool:
        """Whether something of it stays: what is foreign, or that it was empty."""
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
        OSError: it may not be given away.
    """
    found, own = old.stat(), new.stat()
    if (found.st_uid, found.st_gid) != (own.st_uid, own.st_gid):
        os.chown(new, found.st_uid, found.st_gid)
    shutil.copystat(old, new)


def _clear(old: Path, place: Path, is_gone: Names, *, is_late: bool = False) -> None:
    """Remove a directory that has been replaced, and give back what came into it meanwhile.

    What is foreign in it is a link to what stands in the new one, unless it is later than that.
    Much later (`is_late`) what differs stays where it is: nobody knows which is wanted.

    Raises:
        OSError: something stays.
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


def _flush(path: Path) -> None:
    """Wait until it is on the disk, so that a rename is not there before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folders(folder: Path) -> None:
    for inner, _, _ in os.walk(folder, topdown=False):
        with suppress(PermissionError):  # a foreign one that may not be read
            _flush(Path(inner))


# File by file.


def is_being_replaced(directory: Path) -> bool:
    """Whether its files are replaced one by one now, or were when their writer was killed."""
    return os.path.lexists(directory / REPLACING)


def finish_replacing(directory: Path) -> None:
    """Do what a writer has left that was killed while it replaced a directory file by file.

    Raises:
        EncodaxError: it is at work still, or what it has left cannot be read.
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
                f"{directory} is just being replaced by another process; try again when it has "
                "ended"
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
        begun.rename(place / REPLACING)  # from here on the new files count, wherever they stand
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
        with suppress(OSError):  # something foreign is in it
            (place / folder).rmdir()
    (place / REPLACING).unlink()
    _discard(stage)


def _journal(place: Path) -> dict[str, Any]:
    """What is left to do, which names nothing outside of the directory."""
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
        f"{path} does not say what is left to replace: the files beside it may be of two models; "
        "remove it, and save the model again"
    )
