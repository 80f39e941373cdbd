"""Random access to the records of files that need not fit in memory.

A file is read through once. Only the position of each record is kept, in 8 bytes; the record is
read and parsed when it is accessed, by the same code as `sources.read` uses.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from encodax.data import documents, formats, line_index, parquet, sources
from encodax.data.files import (
    ByteSource,
    Copies,
    FileBytes,
    OpenFiles,
    Paths,
    RecordLines,
    UnpackedBytes,
    check_unchanged,
    expanded,
    stamp_of,
)
from encodax.data.formats import Columns
from encodax.data.sources import Record
from encodax.errors import EncodaxError

__all__ = ["Paths", "Records", "expanded", "open_records"]

EDGE = 1 << 20
"""Number of bytes at each end of a file that a fingerprint covers."""


def open_records(
    paths: Paths, *, columns: Columns | None = None, format: str | None = None
) -> Records:
    """Return the records of one file, or of several as one sequence.

    Args:
        paths: a file, a folder of files, a pattern such as `texts/*.jsonl`, or a list of these; `-`
            for standard input, or a pipe (see `sources.read`).
        columns: names of the columns of tables without a header line; or, for any files, new names
            of fields, with their names in the file: `{"text": "content"}`.
        format: format of all files, where their names do not tell it.

    Raises:
        EncodaxError: there is no such file, it cannot be read, or it has no record.
    """
    columns, renamed = formats.named_and_renamed(columns)
    open_ = _opener(columns, format)
    files = [open_(path) for path in expanded(paths, format=format)]
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    folders = [str(path) for path in given if os.path.isdir(path)]
    return Records(files, folders, renamed)


class Records(Sequence[Record]):
    """Records of several files as one sequence.

    Threads may share it. It is pickled as the paths and an index of the files: the other process
    reads the same files, and unpacks compressed ones again.
    """

    def __init__(
        self,
        files: Sequence[_File],
        folders: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
    ):
        """Concatenate files.

        Args:
            files: the files.
            folders: folders that were given.
            renamed: new names of fields, with their names in the files.
        """
        self._files, self._folders, self._renamed = files, folders, renamed or {}
        self._ends = list(itertools.accumulate(map(len, files)))

    @property
    def paths(self) -> list[str]:
        """Paths of the folders that were given, and of all files."""
        return [*self._folders, *(file.content.path for file in self._files)]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Return the record with this index.

        Raises:
            EncodaxError: it cannot be parsed, or the file has changed since it was opened.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        number, index = _place(self._ends, range(len(self))[index])
        return sources.with_names(self._files[number].record(index), self._renamed)

    def __iter__(self) -> Iterator[Record]:
        """Iterate over all records in order, faster than by their indices."""
        for file in self._files:
            for record in file:
                yield sources.with_names(record, self._renamed)

    @property
    def names(self) -> list[str]:
        """Names of the files in messages."""
        return [formats.name_of(file.content.path) for file in self._files]

    def described(self) -> list[dict[str, Any]]:
        """Return the path of each file, the sha256 of its bytes, and its number of rows.

        Raises:
            EncodaxError: a file has changed since it was opened, or cannot be read.
        """
        return [
            {"path": name, "sha256": file.sha256, "rows": len(file)}
            for name, file in zip(self.names, self._files, strict=True)
        ]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Short digest, equal for equal data.

        For each file, in order, it covers: the name without its folder, the format, the names of
        columns, the number of bytes, the position of each record, and the first and the last MiB;
        and the new names of fields.
        """
        digest = hashlib.sha256(json.dumps(self._renamed).encode() if self._renamed else b"")
        for file in self._files:
            file.add_to(digest.update)
        return digest.hexdigest()[:16]


def _place(ends: Sequence[int], index: int) -> tuple[int, int]:
    """Return the part that holds an index, and the index in it; `ends` has the end of each part."""
    number = bisect.bisect_right(ends, index)
    return number, index - (ends[number - 1] if number else 0)


def _opener(columns: Sequence[str] | None, format: str | None) -> Callable[[str], _File]:
    """Return a function that opens files, which share file descriptors and memory."""
    open_files, row_groups = OpenFiles(), parquet.RowGroups()
    copies = functools.cache(Copies)  # created at first use

    def opened(path: str) -> _File:
        name = formats.name_of(path)
        has_format = format is not None or not formats.has_no_name(path)
        own = formats.chosen(path, format, columns) if has_format else None
        file: _File
        if own == "parquet":
            file = _ParquetFile(FileBytes(path, open_files), row_groups)
        else:
            is_copied = formats.is_stream(path) or sources.is_packed(path)
            content = (
                UnpackedBytes(path, copies(), has_lines=own != "json")
                if is_copied
                else FileBytes(path, open_files)
            )
            own = own or _guessed(content, name, columns)
            if own == "json":
                first = content.stream().readline(documents.FIRST_LINE)
                own = "json" if documents.is_document(first) else "jsonl"
            if own == "json":
                file = _Document(RecordLines(content, copies()))
            else:
                file = _TextFile(content, own, columns)
        if not len(file):
            raise EncodaxError(f"{name}: the file is empty, it has no record")
        return file

    return opened


