"""Formats of text files: the lines that make a record, and its fields."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import logging
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encodax.data import conll
from encodax.errors import EncodaxError

logger = logging.getLogger(__name__)
LONGEST_LINE = 1 << 26
"""Largest number of bytes of a line, of all lines of a CSV record, and of a Parquet cell: 64 MiB. A
file of 2 MB can unpack to a line of 2 GB."""

Fields = dict[str, Any]
"""Fields of a record, by name."""


Columns = Sequence[str] | Mapping[str, str]
"""Names of all columns where a table has none, or new names of fields with those in the file."""


@dataclass(frozen=True)
class Format:
    """Conversion of lines to records through rows: a row is one line, or a list of cells."""

    rows: Callable[[Iterator[str], str, int], Iterator[tuple[int, Any]]]
    """Function from lines, the file's name and the number of the first line to rows that are not
    blank, each with the number of its first line."""
    fields: Callable[[Any, Sequence[str], str], Fields]
    """Function from a row, the names of columns and the row's place to the fields."""
    a_record_a_line: bool = True
    may_be_blank: bool = True
    """Whether some lines may be no row."""
    has_columns: bool = False
    """Whether the caller may name the columns."""
    has_header: bool = False
    """Whether the first row names the columns, unless the caller names them."""


def records(
    format: Format, lines: Iterator[str], name: str, columns: Sequence[str] | None
) -> Iterator[tuple[Fields, str]]:
    """Yield the fields of each record, and its place, such as `train.jsonl, line 3`.

    Raises:
        EncodaxError: a line cannot be read; the message gives its number.
    """
    rows = format.rows(lines, name, 1)
    if format.has_header and columns is None:
        columns = next((header(row, f"{name}, line {number}") for number, row in rows), ())
    for number, row in rows:
        where = f"{name}, line {number}"
        yield format.fields(row, columns or (), where), where


def utf8_lines(stream: Iterable[bytes], name: str, first: int = 1) -> Iterator[str]:
    """Yield lines with their ends, decoded one by one, so that errors can give the line's number.

    A byte order mark before a line is dropped: concatenated files have some.

    Raises:
        EncodaxError: a line is not UTF-8, or too long, or the stream breaks off.
    """
    number, line = first - 1, b""
    try:
        for number, line in enumerate(byte_lines(stream), first):
            if len(line) > LONGEST_LINE:
                raise too_long(name, number, line)
            if number == 1 and is_of_two_bytes(line):
                raise not_utf8(name, number, line)
            yield line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise not_utf8(name, number, line) from None
    except (EOFError, OSError, zlib.error) as error:
        raise unreadable(name, number, error) from error


