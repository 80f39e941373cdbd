"""Random access to the bytes of files, for any number of threads and of files.

A file is read directly; input that can only be read from its beginning (gzip, pipes and standard
input) is unpacked once into a temporary file. Files pickle by their paths.
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
"""Largest number of files that are open at a time."""
LARGE_COPY = 1 << 30
"""Number of bytes of a temporary file from which a note is logged."""
CHUNK = 1 << 17
"""Number of bytes that are read at a time, in order."""

logger = logging.getLogger(__name__)

Paths = Path | str | Sequence[Path | str]
"""A file, a pipe, a folder, a pattern such as `texts/*.jsonl`, or `-`; or a list of these."""
Stamp = tuple[int, int]
"""Size of a file in bytes, and the time of its last change."""


def expanded(paths: Paths, *, format: str | None = None) -> list[str]:
    """Return the files that the paths stand for, in order: those of a folder or a pattern by name.

    In a folder and its subfolders, each file counts that has a known ending and whose name does not
    begin with `.` or `_`. `**` in a pattern stands for any number of folders.

    Args:
        paths: see `Paths`.
        format: format of the files; where it is given, a folder's files count whatever their
            endings.

    Raises:
        EncodaxError: there is no file, or a file is given twice.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        found += _meant(str(path), format)
    if not found:
        raise EncodaxError("no file is given: name at least one")
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
            raise EncodaxError(f"{path} is a folder with no files that end in {endings}")
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
    """Return a stamp, which differs when a file has changed.

    Raises:
        EncodaxError: there is no such file.
    """
    try:
        return _stamp(os.stat(path))
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error


def check_unchanged(path: str, stamp: Stamp, now: Stamp) -> None:
    """Refuse a file that has changed since it was indexed.

    Raises:
        EncodaxError: it has changed.
    """
    if now != stamp:
        raise EncodaxError(f"{path} has changed since it was opened; start again")


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_size, state.st_mtime_ns


class Descriptor:
    """File descriptor closed with its last reference: another thread may still read the file."""

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
    """Cache of open files, the most recently read; another process opens them again."""

    def __init__(self) -> None:
        self.descriptor = functools.lru_cache(OPEN_FILES)(Descriptor.of)

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        return OpenFiles, ()


class Copies:
    """Single temporary file without a name, for everything that has to be unpacked."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.descriptor = Descriptor(os.dup(file.fileno()))
        self.size = 0

    def __reduce__(self) -> tuple[type[Copies], tuple[()]]:
        return Copies, ()

    def append(self, chunks: Iterable[bytes], name: str) -> tuple[int, int]:
        """Append a file; return its position, and its number of bytes.

        Raises:
            EncodaxError: the file cannot be read, or the disk is full.
        """
        begin = self.size
        for chunk in chunks:
            self._write(chunk, name)
        return begin, self.size - begin

    def read(self, begin: int, size: int) -> bytes:
        """Return `size` bytes from the position `begin`."""
        return os.pread(self.descriptor.number, size, begin)

    def _write(self, chunk: bytes, name: str) -> None:
        place = tempfile.gettempdir()
        try:
            while chunk:  # a disk that fills up takes a part first
                written = os.pwrite(self.descriptor.number, chunk, self.size)
                chunk = chunk[written:]
                self.size += written
                if self.size - written < LARGE_COPY <= self.size:
                    size = f"{LARGE_COPY >> 30} GiB"
                    logger.warning("the unpacked copy in %s is larger than %s", place, size)
        except OSError as error:
            raise EncodaxError(
                f"{name} cannot be unpacked into {place}: {error.strerror}; "
                "set TMPDIR to a folder on a larger disk"
            ) from error


class ByteSource:
    """Bytes of a file, at any position."""

    path: str
    size: int

    def read(self, begin: int, size: int) -> bytes:
        """Return `size` bytes from the position `begin`, or fewer at the end.

        Raises:
            EncodaxError: the file has changed since it was opened, or cannot be read.
        """
        raise NotImplementedError

    def stream(self) -> io.BufferedReader:
        """Return a stream of all bytes in order; others may read at the same time."""
        return io.BufferedReader(_Stream(self), CHUNK)

    def sha256(self) -> str:
        """Return the digest of the file as stored, compressed or not; of a pipe, of what came.

        Raises:
            EncodaxError: the file has changed since it was opened, or cannot be read.
        """
        return hashlib.file_digest(self.stream(), "sha256").hexdigest()


class FileBytes(ByteSource):
    """Bytes of a plain file."""

    def __init__(self, path: str, open_files: OpenFiles):
        self.path, self._open_files = path, open_files
        self.stamp = stamp_of(path)
        self.size = self.stamp[0]

    def read(self, begin: int, size: int) -> bytes:
        """Return bytes from a position; see `ByteSource`."""
        file = self._open_files.descriptor(self.path)
        try:
            content = os.pread(file.number, size, begin)
            state = os.fstat(file.number)
        except OSError as error:
            raise EncodaxError(f"{self.path} cannot be read: {error.strerror}") from error
        check_unchanged(self.path, self.stamp, _stamp(state))
        return content


class UnpackedBytes(ByteSource):
    """Bytes unpacked from a gzip file, or received through a pipe or standard input."""

    def __init__(
        self, path: str, copies: Copies, stamp: Stamp | None = None, *, has_lines: bool = True
    ):
        self.path, self._copies, self._has_lines = path, copies, has_lines
        self._stamp = None if formats.is_stream(path) else stamp_of(path)
        if stamp and self._stamp:
            check_unchanged(path, stamp, self._stamp)
        with sources.open_input(path) as stream:
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
        """Return the digest of the file as stored; see `ByteSource`."""
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
        """Return bytes from a position; see `ByteSource`."""
        return self._copies.read(self._begin + begin, min(size, self.size - begin))


class RecordLines(ByteSource):
    """Records of a JSON document, one on each line, as `documents.as_lines` writes them."""

    def __init__(self, document: ByteSource, copies: Copies):
        self.path, self._document, self._copies = document.path, document, copies
        name = formats.name_of(self.path)
        lines = documents.as_lines(documents.chunks_of(document.stream(), name), name)
        self._begin, self.size = copies.append(lines, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordLines, (self._document, self._copies)

    def read(self, begin: int, size: int) -> bytes:
        """Return bytes from a position; see `ByteSource`."""
        return self._copies.read(self._begin + begin, min(size, self.size - begin))


class _Stream(io.RawIOBase):
    """Raw stream over `ByteSource`, with its own position, from which Python reads lines."""

    def __init__(self, source: ByteSource):
        self._source, self._place = source, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
