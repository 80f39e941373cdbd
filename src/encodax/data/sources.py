"""Records from JSON Lines, CSV, TSV and text files, plain or gzip, and from Parquet."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError


@dataclass(frozen=True)
class Record:
    """One record of a source, and where it came from, for errors."""

    fields: dict[str, Any]
    where: str
    """Such as `train.jsonl, line 3`."""


def read(
    path: Path | str, *, columns: Sequence[str] | None = None, format: str | None = None
) -> Iterator[Record]:
    """Read the records of a file, one at a time.

    Args:
        path: a file whose ending tells its format: .jsonl, .csv, .tsv or .txt, each also with
            .gz, or .parquet; or `-` for standard input (JSON Lines if its first line is a JSON
            object, else a text a line).
        columns: names of the columns of a CSV or TSV file that has no header line.
        format: `jsonl`, `csv`, `tsv`, `txt` or `parquet`, whatever the ending says.

    Raises:
        EncodaxError: the file is missing, of an unknown format, not UTF-8, or has a line that
            cannot be read; the line's number is named.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if (format or format_of(path)) == "parquet":
        check_format(name, "parquet", columns)
        yield from _parquet_records(str(path))
        return
    with opened(path) as stream:
        lines = utf8_lines(stream, name)
        if format is None and str(path) == "-":
            first = next(lines, "")
            lines = _chain(first, lines)
            format = "jsonl" if first.lstrip().startswith("{") else "txt"
        format = format or format_of(path)
        check_format(name, format, columns)
        yield from READERS[format](lines, name, columns, 1)


def records_of(fields: Iterable[dict[str, Any]], *, name: str = "example") -> Iterator[Record]:
    """Records from dictionaries in memory; errors call them `name` and their index."""
    for index, item in enumerate(fields):
        yield Record(item, f"{name} {index}")


def check_format(name: str, format: str, columns: Sequence[str] | None) -> None:
    """Refuse a format that is not known, or whose records name their fields themselves.

    Raises:
        EncodaxError: names the file and the format.
    """
    if columns and format not in ("csv", "tsv"):
        raise EncodaxError(f"{name}: --columns goes with CSV and TSV, not with {format}")
    if format not in (*READERS, "parquet"):
        known = ", ".join((*READERS, "parquet"))
        raise EncodaxError(f"{name}: format {format!r} is not one of: {known}")


def format_of(path: Path | str) -> str:
    """The format that a file's ending tells."""
    suffixes = Path(path).suffixes
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else Path(path).suffix
    return {".ndjson": "jsonl", ".json": "jsonl"}.get(ending, ending.removeprefix("."))


def parquet_file(path: str) -> Any:
    """A Parquet file, opened with pyarrow.

    Raises:
        EncodaxError: there is none, it is damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EncodaxError(
            f"{path}: reading Parquet needs pyarrow: pip install 'encodax[parquet]'"
        ) from error
    if not Path(path).is_file():
        raise EncodaxError(f"{path} does not exist")
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise EncodaxError(f"{path}: cannot be read: {error}") from error


def _parquet_records(path: str) -> Iterator[Record]:
    parts = parquet_file(path).iter_batches(1024)
    rows = (fields for part in parts for fields in part.to_pylist())
    for number, fields in enumerate(rows, 1):
        yield Record(fields, f"{path}, row {number}")


@contextmanager
def opened(path: Path | str) -> Iterator[Iterable[bytes]]:
    """The bytes of a file or of standard input, unpacked; as lines, or to be read.

    Raises:
        EncodaxError: there is no such file.
    """
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise EncodaxError(f"{path} {what}")
    with path.open("rb") as file:
        yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file


def utf8_lines(stream: Iterable[bytes], name: str, first: int = 1) -> Iterator[str]:
    """Lines with their ends, decoded one by one, so that a bad one can be named.

    Args:
        stream: lines of bytes.
        name: of the file.
        first: number of the first of these lines in it.

    Raises:
        EncodaxError: a line is not UTF-8, or cannot be read.
    """
    number = first - 1
    try:
        for number, line in enumerate(stream, first):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise EncodaxError(
            f"{name}, line {number}: not UTF-8; convert the file, as in: "
            f"iconv -f latin1 -t utf-8 {name}"
        ) from None
    except (EOFError, OSError, zlib.error) as error:
        raise EncodaxError(f"{name}, after line {number}: cannot be read: {error}") from error


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _json_lines(
    lines: Iterator[str], name: str, _: Sequence[str] | None, first: int
) -> Iterator[Record]:
    for number, line in enumerate(lines, first):
        where = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise EncodaxError(
                f"{where}: not JSON ({error.msg}, column {error.colno}); "
                "write one JSON object a line"
            ) from None
        except (ValueError, RecursionError) as error:  # a number too long, too deep a list
            raise EncodaxError(f"{where}: cannot be read: {error}") from None
        if not isinstance(fields, dict):
            kind = type(fields).__name__
            raise EncodaxError(f'{where}: wants an object such as {{"text": "..."}}, not a {kind}')
        yield Record(fields, where)


def _texts(
    lines: Iterator[str], name: str, _: Sequence[str] | None, first: int
) -> Iterator[Record]:
    for number, line in enumerate(lines, first):
        yield Record({"text": line.rstrip("\r\n")}, f"{name}, line {number}")


def _table(dialect: dict[str, Any]) -> Callable[..., Iterator[Record]]:
    def read_table(
        lines: Iterator[str], name: str, columns: Sequence[str] | None, first: int
    ) -> Iterator[Record]:
        csv.field_size_limit(2**31 - 1)  # the default refuses a cell of 128 KiB
        reader = csv.reader(lines, strict=True, **dialect)
        while True:
            where = f"{name}, line {first + reader.line_num}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise EncodaxError(f"{where}: cannot be read: {error}") from None
            if cells is None:
                return
            if not cells:
                continue
            if columns is None:
                columns = cells
                if len(set(columns)) < len(columns):
                    raise EncodaxError(f"{where}: two columns have one name: {', '.join(columns)}")
                continue
            if len(cells) != len(columns):
                raise EncodaxError(
                    f"{where}: has {len(cells)} columns where {len(columns)} are named "
                    f"({', '.join(columns)}); is a header line missing? then name --columns"
                )
            yield Record(dict(zip(columns, cells, strict=True)), where)

    return read_table


Reader = Callable[[Iterator[str], str, Sequence[str] | None, int], Iterator[Record]]
"""(lines, name of the file, names of columns, number of the first line) -> records."""

READERS: dict[str, Reader] = {
    "jsonl": _json_lines,
    "csv": _table({"delimiter": ","}),
    # A tab-separated file has no quoting: a quotation mark is a character as any other.
    "tsv": _table({"delimiter": "\t", "quoting": csv.QUOTE_NONE}),
    "txt": _texts,
}
"""Readers by format."""


@contextmanager
def open_output(path: Path | str, *, binary: bool = False) -> Iterator[Any]:
    """A file to write to, or standard output for `-`; a file is there whole or not at all.

    What is no plain file, such as a pipe or /dev/null, is written to as it is.
    """
    if str(path) == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    place = Path(os.path.realpath(path))  # a link stays a link
    is_plain = place.is_file() or not place.exists()
    partial = place.with_name(place.name + ".partial") if is_plain else place
    try:
        with partial.open("wb") if binary else partial.open("w", encoding="utf-8") as stream:
            yield stream
        if is_plain:
            partial.replace(place)
    except OSError as error:
        raise EncodaxError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if is_plain:
            with suppress(OSError):
                partial.unlink()