def of_short_lines(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield the same bytes, up to a line that is too long.

    Raises:
        EncodaxError: a line is too long; the message gives its number.
    """
    lines = length = 0
    for chunk in chunks:
        lines += chunk.count(b"\n")
        end = chunk.rfind(b"\n")  # of the last complete line
        length = len(chunk) + (length if end < 0 else -1 - end)
        if length > LONGEST_LINE:
            raise too_long(name, lines + 1, b"")
        yield chunk


def byte_lines(stream: Iterable[bytes]) -> Iterable[bytes]:
    """Return lines of a file with their ends; one that is too long is cut after one byte more."""
    if not hasattr(stream, "readline"):
        return stream
    return iter(functools.partial(stream.readline, LONGEST_LINE + 1), b"")


def too_long(name: str, number: int, line: bytes) -> EncodaxError:
    """Return the error of a line that is too long and begins with `line`."""
    is_list = line[:1] == b"["
    return EncodaxError(
        f"{name}, line {number}: longer than {LONGEST_LINE >> 20} MiB; write each record on a line "
        f"of its own{_as_lines('[') if is_list else ''}"
    )


GZIP = b"\x1f\x8b"
"""First bytes of data compressed by gzip."""
PACKED = {
    GZIP: "gzip, twice",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip, as files of Excel are, which save as CSV",
}
"""First bytes of compressed files; one layer of gzip has been decompressed by then."""


def not_utf8(name: str, number: int, line: bytes) -> EncodaxError:
    """Return the error of a line, with how to make it UTF-8; a first line allows better advice."""
    what = f"{name}, line {number}: not UTF-8"
    packed = next((kind for begin, kind in PACKED.items() if line.startswith(begin)), None)
    if number == 1 and packed:
        return EncodaxError(f"{what}: the file is packed ({packed}); unpack it first")
    if number == 1 and line.startswith(b"PAR1"):
        return EncodaxError(f"{what}: the file is Parquet; give it a name that ends in .parquet")
    path = "" if name == name_of("-") else f" {name}"
    if number == 1 and line.startswith(MARKS_OF_FOUR):
        encoding = "utf-32"
        what += " but UTF-32"
    elif number == 1 and is_of_two_bytes(line):
        encoding = "utf-16"
        if not line.startswith(MARKS):
            encoding = "utf-16be" if line.startswith(b"\0") else "utf-16le"
        what += f" but {encoding.upper()}"
    else:
        encoding = "windows-1252" if _is_windows(line) else "latin1"
        what += f"; perhaps it is {encoding.capitalize()}" if encoding != "latin1" else ""
    return EncodaxError(f"{what}; convert it, as in: iconv -f {encoding} -t utf-8{path}")


def _is_windows(line: bytes) -> bool:
    """Return True for Windows-1252 that is not Latin-1: quotes, dashes, the euro sign."""
    try:
        has_signs = any(0x80 <= byte < 0xA0 for byte in line) and bool(line.decode("cp1252"))
    except UnicodeDecodeError:
        return False
    return has_signs and line.decode("utf-8", "ignore").isascii()  # else it is damaged UTF-8


MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16."""
MARKS_OF_FOUR = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
"""Byte order marks of UTF-32."""


def is_of_two_bytes(line: bytes) -> bool:
    """Return True for the first line of a UTF-16 file: by its mark, or every second byte is 0."""
    return line.startswith(MARKS) or any(
        half.count(0) * 2 > len(half) for half in (line[::2], line[1::2]) if len(line) > 1
    )


def unreadable(name: str, number: int, error: Exception) -> EncodaxError:
    """Return the error of a file that breaks off after a line."""
    return EncodaxError(f"{name}, after line {number}: cannot be read: {error}")


def name_of(path: Path | str) -> str:
    """Return a file's name for messages."""
    return "standard input" if str(path) == "-" else str(path)


def is_stream(path: Path | str) -> bool:
    """Return True for what is read once, in order: standard input, pipe, terminal, /dev/null."""
    if str(path) == "-":
        return True
    try:
        state = os.stat(path)
    except OSError:
        return False
    if stat.S_ISCHR(state.st_mode):  # no other devices: /dev/zero would never end
        return state.st_rdev == os.stat(os.devnull).st_rdev or _is_terminal(path)
    return stat.S_ISFIFO(state.st_mode)


def is_live(path: Path | str) -> bool:
    """Return True if more may come after a silence: from a pipe or a terminal, not a file."""
    if str(path) != "-":
        return is_stream(path)
    try:
        return sys.stdin is not None and not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # not a file of the operating system
        return True


def _is_terminal(path: Path | str) -> bool:
    try:
        with open(path, "rb") as device:
            return device.isatty()
    except OSError:
        return False


def check_readable(path: Path | str) -> None:
    """Refuse a path that is neither a file nor a stream.

    Raises:
        EncodaxError: the message says what it is.
    """
    if is_stream(path) or os.path.isfile(path):
        return
    if not str(path):
        raise EncodaxError("a path is empty: name a file")
    if os.path.isdir(path):
        raise EncodaxError(f"{path} is a folder, not a file")
    if os.path.exists(path):
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        raise EncodaxError(f"{path} is a {'socket' if is_socket else 'device'}, not a file")
    if os.path.islink(path):
        raise EncodaxError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    raise EncodaxError(f"{path} does not exist")


def has_no_name(path: Path | str) -> bool:
    """Return True for a path that cannot give a format by its name: standard input or a pipe."""
    of_system = str(path).startswith(("/dev/", "/proc/"))  # /dev/stdin may be a plain file
    return str(path) == "-" or ((of_system or is_stream(path)) and not is_known(path))


OTHERS = {
    ("xlsx", "xls", "xlsm", "ods", "numbers"): "save the table as CSV, in UTF-8",
    ("docx", "doc", "odt", "rtf", "pdf", "html", "htm", "md"): "save it as text (.txt), a text a "
    "line",
    ("safetensors", "bin", "npy", "npz", "pt", "pkl", "onnx", "gguf"): "it is not a file of texts",
    ("zip", "zst", "xz", "bz2", "7z", "tar", "tgz", "rar"): "unpack it first, or use gzip",
}
"""Advice for files of other kinds, by their endings."""


def chosen(path: Path | str, format: str | None, columns: Sequence[str] | None) -> str:
    """Return the format of a file: the one given, or else by the file's ending.

    Raises:
        EncodaxError: it is unknown, has no columns to name, or cannot be read from there.
    """
    name = name_of(path)
    format = format or _by_ending(path)
    if format not in NAMES:
        way_out = next(
            (way for endings, way in OTHERS.items() if format in endings),
            "give the file a name that ends in one of these, or give its format (--format, "
            "format=) where there is that option",
        )
        raise EncodaxError(
            f"{name}: format {format!r} is not one of: {', '.join(NAMES)}; {way_out}"
        )
    if columns and format not in TABLES:
        raise EncodaxError(
            f"{name}: --columns is for {', '.join(TABLES)}, not for {format}; to rename fields: "
            "--columns text=NAME"
        )
    if format == "parquet" and (is_stream(path) or Path(path).suffix == ".gz"):
        raise EncodaxError(
            f"{name}: a Parquet file must not be packed or come from a pipe: it is compressed "
            "itself; give the plain file"
        )
    return format


def named_and_renamed(columns: Columns | None) -> tuple[Sequence[str] | None, Mapping[str, str]]:
    """Return the names of a table's columns, and the new names of fields."""
    return (None, columns) if isinstance(columns, Mapping) else (columns, {})


def _ends_in_cr(name: str, number: int) -> EncodaxError:
    path = "" if name == name_of("-") else f" < {name}"
    return EncodaxError(
        f"{name}, line {number}: a line ends in CR without LF, as on old Macintoshes; convert it, "
        f"as in: tr '\\r' '\\n'{path}"
    )


def variant_of(format: str, first: str, columns: Sequence[str] | None, name: str) -> str:
    """Return the key in `VARIANTS` for a file, by its format and its first line.

    Spreadsheets write `;` (or tabs) instead of commas where numbers have a decimal comma, and may
    say so in an extra first line: `sep=;`.

    Args:
        format: name of the format.
        first: first line; of a table with a header it has the names of the columns.
        columns: these names where there is no header.
        name: name of the file.

    Raises:
        EncodaxError: the file names an unknown separator of cells; or it has one line, as its
            lines end in CR.
    """
    if format in LINE_FORMATS and "\n" not in first and "\r" in first.rstrip("\r"):
        raise _ends_in_cr(name, 1)
    if format != "csv":
        return format
    separator = SEPARATOR.fullmatch(first)
    if separator:
        if separator.group(1) not in CELL_SEPARATORS:
            known = " ".join(CELL_SEPARATORS).replace("\t", "TAB")
            raise EncodaxError(f"{name}, line 1: {first.strip()!r} is not one of: {known}")
        return f"csv{separator.group(1)}"
    counts = {mark: _count_of_cells(first, mark) for mark in CELL_SEPARATORS}
    if columns is not None:
        fits = (mark for mark, count in counts.items() if count == len(columns))
    else:
        fits = (mark for mark, count in counts.items() if count > 1)
    mark = next(fits, ",")
    if mark != ",":
        shown = "a tab" if mark == "\t" else repr(mark)
        logger.warning("%s: cells are taken to be separated by %s, not by commas", name, shown)
    return f"csv{mark}"


def _count_of_cells(line: str, mark: str) -> int:
    try:
        return len(next(csv.reader([line], strict=True, delimiter=mark), []))
    except csv.Error:
        return 0


def is_known(path: Path | str) -> bool:
    """Return True if the ending of a file gives a format."""
    return _by_ending(path) in NAMES


def of_first_line(line: str) -> str:
    """Return the format of input without a name: JSON if it begins so, else one text a line."""
    if line.strip() in ("{", "["):
        return "json"
    return "jsonl" if OBJECT.match(line) else "txt"


OBJECT = re.compile(r'\s*\{\s*(["}]|\Z)')
"""Beginning of a line that is a JSON object; a single brace does not suffice."""


def _by_ending(path: Path | str) -> str:
    suffixes = Path(path).suffixes
    ending = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else Path(path).suffix
    return ENDINGS.get(ending, ending.removeprefix("."))


def header(cells: Sequence[str], where: str) -> Sequence[str]:
    """Return the names of columns, from the header row.

    Raises:
        EncodaxError: two columns have the same name.
    """
    if len(set(cells)) < len(cells):
        raise EncodaxError(f"{where}: two columns have the same name: {', '.join(cells)}")
    return cells


def _lines(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, str]]:
    return enumerate(lines, first)


