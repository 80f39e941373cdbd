"""The bytes of files at any place, for any number of threads and of files.

A file is read where it lies; what can only be read from its beginning on, gzip, pipes and standard
input, is unpacked once into a temporary file. Files pickle by their paths.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from encodax.data import documents, formats, sources
from encodax.errors import EncodaxError

OPEN_FILES = 64
"""Files that are open at a time, however many there are."""
LARGE_COPY = 1 << 30
"""Bytes of a temporary file that are worth a note."""
CHUNK = 1 << 17
"""Bytes that are read at a time, in order."""

logger = logging.getLogger(__name__)

Paths = Path | str | Sequence[Path | str]
"""Each a file, a pipe, a folder, a pattern such as `texts/*.jsonl`, or `-`."""
Stamp = tuple[int, int]
"""Of a file: its bytes, and when it was changed last."""


def expanded(paths: Paths, *, format: str | None = None) -> list[str]:
    """The files that are meant, in order: those of a folder or a pattern by name.

    Of a folder and its folders each file counts that has a known ending, and no `.` or `_` at the
    beginning of its name. `**` in a pattern stands for any number of folders.

    Args:
        paths: see `Paths`.
        format: of the files; where it is told, a folder's files count whatever their endings.

    Raises:
        EncodaxError: nothing is there, or a file is named twice.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        found += _meant(str(path), format)
    if not found:
        raise EncodaxError("no file is given")
    seen: set[str] = set()
    for path in found:
        place = os.path.abspath(path)
        if place in seen:
            raise EncodaxError(f"{path} is given twice; name each file once")
        seen.add(place)
    return found


def _meant(path: str, format: str | None) -> list[str]:
    if formats.is_stream(path) or os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        files = [file for file in _inside(path) if format or formats.is_known(file)]
        if not files:
            endings = ", ".join(f".{name}" for name in formats.NAMES)
            raise EncodaxError(f"{path} is a folder without files that end in {endings}")
        return files
    files = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    if not files:
        formats.check_readable(path)
    return files


def _inside(folder: str) -> list[str]:
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [os.path.join(place, name) for name in names if not name.startswith((".", "_"))]
    return sorted(found)


def stamp_of(path: str) -> Stamp:
    """What tells that a file has changed.

    Raises:
        EncodaxError: there is no such file.
    """
    try:
        return _stamp(os.stat(path))
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error


def check_unchanged(path: str, stamp: Stamp, now: Stamp) -> None:
    """Refuse a file that is no longer what was indexed.

    Raises:
        EncodaxError: it has changed.
    """
    if now != stamp:
        raise EncodaxError(f"{path} has changed since it was opened; begin again")


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_size, state.st_mtime_ns


