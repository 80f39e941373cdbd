"""Records from JSON Lines, CSV, TSV and text files, plain or gzip, and from Parquet."""

from __future__ import annotations

import gzip
import itertools
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.data import formats, parquet
from encodax.errors import EncodaxError

GZIP = b"\x1f\x8b"
"""How what gzip has packed begins."""


@dataclass(frozen=True)
class Record:
    """One record of a source, and where it came from, for errors."""

    fields: Mapping[str, Any]
    where: str
    """Such as `train.jsonl, line 3`, or `train.parquet, row 3`."""


def read(
    path: Path | str, *, columns: Sequence[str] | None = None, format: str | None = None
) -> Iterator[Record]:
    """Read the records of a file, one at a time.

    Args:
        path: a file whose ending tells its format: .jsonl, .csv, .tsv or .txt, each also packed
            by gzip, or .parquet; or `-` for standard input, or a pipe (JSON Lines if the first line
            is a JSON object, else a text a line).
        columns: names of the columns of a CSV or TSV file that has no header line.
        format: `jsonl`, `csv`, `tsv`, `txt` or `parquet`, whatever the ending says.

    Raises:
        EncodaxError: the file is missing, of an unknown format, not UTF-8, or has a line that
            cannot be read; the line's number is named.
    """
    name = formats.name_of(path)
    with opened(path) as stream:
        is_told = format is not None or not formats.has_no_name(path)
        own = formats.chosen(path, format, columns) if is_told else None
        if own == "parquet":
            found: Iterator[tuple[Mapping[str, Any], str]] = parquet.records(str(path))
        else:
            lines = formats.utf8_lines(stream, name)
            start = list(itertools.islice(lines, 1))
            first = "".join(start)
            own = own or formats.chosen(path, formats.of_first_line(first), columns)
            form = formats.FORMS[formats.form_of(own, first, columns)]
            found = formats.records(form, itertools.chain(start, lines), name, columns)
        for fields, where in found:
            yield Record(fields, where)


def records_of(fields: Iterable[dict[str, Any]], *, name: str = "example") -> Iterator[Record]:
    """Records from dictionaries in memory; errors call them `name` and their index."""
    for index, item in enumerate(fields):
        yield Record(item, f"{name} {index}")


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """The bytes of a file, of a pipe or of standard input, and of what gzip has packed there.

    Raises:
        EncodaxError: there is no such file, or it may not be read.
    """
    if str(path) == "-":
        yield _unpacked(sys.stdin.buffer)
        return
    path = Path(path)
    formats.check_readable(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else _unpacked(file)


def _unpacked(stream: Any) -> Any:
    """What is in a stream that begins as gzip does, whatever it is called; others as they are."""
    return gzip.GzipFile(fileobj=stream) if _is_gzip(stream) else stream


def _is_gzip(stream: Any) -> bool:
    begin = stream.peek(2)[:2] if hasattr(stream, "peek") else b""
    return bool(begin == GZIP)


def is_packed(path: Path | str) -> bool:
    """Whether a file is to be unpacked: by its name, or by how it begins."""
    if Path(path).suffix == ".gz":
        return True
    try:
        with Path(path).open("rb") as file:
            return _is_gzip(file)
    except OSError:
        return False  # whoever reads it says so


@contextmanager
def open_output(
    path: Path | str,
    *,
    binary: bool = False,
    unit: str = "line",
    count: Callable[[], int] | None = None,
) -> Iterator[Any]:
    """A file to write to, or standard output for `-`; a file is there whole or not at all.

    Where the work ends early, what was written until then is kept beside the file, as
    FILE.partial, and the error says so. What is no plain file, such as a pipe or /dev/null, is
    written to as it is.

    Args:
        path: the file.
        binary: whether bytes are written.
        unit: what the error counts.
        count: how many of these are written; None for the lines of the file.
    """
    if str(path) == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    place = Path(os.path.realpath(path))  # a link stays a link
    is_plain = place.is_file() or not place.exists()
    stage = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial") if is_plain else place
    try:
        try:
            with stage.open("wb") if binary else stage.open("w", encoding="utf-8") as stream:
                yield stream
        except (EncodaxError, KeyboardInterrupt) as error:
            size = stage.stat().st_size if count is None else count()
            if is_plain and size:
                kept = partial_of(path)
                written = _count_of_lines(stage) if count is None else size
                stage.replace(os.path.realpath(kept))
                error.add_note(note_of_partial(written, unit, kept))
            raise
        if is_plain:
            stage.replace(place)
    except OSError as error:
        raise EncodaxError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if is_plain:
            with suppress(OSError):
                stage.unlink()


def check_output(path: Path | str) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        EncodaxError: it is a folder, or the folder it is to be in is missing or read-only.
    """
    if str(path) == "-":
        return
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise EncodaxError(f"{path} is a folder: name a file in it")
    if not place.parent.is_dir():
        raise EncodaxError(f"{path} cannot be written: there is no folder {place.parent}; make it")
    changed = place.parent if place.is_file() or not place.exists() else place
    if not os.access(changed, os.W_OK):
        raise EncodaxError(f"{path} cannot be written: {changed} is read-only here")


def partial_of(path: Path | str) -> str:
    """A free name beside a file, for the part of it that is finished: FILE.partial, or with a 2."""
    names = (f"{path}.partial{number}" for number in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def note_of_partial(count: int, unit: str, path: str) -> str:
    """What an error adds where work has ended early."""
    what = f"the {count:,} {unit}s that come" if count != 1 else f"the one {unit} that comes"
    return f"{what} before it {'are' if count != 1 else 'is'} kept in {path}"


def _count_of_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