def _filled_lines(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, first) if line.strip())


def _cells(**dialect: Any) -> Callable[[Iterator[str], str, int], Iterator[tuple[int, list[str]]]]:
    def rows(lines: Iterator[str], name: str, first: int) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(2**31 - 1)  # the default refuses a cell of 128 KiB
        start = list(itertools.islice(lines, 1 if first == 1 else 0))
        if start and SEPARATOR.fullmatch(start[0]) and dialect.get("quoting") is None:
            first, start = 2, []
        lines = itertools.chain(start, lines)
        number, length = first, 0

        def of_a_row() -> Iterator[str]:
            nonlocal length
            for line in lines:
                length += len(line)
                if length > LONGEST_LINE:
                    raise EncodaxError(
                        f"{name}, line {number}: the row that starts there is longer than "
                        f"{LONGEST_LINE >> 20} MiB; is a quotation mark left open?"
                    )
                yield line

        reader = csv.reader(of_a_row(), strict=True, **dialect)
        while True:
            number, length = first + reader.line_num, 0
            try:
                cells = next(reader, None)
            except csv.Error as error:
                if "new-line character" in str(error):  # its advice is for code that opens the file
                    raise _ends_in_cr(name, number) from None
                raise EncodaxError(f"{name}, line {number}: cannot be read: {error}") from None
            if cells is None:
                return
            if cells:
                yield number, cells

    return rows


