"""Records of files of any format, read in order, and output files that are written whole."""

from __future__ import annotations

import gzip
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.data import documents, formats, parquet
from encodax.data.formats import Columns
from encodax.errors import EncodaxError
from encodax.storage import outputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """Record of a source, and its place in it, for error messages."""

    fields: Mapping[str, Any]
    where: str
    """Place of the record, such as `train.jsonl, line 3`, or `train.parquet, row 3`."""


def read(
    path: Path | str, *, columns: Columns | None = None, format: str | None = None
) -> Iterator[Record]:
    """Read the records of a file, one at a time.

    Args:
        path: a file whose ending gives its format: .jsonl, .json, .csv, .tsv, .txt, .conll or
            .conllu, each also compressed by gzip, or .parquet; or `-` for standard input, or a
            pipe (JSON if the first line is, or begins, a JSON object, else one text on each line).
        columns: names of the columns of a table without a header line; or, for any file, new names
            of fields, with their names in the file: `{"text": "content"}`.
        format: a name in `formats.NAMES`, whatever the ending is.

    Raises:
        EncodaxError: the file is missing, of an unknown format, not UTF-8, or has a line that
            cannot be read; the message gives the line's number.
    """
    columns, renamed = formats.named_and_renamed(columns)
    with open_input(path) as stream:
        has_format = format is not None or not formats.has_no_name(path)
        own = formats.chosen(path, format, columns) if has_format else None
        if own == "parquet":
            found: Iterator[tuple[Mapping[str, Any], str]] = parquet.records(str(path))
        else:
            found = _of_text(stream, path, own, columns)
        try:
            for fields, where in found:
                yield with_names(Record(fields, where), renamed)
        except EncodaxError as error:
            if not has_format and "not JSON" in str(error):
                error.add_note(
                    f"{formats.name_of(path)} is read as JSON Lines, because it starts like an "
                    "object; for one text a line: --format txt (format=)"
                )
            raise


