"""HTML page from data: sections of numbers, tables, bars, figures, tagged texts, quotations.

The page is one file and fetches nothing. This module knows nothing of the content: its callers make
the sections. All text is escaped, except figures, which come from `diagrams`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jinja2

from encodax.errors import escape_invisible
from encodax.types.batches import Span

TEMPLATE = "report.html.jinja"
COLOURS = 6
"""Number of tag colours in the template; further kinds of labels reuse them."""

_STRONG = frozenset({"L", "R", "AL"})  # Unicode classes of letters that have a direction


def direction_of(text: str) -> str:
    """Return the direction of a text, `ltr` or `rtl`: that of its first letter.

    A browser's own detection would include labels, in Latin letters, in the text.
    """
    kinds = (unicodedata.bidirectional(character) for character in text)
    return "rtl" if next((kind for kind in kinds if kind in _STRONG), "L") != "L" else "ltr"


@dataclass(frozen=True)
class Numbers:
    """Most important numbers, in large print."""

    kind: ClassVar[str] = "numbers"
    items: tuple[tuple[str, str], ...]
    """(name, number) of each."""


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell of a row is its name."""

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    """Column titles; empty for a table of names and values."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """Row of bars."""

    name: str
    own_name: str
    """Name of the language in the language itself, or empty."""
    language: str
    """Code of the language, for screen readers."""
    shares: tuple[float | None, ...]
    """Shares from 0 to 1, one for each series; None if it was not measured."""


@dataclass(frozen=True)
class Bars:
    """Bar chart of many things, with one bar for each of several series."""

    kind: ClassVar[str] = "bars"
    caption: str
    head: tuple[str, ...]
    """Title of the names, and of each series."""
    rows: tuple[Bar, ...]

    @property
    def halves(self) -> tuple[tuple[Bar, ...], ...]:
        """Rows in two columns, for a wide page."""
        middle = (len(self.rows) + 1) // 2
        return tuple(half for half in (self.rows[:middle], self.rows[middle:]) if half)


@dataclass(frozen=True)
class Pictures:
    """SVG elements in a grid."""

    kind: ClassVar[str] = "pictures"
    caption: str
    svgs: tuple[str, ...]
    """SVG elements from `encodax.pages.diagrams`; they are not escaped."""
    is_small: bool = False
    """Whether four of them fit in a row, rather than two."""


@dataclass(frozen=True)
class Remark:
    """Remark about a text."""

    who: str
    text: str
    is_good: bool | None = None
    """Judgement: True for right, False for wrong, None for neither."""


@dataclass(frozen=True)
class TaggedText:
    """Text with coloured spans."""

    text: str
    spans: tuple[Span, ...]
    """Character spans, in order, without overlap."""
    heading: str = ""
    language: str = ""
    remarks: tuple[Remark, ...] = ()

    @property
    def direction(self) -> str:
        """Direction of the text, `ltr` or `rtl`."""
        return direction_of(self.text)

    def pieces(self) -> Iterator[tuple[str, str | None]]:
        """Yield the pieces of the text in order, each with its label, or None outside spans."""
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
    """Texts below each other, with one colour for each kind of label."""

    kind: ClassVar[str] = "texts"
    caption: str
    items: tuple[TaggedText, ...]
    kinds: tuple[str, ...]
    """Kinds of labels (the part before the hyphen), in the order of the colours."""

    def colour(self, label: str) -> int:
        """Return the colour of a label, by its kind: `month-1` and `month-2` have the same."""
        name = label.partition("-")[0]
        return (self.kinds.index(name) if name in self.kinds else len(self.kinds)) % COLOURS


@dataclass(frozen=True)
class Quotation:
    """Piece of a text: the snippet is visible at once, the rest on request."""

    source: str
    note: str
    snippet: str
    text: str


@dataclass(frozen=True)
class Quotations:
    """Pieces of texts below each other, in order, with their own heading."""

    kind: ClassVar[str] = "quotations"
    title: str
    items: tuple[Quotation, ...]


Block = Numbers | Table | Bars | Pictures | TaggedTexts | Quotations


@dataclass(frozen=True)
class Section:
    """Heading, paragraphs, and the blocks they describe."""

    title: str
    paragraphs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Page:
    """Complete page."""

    title: str
    introduction: str
    sections: Sequence[Section]
    highlights: Numbers | None = None
    footer: str = ""


def render(page: Page) -> str:
    """Return the page as HTML; equal data give equal bytes."""
    return from_template(TEMPLATE, page=page)


def _shown(value: Any) -> Any:
    """Make invisible characters of a text visible by escapes; HTML stays unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(escape_invisible, value.split("\n")))


def from_template(template: str, **values: Any) -> str:
    """Render a template of this folder, with texts escaped; a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
