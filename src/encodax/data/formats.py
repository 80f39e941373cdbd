"""Formats of text files: which lines make a record, and what is in it."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError

Fields = dict[str, Any]
"""What is in a record, by name."""


@dataclass(frozen=True)
class Format:
    """How lines become records. A row is what a record is made of: a line, or cells."""

    rows: Callable[[Iterator[str], str, int], Iterator[tuple[int, Any]]]
    """Lines, the file's name and the number of the first of the lines; to rows that are not blank,
    each with the number of its first line."""
    fields: Callable[[Any, Sequence[str], str], Fields]
    """A row, the names of columns and where it stands; to what is in it."""
    a_record_a_line: bool = True
    may_be_blank: bool = True
    """Some lines are no row."""
    has_columns: bool = False
    """They are named by the first row, unless the caller names them."""


def records(
    format: Format, lines: Iterator[str], name: str, columns: Sequence[str] | None
) -> Iterator[tuple[Fields, str]]:
    """What is in each record, and where it stands, such as `train.jsonl, line 3`.

    Raises:
        EncodaxError: a line cannot be read; its number is named.
    """
    rows = format.rows(lines, name, 1)
    if format.has_columns and columns is None:
        columns = next((header(row, f"{name}, line {number}") for number, row in rows), ())
    for number, row in rows:
        where = f"{name}, line {number}"
        yield format.fields(row, columns or (), where), where


def utf8_lines(stream: Iterable[bytes], name: str, first: int = 1) -> Iterator[str]:
    """Lines with their ends, decoded one by one, so that a bad one can be named.

    Raises:
        EncodaxError: a line is not UTF-8, or the stream breaks off.
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
        raise unreadable(name, number, error) from error


def unreadable(name: str, number: int, error: Exception) -> EncodaxError:
    """The error of a file that breaks off after a line."""
    return EncodaxError(f"{name}, after line {number}: cannot be read: {error}")


def name_of(path: Path | str) -> str:
    """What a file is called in errors."""
    return "standard input" if str(path) == "-" else str(path)


def chosen(path: Path | str, format: str | None, columns: Sequence[str] | None) -> str:
    """The format of a file: as it is told, or else by the file's ending.

    Raises:
        EncodaxError: it is unknown, or has no columns to name, or cannot be read from there.
    """
    name = name_of(path)
    format = format or _by_ending(path)
    if columns and format not in TABLES:
        raise EncodaxError(f"{name}: --columns goes with CSV and TSV, not with {format}")
    if format not in NAMES:
        raise EncodaxError(f"{name}: format {format!r} is not one of: {', '.join(NAMES)}")
    if format == "parquet" and (str(path) == "-" or Path(path).suffix == ".gz"):
        raise EncodaxError(
            f"{name}: Parquet is read from a file that is not packed: it is compressed in itself"
        )
    return format


def is_known(path: Path | str) -> bool:
    """Whether the ending of a file tells a format."""
    return _by_ending(path) in NAMES


def of_first_line(line: str) -> str:
    """The format of what has no name: JSON Lines if it begins as an object, or a text a line."""
    return "jsonl" if line.lstrip().startswith("{") else "txt"


def _by_ending(path: Path | str) -> str:
    suffixes = Path(path).suffixes
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else Path(path).suffix
    return {".ndjson": "jsonl", ".json": "jsonl"}.get(ending, ending.removeprefix("."))


def header(cells: Sequence[str], where: str) -> Sequence[str]:
    """The names of columns, from the row that has them.

    Raises:
        EncodaxError: two have one name.
    """
    if len(set(cells)) < len(cells):
        raise EncodaxError(f"{where}: two columns have one name: {', '.join(cells)}")
    return cells


def _lines(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, str]]:
    return enumerate(lines, first)


def _filled_lines(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, first) if line.strip())


def _cells(**dialect: Any) -> Callable[[Iterator[str], str, int], Iterator[tuple[int, list[str]]]]:
    def rows(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(2**31 - 1)  # the default refuses a cell of 128 KiB
        reader = csv.reader(lines, strict=True, **dialect)
        while True:
            number = first + reader.line_num
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise EncodaxError(f"{name}, line {number}: cannot be read: {error}") from None
            if cells is None:
                return
            if cells:
                yield number, cells

    return rows


def _object(line: str, _: Sequence[str], where: str) -> Fields:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise EncodaxError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); write one JSON object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # a number too long, too deep a list
        raise EncodaxError(f"{where}: cannot be read: {error}") from None
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise EncodaxError(f'{where}: wants an object such as {{"text": "..."}}, not a {kind}')
    return fields


def _text(line: str, _: Sequence[str], where: str) -> Fields:
    return {"text": line.rstrip("\r\n")}


def _by_column(cells: Sequence[str], columns: Sequence[str], where: str) -> Fields:
    if len(cells) != len(columns):
        raise EncodaxError(
            f"{where}: has {len(cells)} columns where {len(columns)} are named "
            f"({', '.join(columns)}); is a header line missing? then name --columns"
        )
    return dict(zip(columns, cells, strict=True))


FORMATS: dict[str, Format] = {
    "jsonl": Format(_filled_lines, _object),
    "csv": Format(_cells(delimiter=","), _by_column, a_record_a_line=False, has_columns=True),
    # A tab-separated file has no quoting: a quotation mark is a character as any other.
    "tsv": Format(_cells(delimiter="\t", quoting=csv.QUOTE_NONE), _by_column, has_columns=True),
    "txt": Format(_lines, _text, may_be_blank=False),
}
"""Formats of text, by name."""
TABLES = tuple(name for name, format in FORMATS.items() if format.has_columns)
NAMES = (*FORMATS, "parquet")
"""All formats that a file may have."""
