"""Records of JSON documents: a list of objects, objects over several lines, and SQuAD.

A document is read in pieces, each as large as one object of its list, so that it need not fit in
memory: an article of SQuAD is such a piece.
"""

from __future__ import annotations

import codecs
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from encodax.data import formats
from encodax.data.formats import Fields
from encodax.errors import EncodaxError

FIRST_LINE = 1 << 16
"""Number of bytes of a first line by which JSON Lines and documents are told apart."""
CHUNK = 1 << 17
"""Number of bytes that are read at a time."""
LONGEST = 1 << 28
"""Largest number of characters of one object of a list."""
_SPACES = " \t\r\n\ufeff"
_NEAR = 16
"""Number of characters before the end of the text read so far in which a cut value may look
wrong."""


def is_document(first: bytes) -> bool:
    """Return True if a file that begins with this line, or a part of it, is not JSON Lines."""
    try:
        line = first.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        line = first[: error.start].decode("utf-8-sig", "replace").strip()
        if error.end < len(first):  # else a character was cut
            return False
    if line[:1] not in ("", "{", "[") or formats.is_of_two_bytes(first):
        return False
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return True
    data = found.get("data") if isinstance(found, dict) else None
    return not isinstance(found, dict) or (isinstance(data, list) and _are_objects(data))