class Descriptor:
    """A descriptor that is closed when nobody holds it: a thread may yet read what was dropped."""

    def __init__(self, number: int):
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)

    @staticmethod
    def of(path: str) -> Descriptor:
        """Open a file.

        Raises:
            EncodaxError: it cannot be opened.
        """
        try:
            return Descriptor(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error


class OpenFiles:
    """The files that were read last, open; the same in another process, where they open anew."""

    def __init__(self) -> None:
        self.descriptor = functools.lru_cache(OPEN_FILES)(Descriptor.of)

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        return OpenFiles, ()


class Copies:
    """One temporary file without a name, for all that has to be unpacked."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.descriptor = Descriptor(os.dup(file.fileno()))
        self.size = 0

    def __reduce__(self) -> tuple[type[Copies], tuple[()]]:
        return Copies, ()

    def append(self, chunks: Iterable[bytes], name: str) -> tuple[int, int]:
        """Add a file at the end; where it begins, and how many bytes it has.

        Raises:
            EncodaxError: the file cannot be read, or the disk is full.
        """
        begin = self.size
        for chunk in chunks:
            self._write(chunk, name)
        return begin, self.size - begin

    def read(self, begin: int, size: int) -> bytes:
        """So many bytes from there on."""
        return os.pread(self.descriptor.number, size, begin)

    def _write(self, chunk: bytes, name: str) -> None:
        place = tempfile.gettempdir()
        try:
            while chunk:  # a disk that gets full takes a part first
                written = os.pwrite(self.descriptor.number, chunk, self.size)
                chunk = chunk[written:]
                self.size += written
                if self.size - written < LARGE_COPY <= self.size:
                    size = f"{LARGE_COPY >> 30} GiB"
                    logger.warning("what is unpacked into %s has more than %s", place, size)
        except OSError as error:
            raise EncodaxError(
                f"{name} cannot be unpacked into {place}: {error.strerror}; "
                "set TMPDIR to a folder on a larger disk"
            ) from error


class Bytes:
    """The bytes of a file, at any place."""

    path: str
    size: int

    def read(self, begin: int, size: int) -> bytes:
        """So many bytes from there on, or less at the end.

        Raises:
            EncodaxError: the file has changed since it was opened, or cannot be read.
        """
        raise NotImplementedError

    def stream(self) -> io.BufferedReader:
        """All bytes in order; others may read at the same time."""
        return io.BufferedReader(_Stream(self), CHUNK)

    def sha256(self) -> str:
        """The digest of the file as it lies there, packed if it is; of a pipe, of what came.

        Raises:
            EncodaxError: the file has changed since it was opened, or cannot be read.
        """
        return hashlib.file_digest(self.stream(), "sha256").hexdigest()


class FileBytes(Bytes):
    """Of a plain file."""

    def __init__(self, path: str, open_files: OpenFiles):
        self.path, self._open_files = path, open_files
        self.stamp = stamp_of(path)
        self.size = self.stamp[0]

    def read(self, begin: int, size: int) -> bytes:
        """See `Bytes`."""
        file = self._open_files.descriptor(self.path)
        try:
            content = os.pread(file.number, size, begin)
            state = os.fstat(file.number)
        except OSError as error:
            raise EncodaxError(f"{self.path} cannot be read: {error.strerror}") from error
        check_unchanged(self.path, self.stamp, _stamp(state))
        return content


class UnpackedBytes(Bytes):
    """Of what gzip has packed in a file, or of what came through a pipe or standard input."""

    def __init__(
        self, path: str, copies: Copies, stamp: Stamp | None = None, *, has_lines: bool = True
    ):
        self.path, self._copies, self._has_lines = path, copies, has_lines
        self._stamp = None if formats.is_stream(path) else stamp_of(path)
        if stamp and self._stamp:
            check_unchanged(path, stamp, self._stamp)
        with sources.opened(path) as stream:
            name = formats.name_of(path)
            chunks = documents.chunks_of(stream, name)
            if has_lines:
                chunks = formats.of_short_lines(chunks, name)
            self._begin, self.size = copies.append(chunks, name)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._stamp is None:
            name = formats.name_of(self.path)
            raise EncodaxError(f"{name} cannot be read by several processes; write it to a file")
        again = functools.partial(UnpackedBytes, has_lines=self._has_lines)
        return again, (self.path, self._copies, self._stamp)

    def sha256(self) -> str:
        """See `Bytes`."""
        if self._stamp is None:
            return super().sha256()
        try:
            with open(self.path, "rb") as packed:
                found = hashlib.file_digest(packed, "sha256").hexdigest()
        except OSError as error:
            raise EncodaxError(f"{self.path} cannot be read: {error.strerror}") from error
        check_unchanged(self.path, self._stamp, stamp_of(self.path))
        return found

    def read(self, begin: int, size: int) -> bytes:
        """See `Bytes`."""
        return self._copies.read(self._begin + begin, min(size, self.size - begin))


class RecordLines(Bytes):
    """The records of a JSON document, a line each, as `documents.as_lines` makes them."""

    def __init__(self, document: Bytes, copies: Copies):
        self.path, self._document, self._copies = document.path, document, copies
        name = formats.name_of(self.path)
        lines = documents.as_lines(documents.chunks_of(document.stream(), name), name)
        self._begin, self.size = copies.append(lines, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordLines, (self._document, self._copies)

    def read(self, begin: int, size: int) -> bytes:
        """See `Bytes`."""
        return self._copies.read(self._begin + begin, min(size, self.size - begin))


class _Stream(io.RawIOBase):
    """What Python reads lines from, with a place of its own."""

    def __init__(self, source: Bytes):
        self._source, self._place = source, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
