"""A page of HTML from data: sections of numbers, tables, bars, pictures, tagged texts, quotations.

The page is one file and fetches nothing. It knows nothing of what it shows: whoever has something
to report makes the sections. All text is escaped, but for pictures, which come from `figures`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jinja2

from encodax.errors import plain
from encodax.types.batches import Span

TEMPLATE = "report.html.jinja"
COLOURS = 6
"""Colours of tags in the template; kinds of label beyond take them again."""

_STRONG = frozenset({"L", "R", "AL"})  # Unicode's classes of letters that have a direction


def direction_of(text: str) -> str:
    """Whether a text runs as `ltr` or `rtl`: the way of its first letter.

    A browser that looks for itself would take labels, in Latin letters, for a part of it.
    """
    kinds = (unicodedata.bidirectional(character) for character in text)
    return "rtl" if next((kind for kind in kinds if kind in _STRONG), "L") != "L" else "ltr"


@dataclass(frozen=True)
class Numbers:
    """A few numbers that matter most, large."""

    kind: ClassVar[str] = "numbers"
    items: tuple[tuple[str, str], ...]
    """(what, number) of each."""


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell of a row names it."""

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    """Empty for a table of names and values, which needs none."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A row of bars."""

    name: str
    own_name: str
    """The name in the language itself, or nothing."""
    language: str
    """Its code, for whoever reads the page aloud."""
    shares: tuple[float | None, ...]
    """From 0 to 1, one for each series; None for what was not measured."""


@dataclass(frozen=True)
class Bars:
    """Shares of several series beside each other, for many things."""

    kind: ClassVar[str] = "bars"
    caption: str
    head: tuple[str, ...]
    """What is named, and each series."""
    rows: tuple[Bar, ...]

    @property
    def halves(self) -> tuple[tuple[Bar, ...], ...]:
        """The rows in the two columns that a wide page has room for."""
        middle = (len(self.rows) + 1) // 2
        return tuple(half for half in (self.rows[:middle], self.rows[middle:]) if half)


@dataclass(frozen=True)
class Pictures:
    """SVG elements in a grid."""

    kind: ClassVar[str] = "pictures"
    caption: str
    svgs: tuple[str, ...]
    """From `encodax.pages.diagrams`: they are not escaped."""
    is_small: bool = False
    """Whether four of them have room in a row, rather than two."""


@dataclass(frozen=True)
class Remark:
    """What is said of a text."""

    who: str
    text: str
    is_good: bool | None = None
    """Right or wrong; None for neither."""


@dataclass(frozen=True)
class TaggedText:
    """A text with its spans in colour."""

    text: str
    spans: tuple[Span, ...]
    """Of characters, in order, without overlap."""
    heading: str = ""
    language: str = ""
    remarks: tuple[Remark, ...] = ()

    @property
    def direction(self) -> str:
        """Whether it runs as `ltr` or `rtl`."""
        return direction_of(self.text)

    def pieces(self) -> Iterator[tuple[str, str | None]]:
        """The text in order, each piece with its label, or None outside of spans."""
        end = 0
        for span in self.spans:
            if span.start > end:
                yield self.text[end : span.start], None
            yield self.text[span.start : span.end], span.label
            end = span.end
        if end < len(self.text):
            yield self.text[end:], None


@dataclass(frozen=True)
class TaggedTexts:
    """Texts under each other, with one colour for each kind of label."""

    kind: ClassVar[str] = "texts"
    caption: str
    items: tuple[TaggedText, ...]
    kinds: tuple[str, ...]
    """What comes before the hyphen of a label, in the order of the colours."""

    def colour(self, label: str) -> int:
        """Which colour a label has: `month-1` and `month-2` have the same."""
        name = label.partition("-")[0]
        return (self.kinds.index(name) if name in self.kinds else len(self.kinds)) % COLOURS


@dataclass(frozen=True)
class Quotation:
    """A piece of some text: one sentence of it at once, the rest for whoever asks."""

    source: str
    note: str
    snippet: str
    text: str


@dataclass(frozen=True)
class Quotations:
    """Pieces of text under each other, in order, under a heading of their own."""

    kind: ClassVar[str] = "quotations"
    title: str
    items: tuple[Quotation, ...]


Block = Numbers | Table | Bars | Pictures | TaggedTexts | Quotations


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and what they speak of."""

    title: str
    paragraphs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    introduction: str
    sections: Sequence[Section]
    highlights: Numbers | None = None
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML; the same data give the same bytes."""
    return from_template(TEMPLATE, page=page)


def _shown(value: Any) -> Any:
    """A text with escapes for what is no character to see; what is HTML already stays so."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(plain, value.split("\n")))


def from_template(template: str, **values: Any) -> str:
    """A template that stands beside this file, with texts escaped and no value left out."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
