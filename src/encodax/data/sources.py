"""Records of files one after another, whatever the format, and output that is written whole."""

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
    """One record of a source, and where it came from, for errors."""

    fields: Mapping[str, Any]
    where: str
    """Such as `train.jsonl, line 3`, or `train.parquet, row 3`."""


def read(
    path: Path | str, *, columns: Columns | None = None, format: str | None = None
) -> Iterator[Record]:
    """Read the records of a file, one at a time.

    Args:
        path: a file whose ending tells its format: .jsonl, .json, .csv, .tsv, .txt, .conll or
            .conllu, each also packed by gzip, or .parquet; or `-` for standard input, or a pipe
            (JSON if the first line is, or begins, a JSON object, else a text a line).
        columns: names of the columns of a table that has no header line; or, of any file, fields
            with the names that they have there: `{"text": "content"}`.
        format: a name in `formats.NAMES`, whatever the ending says.

    Raises:
        EncodaxError: the file is missing, of an unknown format, not UTF-8, or has a line that
            cannot be read; the line's number is named.
    """
    columns, renamed = formats.named_and_renamed(columns)
    with opened(path) as stream:
        is_told = format is not None or not formats.has_no_name(path)
        own = formats.chosen(path, format, columns) if is_told else None
        if own == "parquet":
            found: Iterator[tuple[Mapping[str, Any], str]] = parquet.records(str(path))
        else:
            found = _of_text(stream, path, own, columns)
        try:
            for fields, where in found:
                yield with_names(Record(fields, where), renamed)
        except EncodaxError as error:
            if not is_told and "not JSON" in str(error):
                error.add_note(
                    f"{formats.name_of(path)} is read as JSON Lines, as it begins as an object; "
                    "for a text a line: --format txt (format=)"
                )
            raise


def _of_text(
    stream: Any, path: Path | str, format: str | None, columns: Sequence[str] | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What is in each record of a file of text, and where it stands."""
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
    form = formats.FORMS[formats.form_of(format, first, columns, name)]
    return formats.records(form, itertools.chain(start, lines), name, columns)


def with_names(record: Record, renamed: Mapping[str, str]) -> Record:
    """A record whose fields have other names.

    Args:
        record: as it is in its file.
        renamed: fields with the names that they have there; `translation.en` is of an object.

    Raises:
        EncodaxError: it has no field of such a name.
    """
    if not renamed:
        return record
    for old in renamed.values():
        if old.partition(".")[0] not in record.fields and old not in record.fields:
            found = ", ".join(map(str, record.fields))
            raise EncodaxError(f"{record.where}: no field {old!r}, as --columns has it ({found})")
    names = dict.fromkeys([*renamed, *(n for n in record.fields if n not in renamed.values())])
    fields = parquet.Row(tuple(names), lambda name: _value_at(record, renamed.get(name, name)))
    return Record(fields, record.where)


def _value_at(record: Record, name: str) -> Any:
    """A field, or `translation.en`, which is `en` of the object in the field `translation`."""
    if name in record.fields:
        return record.fields[name]
    value: Any = record.fields
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise EncodaxError(f"{record.where}: no field {name!r}, as --columns has it")
        value = value[part]
    return value


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
    """Standard input, in bytes.

    It is not `sys.stdin.buffer`, in which a thread that waits would keep Python from ending.

    Raises:
        EncodaxError: it is closed.
    """
    if sys.stdin is None:
        raise EncodaxError("standard input is closed; send something to it, or give a file")
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (AttributeError, OSError, ValueError):  # no file of the system's
        return sys.stdin.buffer


def _unpacked(stream: Any) -> Any:
    """What is in a stream that begins as gzip does, whatever it is called; others as they are."""
    return _gunzipped(stream) if _is_gzip(stream) else stream


def _gunzipped(stream: Any) -> Any:
    source: Any = _AsItComes(stream)
    return gzip.GzipFile(fileobj=source)


def _is_gzip(stream: Any) -> bool:
    begin = stream.peek(2)[:2] if hasattr(stream, "peek") else b""
    # A slow pipe may have sent one byte so far.
    return bool(begin) and formats.GZIP.startswith(begin)


class _AsItComes:
    """The bytes of a stream as they come, where `GzipFile` would wait for many."""

    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int) -> bytes:
        """So many bytes where they are few, as in a header; else at most so many."""
        found: bytes = self._stream.read(size) if size < 16 else self._stream.read1(size)
        return found


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
    FILE.partial, and the error says so; what a writer left that was killed is given that name by
    the next one. What is no plain file, such as a pipe or /dev/null, is
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
                outputs.take_mode(stage, place)
                stage.replace(place)
            finally:
                with suppress(OSError):
                    stage.unlink()
    except BrokenPipeError:  # who reads it has seen enough
        raise
    except OSError as error:
        raise EncodaxError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _kept_where_it_ends(
    stage: Path, path: Path | str, unit: str, count: Callable[[], int] | None
) -> Iterator[None]:
    """Keep what was written beside the file where the work ends early; the error says so."""
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
    """Give a name that is seen to what a writer of this file was killed in the midst of."""
    for left in outputs.left_unfinished(place):
        if left.stat().st_size:
            kept = partial_of(path)
            left.replace(os.path.realpath(kept))
            logger.warning("a command was killed while it wrote %s: its part is %s", path, kept)
        else:
            left.unlink()


def check_output(path: Path | str) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        EncodaxError: it is a folder, or the folder it is to be in is missing or read-only.
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
        raise EncodaxError(f"{path} cannot be written: {changed} is read-only here")


def _place_of(path: Path | str) -> tuple[Path, bool]:
    """Where a file is to be, so that a link stays a link; and whether it is a plain one."""
    is_plain = os.path.isfile(path) or not os.path.exists(path)
    # Of a pipe the system's link, such as /dev/stdout, leads nowhere by its name.
    return Path(os.path.realpath(path) if is_plain else path), is_plain


def _writing(path: Path, binary: bool) -> Any:
    if binary:
        return path.open("wb")
    # Half a character, as JSON may hold, becomes the escape that JSON has for it.
    return path.open("w", encoding="utf-8", errors="backslashreplace")


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