def _are_objects(items: Sequence[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def records(chunks: Iterable[bytes], name: str) -> Iterator[tuple[Fields, str]]:
    """Return the fields of each record, and its place.

    Records are the objects of a list, or of the list in the field `data` of an object; of SQuAD the
    questions, each with its context and the title. Without a list, each object is a record.

    Args:
        chunks: the bytes.
        name: name of the file.

    Raises:
        EncodaxError: the bytes are not such JSON; the message gives the line, or the place, such
            as `dev.json, data[3].paragraphs[2].qas[0]`.
    """
    text = _Text(chunks, name)
    while mark := text.peek():
        line = f"{name}, line {text.line}"
        if mark == "[":
            yield from _listed(text, "")
        elif mark == "{":
            yield from _of_object(text, line)
        else:
            raise EncodaxError(f"{line}: a JSON file must hold objects, or a list of them")


def chunks_of(stream: Any, name: str) -> Iterator[bytes]:
    """Yield the bytes of a stream.

    Raises:
        EncodaxError: it breaks off.
    """
    lines = 0
    read = getattr(stream, "read1", stream.read)  # gets all bytes before a break
    try:
        while chunk := read(CHUNK):
            yield chunk
            lines += chunk.count(b"\n")
    except (EOFError, OSError, zlib.error) as error:
        raise formats.unreadable(name, lines, error) from error


def as_lines(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield each record as a line that `of_line` reads."""
    for fields, where in records(chunks, name):
        yield json.dumps([fields, where]).encode() + b"\n"


def of_line(line: bytes) -> tuple[Fields, str]:
    """Return the fields of a record, and its place in the file."""
    fields, where = json.loads(line, parse_int=_whole)
    return fields, where


def _of_object(text: _Text, where: str) -> Iterator[tuple[Fields, str]]:
    """Yield the records of an object: those of its `data`, or itself."""
    own: Fields = {}
    is_record = True
    text.take("{")
    for count in itertools.count():
        if text.peek() == "}":
            break
        if count:
            text.take(",")
        key = text.key()
        text.take(":")
        if key == "data" and text.peek() == "[":
            is_record = False
            yield from _listed(text, "data")
        else:
            own[key] = text.value()
    text.take("}")
    if is_record:
        yield own, where


def _listed(text: _Text, path: str) -> Iterator[tuple[Fields, str]]:
    """Yield the records of a list that begins here."""
    text.take("[")
    for index in itertools.count():
        if text.peek() == "]":
            break
        if index:
            text.take(",")
        yield from _of_item(text.value(), f"{text.name}, {path}[{index}]")
    text.take("]")


def _of_item(item: Any, where: str) -> Iterator[tuple[Fields, str]]:
    """Yield the record of a list's object, or the records of an article of SQuAD."""
    item = _checked(item, where)
    if not isinstance(item.get("paragraphs"), list):
        yield item, where
        return
    title = {"title": item["title"]} if "title" in item else {}
    for number, paragraph in enumerate(item["paragraphs"]):
        place = f"{where}.paragraphs[{number}]"
        found = _checked(paragraph, place)
        if not isinstance(found.get("qas"), list) or "context" not in found:
            raise EncodaxError(f"{place}: a paragraph of SQuAD needs 'context', and 'qas', a list")
        for index, question in enumerate(found["qas"]):
            own = f"{place}.qas[{index}]"
            yield {**title, "context": found["context"], **_checked(question, own)}, own


def _checked(value: Any, where: str) -> Fields:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise EncodaxError(f'{where}: needs an object such as {{"text": "..."}}, not a {kind}')
    return value


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python refuses integers of that many digits
        return float(digits)


class _Text:
    """JSON text that is read one value at a time, and no further."""

    _DECODER = json.JSONDecoder(parse_int=_whole)

    def __init__(self, chunks: Iterable[bytes], name: str):
        self.name = name
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._line = 1  # at the start of the text
        self._decoded_lines, self._is_whole = 0, False

    @property
    def line(self) -> int:
        """Number of the next line."""
        return self._line_at(self._at)

    def peek(self) -> str:
        """Return the next character that is not a space, or "" at the end."""
        while True:
            rest = self._text[self._at : self._at + 1]
            if rest and rest not in _SPACES:
                return rest
            if not rest and not self._read_on():
                return ""
            self._at += len(rest)

    def take(self, sign: str) -> None:
        """Skip the character `sign`."""
        if self.peek() != sign:
            raise self._refusal(f"{sign!r} is missing", self._at)
        self._at += 1

    def key(self) -> str:
        """Return the name of a member, which comes next."""
        if self.peek() != '"':
            raise self._refusal("a name in quotes is missing", self._at)
        return str(self.value())

    def value(self) -> Any:
        """Return the value that comes next."""
        self.peek()
        while True:
            try:
                found, end = self._DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.pos + _NEAR > len(self._text) or error.msg.startswith("Unterm")
                if not is_cut or not self._read_on():
                    raise self._refusal(error.msg, error.pos) from None
            except RecursionError as error:
                raise self._refusal(str(error), self._at) from None
            else:
                if end < len(self._text) or not self._read_on():  # a number may go on
                    self._at = end
                    return found

    def _read_on(self) -> bool:
        """Read more text, and drop the text that was consumed; False at the end."""
        if self._is_whole:
            return False
        self._line, self._text, self._at = self.line, self._text[self._at :], 0
        if len(self._text) > LONGEST:
            raise self._refusal(f"an object of more than {LONGEST:,} characters", 0)
        pieces, size = [self._text], 0
        while size < max(len(self._text), CHUNK) and not self._is_whole:
            pieces.append(self._decoded(next(self._chunks, b"")))
            size += len(pieces[-1])
        self._text = "".join(pieces)
        return True

    def _decoded(self, chunk: bytes) -> str:
        self._is_whole = not chunk
        try:
            found = self._decoder.decode(chunk, final=self._is_whole)
        except UnicodeDecodeError as error:
            held, bad = error.object, error.start
            number = self._decoded_lines + held.count(b"\n", 0, bad) + 1
            begin = held.rfind(b"\n", 0, bad) + 1
            raise formats.not_utf8(self.name, number, held[begin:].split(b"\n")[0]) from None
        self._decoded_lines += found.count("\n")
        return found

    def _line_at(self, place: int) -> int:
        return self._line + self._text.count("\n", 0, place)

    def _refusal(self, what: str, place: int) -> EncodaxError:
        return EncodaxError(f"{self.name}, line {self._line_at(place)}: not JSON ({what})")
