"""Records of files by their number, for files that need not fit in memory.

A file is gone through once. What is kept is where each record begins; the record itself is read and
understood when it is asked for, by the same code as `sources.read` has.
"""

from __future__ import annotations

import bisect
import csv
import functools
import glob
import io
import itertools
import os
import shutil
import tempfile
import weakref
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

from encodax.data import sources
from encodax.data.sources import Record
from encodax.errors import EncodaxError

ROW_GROUPS = 4
"""Row groups of a Parquet file that stay in memory."""

Paths = Path | str | Sequence[Path | str]


def open_records(
    paths: Paths, *, columns: Sequence[str] | None = None, format: str | None = None
) -> Records:
    """The records of one file, or of several as one.

    Args:
        paths: a file, a folder of files, a pattern such as `texts/*.jsonl`, or a list of these; `-`
            for standard input (JSON Lines, unless `format` says otherwise).
        columns: names of the columns of CSV or TSV files without a header line.
        format: of all files, where their names do not tell.

    Raises:
        EncodaxError: there is no such file, or it cannot be read.
    """
    files = expanded(paths)
    return Records([_opened(file, columns, format) for file in files])


def expanded(paths: Paths) -> list[str]:
    """The files that are meant, in order: those of a folder or a pattern by name.

    Raises:
        EncodaxError: nothing is there.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    found: list[str] = []
    for path in map(str, paths):
        if path == "-" or os.path.isfile(path):
            found.append(path)
            continue
        inside = os.path.join(glob.escape(path), "*") if os.path.isdir(path) else path
        files = sorted(file for file in glob.glob(inside) if os.path.isfile(file))
        if not files:
            what = "is a folder without files" if os.path.isdir(path) else "does not exist"
            raise EncodaxError(f"{path} {what}")
        found += files
    if not found:
        raise EncodaxError("no file is given")
    return found


class Records(Sequence[Record]):
    """The records of several files as one sequence; threads may share it."""

    def __init__(self, files: Sequence[_File]):
        """Put files one after another."""
        self._files = files
        self._ends = list(itertools.accumulate(map(len, files)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """The record of that number.

        Raises:
            EncodaxError: it cannot be understood, or the file has changed since it was opened.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = bisect.bisect_right(self._ends, index)
        before = self._ends[number - 1] if number else 0
        return self._files[number].record(index - before)


class _File:
    """One file: how many records it has, and each of them."""

    def __len__(self) -> int:
        raise NotImplementedError

    def record(self, index: int) -> Record:
        """The record of that number."""
        raise NotImplementedError


def _opened(path: str, columns: Sequence[str] | None, format: str | None) -> _File:
    name = "standard input" if path == "-" else path
    format = format or ("jsonl" if path == "-" else sources.format_of(path))
    sources.check_format(name, format, columns)
    return _Parquet(path) if format == "parquet" else _Lines(path, name, format, columns)


class _Lines(_File):
    """A file of lines: JSON Lines, CSV, TSV or text, plain or gzip."""

    def __init__(self, path: str, name: str, format: str, columns: Sequence[str] | None):
        self._name, self._columns = name, columns
        self._read = sources.READERS[format]
        self._file = _plain(path, name)
        weakref.finalize(self, self._file.close)
        self._state = self._stamp()
        self._begins, self._numbers = array("Q"), array("Q")
        """Of each record, the first byte and the number of its line."""
        self._index(format)

    def _index(self, format: str) -> None:
        place, number = 0, 1
        records = _csv_records if format == "csv" else _line_records
        for lines, size, content in records(self._file, self._name):
            if format == "txt" or (content.strip() if format == "jsonl" else content):
                self._begins.append(place)
                self._numbers.append(number)
            place, number = place + size, number + lines
        self._begins.append(place)
        has_header = format in ("csv", "tsv") and self._columns is None
        if has_header and self._numbers:
            self._columns = list(self._parsed(0, columns=None, is_header=True).fields)
            del self._begins[0], self._numbers[0]

    def __len__(self) -> int:
        return len(self._numbers)

    def record(self, index: int) -> Record:
        if self._stamp() != self._state:
            raise EncodaxError(f"{self._name}: has changed since it was opened; begin again")
        return self._parsed(index, columns=self._columns)

    def _parsed(
        self, index: int, columns: Sequence[str] | None, *, is_header: bool = False
    ) -> Record:
        begin, end = self._begins[index], self._begins[index + 1]
        number = self._numbers[index]
        content = os.pread(self._file.fileno(), end - begin, begin)
        lines = sources.utf8_lines(io.BytesIO(content), self._name, number)
        if is_header:
            lines = itertools.chain(held := list(lines), held)  # the names are the first cells too
        return next(iter(self._read(iter(lines), self._name, columns, number)))

    def _stamp(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns


Piece = tuple[int, int, Any]
"""Of a record: its lines, its bytes, and what stands there, or nothing."""


def _line_records(file: IO[bytes], name: str) -> Iterator[Piece]:
    for line in file:
        yield 1, len(line), line.rstrip(b"\r\n")


def _csv_records(file: IO[bytes], name: str) -> Iterator[Piece]:
    """A record may go on over line ends, in quotes."""
    taken = [0, 0]

    def lines() -> Iterator[str]:
        for line in file:
            taken[0] += 1
            taken[1] += len(line)
            yield line.decode("utf-8", "replace")  # an error is told when the record is read

    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines(), strict=True)
    while True:
        before = tuple(taken)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise EncodaxError(f"{name}, line {before[0] + 1}: cannot be read: {error}") from None
        if cells is None:
            return
        yield taken[0] - before[0], taken[1] - before[1], cells


def _plain(path: str, name: str) -> IO[bytes]:
    """The file itself, or a copy that can be read at any place: unpacked, without a name."""
    if path != "-" and not path.endswith(".gz"):
        return open(path, "rb")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (it goes when the records do)
    try:
        with sources.opened(path) as stream:
            source: Any = stream
            shutil.copyfileobj(source, copy)
    except (EOFError, OSError, zlib.error) as error:
        copy.close()
        raise EncodaxError(f"{name}: cannot be read: {error}") from error
    copy.seek(0)
    return copy


class _Parquet(_File):
    """A Parquet file, by row groups."""

    def __init__(self, path: str):
        self._path = path
        self._file = sources.parquet_file(path)
        groups = self._file.metadata
        counts = (groups.row_group(i).num_rows for i in range(groups.num_row_groups))
        self._ends = list(itertools.accumulate(counts))
        self._group = functools.lru_cache(ROW_GROUPS)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def record(self, index: int) -> Record:
        number = bisect.bisect_right(self._ends, index)
        before = self._ends[number - 1] if number else 0
        row = self._group(number).slice(index - before, 1).to_pylist()[0]
        return Record(row, f"{self._path}, row {index + 1}")

    def _read_group(self, number: int) -> Any:
        return self._file.read_row_group(number)
