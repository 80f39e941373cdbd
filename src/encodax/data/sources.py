"""Records from JSON Lines, CSV, TSV and text files, plain or gzip."""

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
            .gz; or `-` for standard input (JSON Lines if its first line is a JSON object, else
            a text a line).
        columns: names of the columns of a CSV or TSV file that has no header line.
        format: `jsonl`, `csv`, `tsv` or `txt`, whatever the ending says.

    Raises:
        EncodaxError: the file is missing, of an unknown format, not UTF-8, or has a line that
            cannot be read; the line's number is named.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with _open(path) as stream:
        lines = _utf8_lines(stream, name)
        if format is None and str(path) == "-":
            first = next(lines, "")
            lines = _chain(first, lines)
            format = "jsonl" if first.lstrip().startswith("{") else "txt"
        format = format or _format_of(path)
        if columns and format not in ("csv", "tsv"):
            raise EncodaxError(f"{name}: --columns goes with CSV and TSV, not with {format}")
        if format not in READERS:
            raise EncodaxError(f"{name}: format {format!r} is not one of: {', '.join(READERS)}")
        yield from READERS[format](lines, name, columns)


def records_of(fields: Iterable[dict[str, Any]], *, name: str = "example") -> Iterator[Record]:
    """Records from dictionaries in memory; errors call them `name` and their index."""
    for index, item in enumerate(fields):
        yield Record(item, f"{name} {index}")


def _format_of(path: Path | str) -> str:
    suffixes = Path(path).suffixes
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else Path(path).suffix
    return {".ndjson": "jsonl", ".json": "jsonl"}.get(ending, ending.removeprefix("."))


@contextmanager
def _open(path: Path | str) -> Iterator[Iterable[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise EncodaxError(f"{path} {what}")
    with path.open("rb") as file:
        yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file


def _utf8_lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines with their ends, decoded one by one, so that a bad one can be named."""
    number = 0
    try:
        for number, line in enumerate(stream, 1):
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


def _json_lines(lines: Iterator[str], name: str, _: Sequence[str] | None) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
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


def _texts(lines: Iterator[str], name: str, _: Sequence[str] | None) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        yield Record({"text": line.rstrip("\r\n")}, f"{name}, line {number}")


def _table(dialect: dict[str, Any]) -> Callable[..., Iterator[Record]]:
    def read_table(
        lines: Iterator[str], name: str, columns: Sequence[str] | None
    ) -> Iterator[Record]:
        csv.field_size_limit(2**31 - 1)  # the default refuses a cell of 128 KiB
        reader = csv.reader(lines, strict=True, **dialect)
        while True:
            where = f"{name}, line {reader.line_num + 1}"
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


READERS: dict[str, Callable[[Iterator[str], str, Sequence[str] | None], Iterator[Record]]] = {
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
