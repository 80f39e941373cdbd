"""Tagged words, one on each line and a blank line after each sentence: CoNLL and CoNLL-U.

There are many kinds of CoNLL (CoNLL-2003, WNUT, MultiCoNER and others); in most of them the word
is in the first column and its tag in the last. CoNLL-U has ten columns with names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from encodax.errors import EncodaxError

LONGEST = 100_000
"""Largest number of lines of a sentence; beyond it, blank lines between sentences are missing."""
OF_CONLLU = ("id", "tokens", "lemma", "tags", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Columns of CoNLL-U: the tags are the universal parts of speech (UPOS)."""
SKIPPED = "_"
"""Name of a column that is left out."""

Sentence = list[list[str]]
"""Cells of each word."""
Rows = Iterator[tuple[int, Sentence]]
_Line = tuple[int, str]
_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[A-Z]-.+")
_NUMBER = re.compile(r"\d+(-\d+|\.\d+)?")


def rows(lines: Iterator[str], name: str, first: int) -> Rows:
    """Yield sentences of CoNLL, each with the line number of its first word.

    Raises:
        EncodaxError: a line cannot be read; the message gives its number.
    """
    return _rows(lines, name, first, _cells_of_lines)


def rows_of_conllu(lines: Iterator[str], name: str, first: int) -> Rows:
    """Yield sentences of CoNLL-U, without word ranges (`1-2`) and empty nodes (`1.1`).

    Raises:
        EncodaxError: a line cannot be read; the message gives its number.
    """
    return _rows(lines, name, first, _cells_of_conllu)


def fields(sentence: Sentence, columns: Sequence[str], where: str) -> dict[str, Any]:
    """Return `tokens` and `tags` of a sentence, the first and the last column; or named columns.

    With one column, there are no tags.

    Raises:
        EncodaxError: the number of columns differs from that of names.
    """
    width = len(sentence[0])
    if not columns:
        return _by_name(sentence, ["tokens", *[SKIPPED] * (width - 2), "tags"][:width])
    if width != len(columns):
        named = ", ".join(columns)
        raise EncodaxError(
            f"{where}: has {width} columns where {len(columns)} are named ({named}); name each in "
            "--columns"
        )
    return _by_name(sentence, columns)


def fields_of_conllu(sentence: Sentence, columns: Sequence[str], where: str) -> dict[str, Any]:
    """Return `tokens` (FORM) and `tags` (UPOS) of a sentence; or all ten columns as named.

    Tags are left out where no word has one, as in the test sets of competitions.

    Raises:
        EncodaxError: the number of names differs from that of columns.
    """
    if columns:
        return fields(sentence, columns, where)
    found = _by_name(sentence, OF_CONLLU)
    return {key: found[key] for key in ("tokens", "tags") if set(found[key]) != {SKIPPED}}


def _by_name(sentence: Sentence, columns: Sequence[str]) -> dict[str, Any]:
    by_column = zip(columns, zip(*sentence, strict=True), strict=True)
    return {column: list(cells) for column, cells in by_column if column != SKIPPED}


def _rows(
    lines: Iterator[str],
    name: str,
    first: int,
    cells_of: Callable[[list[_Line], str], Iterator[tuple[int, list[str]]]],
) -> Rows:
    for group in _groups(lines, name, first):
        words = list(cells_of(group, name))
        if words:
            yield words[0][0], [cells for _, cells in words]


def _groups(lines: Iterator[str], name: str, first: int) -> Iterator[list[_Line]]:
    """Yield groups of adjacent lines, numbered, without lines that begin a document."""
    group: list[_Line] = []
    for number, line in enumerate(lines, first):
        if line.strip() and not line.startswith(_DOCUMENT):
            group.append((number, line.strip(" \r\n")))
        elif group:
            yield group
            group = []
        if len(group) > LONGEST:
            raise EncodaxError(
                f"{name}, line {group[0][0]}: a sentence of more than {LONGEST:,} lines; a blank "
                "line ends a sentence"
            )
    if group:
        yield group


def _cells_of_lines(group: list[_Line], name: str) -> Iterator[tuple[int, list[str]]]:
    width = len(_cells(group[-1][1]))
    is_before = True
    for number, line in group:
        cells = _cells(line)
        is_before = is_before and _is_comment(line, cells, width)
        if is_before:
            continue
        problem = _problem(cells, width)
        if problem:
            raise EncodaxError(f"{name}, line {number}: {problem}")
        yield number, cells


def _cells(line: str) -> list[str]:
    """Return the columns of a line, separated by tabs where there are any, else by spaces."""
    return line.rstrip("\t").split("\t") if "\t" in line else re.split(" +", line)


def _is_comment(line: str, cells: list[str], width: int) -> bool:
    """Return True for a line before the first word that is not one: `# text = ...`, `# comment`.

    With two columns, `# O` and `# B-LOC` are a word and its tag, and so is a line with a tab.
    """
    if not cells[0].startswith("#"):
        return False
    if len(cells) != width or (cells[0] == "#" and any("=" in cell for cell in cells)):
        return True
    return width == 2 and line.startswith("# ") and not _TAG.fullmatch(cells[1])


def _problem(cells: list[str], width: int) -> str:
    if len(cells) == len(OF_CONLLU) and _NUMBER.fullmatch(cells[0]):
        return "the file has the ten columns of CoNLL-U: name it .conllu (or --format)"
    if len(cells) != width:
        own = f"{len(cells)} column" + "s" * (len(cells) != 1)
        return f"has {own}, and the last line of the sentence {width}"
    if not cells[0] or not cells[-1]:
        return f"has an empty {'tag' if cells[0] else 'word'}"
    return ""


def _cells_of_conllu(group: list[_Line], name: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in group:
        cells = line.split("\t")
        if line.startswith("#"):
            continue
        kind = _NUMBER.fullmatch(cells[0])
        if len(cells) != len(OF_CONLLU) or not kind or not cells[1]:
            raise EncodaxError(
                f"{name}, line {number}: CoNLL-U needs ten columns with tabs between them, a "
                f"number first and then a word, not {line[:60]!r}"
            )
        if not kind.group(1):
            yield number, cells