def _guessed(content: ByteSource, name: str, columns: Sequence[str] | None) -> str:
    first = next(formats.utf8_lines(content.stream(), name), "")
    return formats.chosen(content.path, formats.of_first_line(first), columns)


class _File:
    """One file: its number of records, and access to each."""

    content: ByteSource

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Record]:
        raise NotImplementedError

    def record(self, index: int) -> Record:
        """Return the record with this index."""
        raise NotImplementedError

    @functools.cached_property
    def sha256(self) -> str:
        """Digest of the file's bytes, which are read once more for it."""
        return self.content.sha256()

    def add_to(self, digest: Callable[[Any], None]) -> None:
        """Add to a digest what a fingerprint covers."""
        size = self.content.size
        facts = [os.path.basename(self.content.path), size, len(self), *self._facts()]
        digest(json.dumps(facts).encode())
        digest(self.content.read(0, EDGE))
        digest(self.content.read(max(size - EDGE, 0), EDGE))

    def _facts(self) -> Sequence[Any]:
        raise NotImplementedError


class _TextFile(_File):
    """Records that each begin on a new line."""

    def __init__(self, content: ByteSource, format: str, columns: Sequence[str] | None):
        self.content, self._format = content, format
        self._name = formats.name_of(content.path)
        first = next(formats.utf8_lines(content.stream(), self._name), "")
        self._form_name = formats.variant_of(format, first, columns, self._name)
        self._index = line_index.index(content, self._form, self._name)
        self._has_header = self._form.has_header and columns is None
        self._columns = columns or ()
        if self._has_header and len(self._index):
            number, cells = self._row(0)
            self._columns = formats.header(cells, f"{self._name}, line {number}")

    @property
    def _form(self) -> formats.Format:
        return formats.VARIANTS[self._form_name]

    def __len__(self) -> int:
        return max(len(self._index) - self._has_header, 0)

    def __iter__(self) -> Iterator[Record]:
        lines = formats.utf8_lines(self.content.stream(), self._name)
        columns = None if self._has_header else self._columns
        found = formats.records(self._form, lines, self._name, columns)
        return (Record(fields, where) for fields, where in found)

    def record(self, index: int) -> Record:
        number, row = self._row(index + self._has_header)
        where = f"{self._name}, line {number}"
        return Record(self._form.fields(row, self._columns, where), where)

    def _row(self, row: int) -> tuple[int, Any]:
        begin, end = self._index.begins[row], self._index.begins[row + 1]
        content = self.content.read(begin, end - begin)
        number = self._index.line(row, self.content)
        lines = formats.utf8_lines(io.BytesIO(content), self._name, number)
        return next(self._form.rows(lines, self._name, number))

    def add_to(self, digest: Callable[[Any], None]) -> None:
        super().add_to(digest)
        digest(self._index.begins)

    def _facts(self) -> Sequence[Any]:
        return self._format, list(self._columns)


class _Document(_File):
    """JSON document, through the lines that were made of its records."""

    def __init__(self, content: RecordLines):
        self.content = content
        lines = formats.FORMATS["jsonl"]
        self._begins = line_index.index(content, lines, formats.name_of(content.path)).begins

    def __len__(self) -> int:
        return len(self._begins) - 1

    def __iter__(self) -> Iterator[Record]:
        return (Record(*documents.of_line(line)) for line in self.content.stream())

    def record(self, index: int) -> Record:
        begin, end = self._begins[index], self._begins[index + 1]
        return Record(*documents.of_line(self.content.read(begin, end - begin)))

    def _facts(self) -> Sequence[Any]:
        return ("json",)


class _ParquetFile(_File):
    """Parquet file, read by row groups."""

    def __init__(self, content: FileBytes, row_groups: parquet.RowGroups):
        self.content, self._row_groups = content, row_groups
        self._stamp = content.stamp
        self._footer = parquet.footer(content.path)
        self._ends = list(itertools.accumulate(self._footer.groups))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Record]:
        self._check()
        return (Record(fields, where) for fields, where in parquet.records(self.content.path))

    def record(self, index: int) -> Record:
        self._check()  # by the path, as pyarrow opens it
        group, row = _place(self._ends, index)
        path = self.content.path
        where = parquet.where(path, index)

        def value(name: str) -> Any:
            found = self._row_groups.value(path, group, name, row)
            return parquet.plain(found, name, where, self._footer.classes.get(name))

        return Record(parquet.Row(self._footer.names, value), where)

    def _check(self) -> None:
        check_unchanged(self.content.path, self._stamp, stamp_of(self.content.path))

    def _facts(self) -> Sequence[Any]:
        return "parquet", self._ends
