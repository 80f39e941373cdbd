"""Index of where the rows of a text file begin, made in one pass over its bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from encodax.data import formats
from encodax.data.files import CHUNK, ByteSource
from encodax.data.formats import Format

MARK = 16
"""Number of rows between stored line numbers, where these do not follow by counting."""
ROWS = 4096
"""Number of rows of several lines that are added to an index together."""


class Index:
    """Position of each row, in 8 bytes, and the number of its line, in half a byte."""

    def __init__(self) -> None:
        self.begins = array("q")
        """Position of each row, and finally the end of the file."""
        self._marks = array("q")
        """Line of every `MARK`th row, or only of the first where lines follow by counting."""
        self._last = 0
        self._is_counted = False

    def __len__(self) -> int:
        return len(self.begins) - 1

    def add(self, begins: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> None:
        """Add rows at the positions `begins`, on the lines `numbers`."""
        if len(begins):
            marked = numbers[-len(self.begins) % MARK :: MARK]
            self._marks.frombytes(marked.astype(np.int64).tobytes())
            self.begins.frombytes(begins.astype(np.int64).tobytes())
            self._last = int(numbers[-1])

    def close(self, size: int) -> Index:
        """Set the end of the file, and return this index."""
        self._is_counted = bool(self.begins) and self._last - self._marks[0] == len(self.begins) - 1
        if self._is_counted:
            del self._marks[1:]
        self.begins.append(size)
        return self

    def line(self, row: int, content: ByteSource) -> int:
        """Return the number of the line on which a row begins."""
        if self._is_counted:
            return self._marks[0] + row
        begin = self.begins[row - row % MARK]
        before = content.read(begin, self.begins[row] - begin)
        return self._marks[row // MARK] + before.count(b"\n")


def index(content: ByteSource, format: Format, name: str) -> Index:
    """Return the index of a file.

    Raises:
        EncodaxError: the beginning of a row cannot be found.
    """
    of = _of_lines if format.a_record_a_line else _of_rows
    return of(content, format, name)


def _of_lines(content: ByteSource, format: Format, name: str) -> Index:
    found = Index()
    place, number = 0, 1
    stream = content.stream()
    while chunk := stream.read(CHUNK):
        chunk += stream.readline(formats.LONGEST_LINE + 1)  # whole lines
        letters = np.frombuffer(chunk, np.uint8)
        begins = np.append(0, np.flatnonzero(letters == ord("\n")) + 1)
        begins = begins[: np.searchsorted(begins, len(chunk))]  # the last line may have no end
        numbers = number + np.arange(len(begins))
        last = chunk[int(begins[-1]) :]
        if len(last) > formats.LONGEST_LINE:
            raise formats.too_long(name, int(numbers[-1]), last)
        blank = _blank_lines(chunk, begins, format, name, number) if format.may_be_blank else []
        found.add(place + np.delete(begins, blank), np.delete(numbers, blank))
        place, number = place + len(chunk), number + len(begins)
    return found.close(place)


def _blank_lines(
    chunk: bytes, begins: Int[np.ndarray, " n"], format: Format, name: str, number: int
) -> list[int]:
    """Return the blank lines; most others begin with a character that is not a space anywhere."""
    first = np.frombuffer(chunk, np.uint8)[begins]
    doubtful = np.flatnonzero((first <= ord(" ")) | (first >= 0x80))
    ends = np.append(begins[1:], len(chunk))
    blank = []
    for place in doubtful.tolist():
        line = chunk[begins[place] : ends[place]]
        lines = formats.utf8_lines([line], name, number + place)
        if next(format.rows(lines, name, number + place), None) is None:
            blank.append(place)
    return blank


def _of_rows(content: ByteSource, format: Format, name: str) -> Index:
    found = Index()
    taken = array("q")  # position of each line that was read since the last row
    place, count = 0, 0

    def lines() -> Iterator[bytes]:
        nonlocal place, count
        for line in formats.byte_lines(content.stream()):
            taken.append(place)
            place, count = place + len(line), count + 1
            yield line

    begins: list[int] = []
    numbers: list[int] = []
    for number, _ in format.rows(formats.utf8_lines(lines(), name), name, 1):
        begins.append(taken[number - 1 - count])
        numbers.append(number)
        del taken[:]
        if len(begins) == ROWS:
            found.add(np.asarray(begins, np.int64), np.asarray(numbers, np.int64))
            begins, numbers = [], []
    found.add(np.asarray(begins, np.int64), np.asarray(numbers, np.int64))
    return found.close(place)
