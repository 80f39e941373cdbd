"""Records from JSON Lines, CSV, TSV and text files, plain or gzip, and from Parquet."""

from __future__ import annotations

import gzip
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.data import formats, parquet
from encodax.errors import EncodaxError


@dataclass(frozen=True)
class Record:
    """One record of a source, and where it came from, for errors."""

    fields: dict[str, Any]
    where: str
    """Such as `train.jsonl, line 3`, or `train.parquet, row 3`."""


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
    name = formats.name_of(path)
    with opened(path) as stream:
        lines = formats.utf8_lines(stream, name)
        if format is None and str(path) == "-":
            first = list(itertools.islice(lines, 1))
            lines = itertools.chain(first, lines)
            format = formats.of_first_line("".join(first))
        format = formats.chosen(path, format, columns)
        if format == "parquet":
            found = parquet.records(str(path))
        else:
            found = formats.records(formats.FORMATS[format], lines, name, columns)
        for fields, where in found:
            yield Record(fields, where)


def records_of(fields: Iterable[dict[str, Any]], *, name: str = "example") -> Iterator[Record]:
    """Records from dictionaries in memory; errors call them `name` and their index."""
    for index, item in enumerate(fields):
        yield Record(item, f"{name} {index}")


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """The bytes of a file, of what is in a .gz file, or of standard input.

    Raises:
        EncodaxError: there is no such file, or it may not be read.
    """
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise EncodaxError(f"{path} {what}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file


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