def _of_text(
    stream: Any, path: Path | str, format: str | None, columns: Sequence[str] | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Return the fields of each record of a text file, and its place."""
    name, head = formats.name_of(path), b""
    if format == "json":
        head = stream.readline(documents.FIRST_LINE)
        if documents.is_document(head):
            rest = documents.chunks_of(stream, name)
            return documents.records(itertools.chain([head] if head else [], rest), name)
        format = "jsonl"
    lines = itertools.chain(
        formats.utf8_lines([head] if head else [], name),
        formats.utf8_lines(stream, name, 2 if head else 1),
    )
    start = list(itertools.islice(lines, 1))
    first = "".join(start)
    format = format or formats.chosen(path, formats.of_first_line(first), columns)
    if format == "json":
        rest = documents.chunks_of(stream, name)
        return documents.records(itertools.chain([first.encode()], rest), name)
    form = formats.VARIANTS[formats.variant_of(format, first, columns, name)]
    return formats.records(form, itertools.chain(start, lines), name, columns)


def with_names(record: Record, renamed: Mapping[str, str]) -> Record:
    """Return a record with other names of fields.

    Args:
        record: record as it is in its file.
        renamed: new names, with the names in the file; `translation.en` is in an object.

    Raises:
        EncodaxError: a field is missing.
    """
    if not renamed:
        return record
    for old in renamed.values():
        if old.partition(".")[0] not in record.fields and old not in record.fields:
            found = ", ".join(map(str, record.fields))
            raise EncodaxError(
                f"{record.where}: no field {old!r}, which --columns names (found: {found})"
            )
    names = dict.fromkeys([*renamed, *(n for n in record.fields if n not in renamed.values())])
    fields = parquet.Row(tuple(names), lambda name: _value_at(record, renamed.get(name, name)))
    return Record(fields, record.where)


def _value_at(record: Record, name: str) -> Any:
    """Return a field, or `translation.en`: the value `en` of the object in `translation`."""
    if name in record.fields:
        return record.fields[name]
    value: Any = record.fields
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise EncodaxError(f"{record.where}: no field {name!r}, which --columns names")
        value = value[part]
    return value


def records_of(fields: Iterable[dict[str, Any]], *, name: str = "example") -> Iterator[Record]:
    """Yield records from dictionaries in memory; errors call them `name` and their index."""
    for index, item in enumerate(fields):
        yield Record(item, f"{name} {index}")


@contextmanager
def open_input(path: Path | str) -> Iterator[Any]:
    """Open a file, a pipe or standard input for its bytes, decompressed where it is gzip.

    Raises:
        EncodaxError: there is no such file, or it may not be read.
    """
    if str(path) == "-":
        yield _unpacked(_standard_input())
        return
    formats.check_readable(path)
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield _gunzipped(file) if path.suffix == ".gz" else _unpacked(file)


def _standard_input() -> Any:
    """Return standard input as bytes.

    Not `sys.stdin.buffer`: a thread that waits in it would keep Python from ending.

    Raises:
        EncodaxError: it is closed.
    """
    if sys.stdin is None:
        raise EncodaxError("standard input is closed; send something to it, or give a file")
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (AttributeError, OSError, ValueError):  # not a file of the operating system
        return sys.stdin.buffer


def _unpacked(stream: Any) -> Any:
    """Return a stream decompressed where it begins as gzip does, whatever its name."""
    return _gunzipped(stream) if _is_gzip(stream) else stream


def _gunzipped(stream: Any) -> Any:
    source: Any = _AsItComes(stream)
    return gzip.GzipFile(fileobj=source)


def _is_gzip(stream: Any) -> bool:
    begin = stream.peek(2)[:2] if hasattr(stream, "peek") else b""
    # A slow pipe may have sent one byte so far.
    return bool(begin) and formats.GZIP.startswith(begin)


class _AsItComes:
    """Bytes of a stream as soon as they come, where `GzipFile` would wait for many."""

    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes where that is few, as in a header; else at most `size`."""
        found: bytes = self._stream.read(size) if size < 16 else self._stream.read1(size)
        return found


def is_packed(path: Path | str) -> bool:
    """Return True for a file to be decompressed: by its name, or by its first bytes."""
    if Path(path).suffix == ".gz":
        return True
    try:
        with Path(path).open("rb") as file:
            return _is_gzip(file)
    except OSError:
        return False  # reading it will raise an error


@contextmanager
def open_output(
    path: Path | str,
    *,
    binary: bool = False,
    unit: str = "line",
    count: Callable[[], int] | None = None,
) -> Iterator[Any]:
    """Open a file to write, or standard output for `-`; a file is written whole or not at all.

    Where the work ends early, the part written so far is kept next to the file, as FILE.partial,
    and the error says so; the part left by a killed writer is given that name by the next writer.
    Anything other than a plain file, such as a pipe or /dev/null, is written to directly.

    Args:
        path: the file.
        binary: whether bytes are written.
        unit: name of what the error counts.
        count: function that returns the number of units written; None to count lines of the file.
    """
    if str(path) == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    place, is_plain = _place_of(path)
    try:
        if not is_plain:
            with _writing(place, binary) as stream:
                yield stream
            return
        _keep_what_is_left(path, place)
        with outputs.unfinished_file(place) as stage:
            try:
                with (
                    _kept_where_it_ends(stage, path, unit, count),
                    _writing(stage, binary) as stream,
                ):
                    yield stream
                outputs.copy_mode(stage, place)
                stage.replace(place)
            finally:
                with suppress(OSError):
                    stage.unlink()
    except BrokenPipeError:  # the reader has closed the pipe
        raise
    except OSError as error:
        raise EncodaxError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _kept_where_it_ends(
    stage: Path, path: Path | str, unit: str, count: Callable[[], int] | None
) -> Iterator[None]:
    """Keep the part written so far next to the file where work ends early; the error says so."""
    try:
        yield
    except OSError:  # nothing more can be written
        raise
    except BaseException as error:
        if size := stage.stat().st_size if count is None else count():
            kept = partial_of(path)
            written = _count_of_lines(stage) if count is None else size
            stage.replace(os.path.realpath(kept))
            error.add_note(note_of_partial(written, unit, kept))
        raise


def _keep_what_is_left(path: Path | str, place: Path) -> None:
    """Give visible names to the parts left by killed writers of this file."""
    for left in outputs.left_unfinished(place):
        if left.stat().st_size:
            kept = partial_of(path)
            left.replace(os.path.realpath(kept))
            logger.warning(
                "a command was killed while it wrote %s: its partial output is in %s", path, kept
            )
        else:
            left.unlink()


def check_output(path: Path | str) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        EncodaxError: it is a folder, or its parent folder is missing or read-only.
    """
    if str(path) == "-":
        return
    place, is_plain = _place_of(path)
    if place.is_dir():
        raise EncodaxError(f"{path} is a folder: name a file in it")
    if not place.parent.is_dir():
        raise EncodaxError(f"{path} cannot be written: there is no folder {place.parent}; make it")
    changed = place.parent if is_plain else place
    if not os.access(changed, os.W_OK):
        raise EncodaxError(
            f"{path} cannot be written: {changed} is read-only here; choose another place"
        )


def _place_of(path: Path | str) -> tuple[Path, bool]:
    """Return the real path of a file, so that a link stays a link, and whether it is plain."""
    is_plain = os.path.isfile(path) or not os.path.exists(path)
    # The system's link to a pipe, such as /dev/stdout, leads nowhere by its name.
    return Path(os.path.realpath(path) if is_plain else path), is_plain


def _writing(path: Path, binary: bool) -> Any:
    if binary:
        return path.open("wb")
    # Half of a surrogate pair, as JSON may hold, becomes its JSON escape.
    return path.open("w", encoding="utf-8", errors="backslashreplace")


def partial_of(path: Path | str) -> str:
    """Return a free name next to a file for its finished part: FILE.partial, or with a 2."""
    names = (f"{path}.partial{number}" for number in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def note_of_partial(count: int, unit: str, path: str) -> str:
    """Return the note that an error gets where work has ended early."""
    what = f"the {count:,} {unit}s that come" if count != 1 else f"the one {unit} that comes"
    return f"{what} before it {'are' if count != 1 else 'is'} kept in {path}"


def _count_of_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