def _object(line: str, _: Sequence[str], where: str) -> Fields:
    try:
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            raise
        except ValueError:  # Python refuses integers of that many digits
            fields = json.loads(line, parse_int=float)
    except json.JSONDecodeError as error:
        raise EncodaxError(
            f"{where}: not JSON ({error.msg}, column {error.colno}); write one JSON object a line"
            + _as_lines(line.strip())
        ) from None
    except RecursionError as error:  # a list nested too deeply
        raise EncodaxError(f"{where}: cannot be read: {error}") from None
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise EncodaxError(
            f'{where}: needs an object such as {{"text": "..."}}, not a {kind}'
            + _as_lines(line.strip())
        )
    return fields


def _as_lines(line: str) -> str:
    """Return advice for a file that is one JSON value over several lines, or one list."""
    is_document = line.startswith("[") or line == "{"
    advice = "; for a list, or an object over several lines, use a name that ends in .json"
    return advice if is_document else ""


def _text(line: str, _: Sequence[str], where: str) -> Fields:
    return {"text": line.rstrip("\r\n")}


def _by_column(cells: Sequence[str], columns: Sequence[str], where: str) -> Fields:
    if len(cells) != len(columns):
        raise EncodaxError(
            f"{where}: has {len(cells)} columns where {len(columns)} are named "
            f"({', '.join(columns)}); is a header line missing? then give --columns"
        )
    return dict(zip(columns, cells, strict=True))


def _table(mark: str) -> Format:
    """Return the format of a table with quotes, and `mark` between cells."""
    rows = _cells(delimiter=mark)
    return Format(rows, _by_column, a_record_a_line=False, has_columns=True, has_header=True)


CELL_SEPARATORS = ",;\t|"
"""Possible separators of the cells of a CSV file."""
SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]*')
"""Line that Excel puts before a table, to name the separator of cells."""
FORMATS: dict[str, Format] = {
    "jsonl": Format(_filled_lines, _object),
    "csv": _table(","),
    # A tab-separated file has no quoting: a quotation mark is an ordinary character.
    "tsv": Format(
        _cells(delimiter="\t", quoting=csv.QUOTE_NONE),
        _by_column,
        has_columns=True,
        has_header=True,
    ),
    "txt": Format(_lines, _text, may_be_blank=False),
    "conll": Format(conll.rows, conll.fields, a_record_a_line=False, has_columns=True),
    "conllu": Format(
        conll.rows_of_conllu, conll.fields_of_conllu, a_record_a_line=False, has_columns=True
    ),
}
"""Formats of text, by name."""
VARIANTS = FORMATS | {f"csv{mark}": _table(mark) for mark in CELL_SEPARATORS}
"""Formats of text by name, with the variants of CSV."""
LINE_FORMATS = ("txt", "conll", "conllu")
"""Formats in which a line may have any character without an error."""
TABLES = tuple(name for name, format in FORMATS.items() if format.has_columns)
NAMES = (*FORMATS, "json", "parquet")
"""Names of all formats that a file may have."""
ENDINGS = {
    ".ndjson": "jsonl",
    ".conll2003": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
"""Other endings -> names of formats."""
