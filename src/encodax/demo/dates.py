"""Dates in many languages, with the positions of day, month and year.

Nothing is downloaded: Babel contains, from the Unicode CLDR, how each language writes a date in
several styles, and its names of months and weekdays. A date is written here field by field, so the
character span of each field is exact by construction:

    >>> written = write_date(datetime.date(2031, 8, 5), "fr", "full")
    >>> written.text
    'mardi 5 août 2031'
    >>> [(written.text[span.start : span.end], span.label) for span in written.spans]
    [('5', 'day'), ('août', 'month-8'), ('2031', 'year')]
    >>> read_date(written.text, written.spans)
    '2031-08-05'
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache

import numpy as np
from babel import Locale
from babel.dates import DateTimeFormat, tokenize_pattern

from encodax.errors import EncodaxError
from encodax.types.batches import Span

# fmt: off
LANGUAGES = (
    "en", "ru", "es", "fr", "de", "ja", "tr", "pt", "fa", "it", "zh", "nl", "vi", "pl", "ar", "ko",
    "cs", "id", "uk", "el", "he", "th", "sv", "ro", "hu", "da", "fi", "sk", "bg", "sr", "nb", "hr",
    "lt", "sl", "ca", "et", "lv", "hi", "bn", "ur", "sw", "ta", "yue", "fil", "ps", "my", "am",
    "uz", "yo", "ms", "ne", "so", "si", "km", "kk", "be", "az", "sq", "hy", "lo", "ka", "bs", "mn",
    "ky", "mk", "nn", "ga", "is",
)
# fmt: on
"""68 locale identifiers of Babel: exactly the languages for which all of these hold.

- the CLDR covers it at its highest level, "modern" (`coverageLevels.json`), so that Babel has
  patterns and names for it instead of falling back to `M08`;
- it is official, by law or in fact, in a whole country or territory
  (`babel.languages.get_official_languages(territory, de_facto=True)`);
- the `dateparser` library lists it (`dateparser.data.languages_info`), so that the comparison in
  `baseline` is fair. The order is that library's: the most common on the Web first;
- in every style it has twelve different months and a complete year of the Gregorian calendar.

The choice does not depend on how well any program reads a language. Each language occurs once, in
its usual script.
"""

STYLES = ("medium", "long", "full")
"""Date styles of the CLDR: "5 Aug 2031" or "05.08.2031", "5 August 2031", "Tuesday, 5 August
2031". `short` is left out, because it shows two digits of the year."""

LABELS = ("day", "year", *(f"month-{number}" for number in range(1, 13)))
"""Labels of spans. Weekday, era and punctuation have none."""

FIRST_DAY = datetime.date(1950, 1, 1)
LAST_DAY = datetime.date(2049, 12, 31)

_DRAWS = 1024  # number of dates that `sample` draws at once; results for a seed depend on it


@dataclass(frozen=True)
class DatedText:
    """Written date with its meaning."""

    text: str
    """Date as the language writes it."""
    spans: tuple[Span, ...]
    """Day, month and year, in the order of the text; offsets count characters."""
    iso: str
    """Date as YYYY-MM-DD."""
    language: str
    """Language, one of `LANGUAGES`."""
    style: str
    """Style, one of `STYLES`."""


@dataclass(frozen=True)
class ExactMatch:
    """Shares of dates, from 0 to 1, that were read exactly right: day, month and year."""

    overall: float
    by_language: dict[str, float]


@dataclass(frozen=True)
class _Field:
    """Field of a pattern in one language, such as `MMMM`."""

    value: Callable[[datetime.date], int]
    """Function that returns the number in a date that the field shows."""
    names: Mapping[int, str]
    """Text of each value."""
    label: str | None
    """Label of its span, with `{}` for the value; None if it needs no label."""


_VALUES: dict[str, Callable[[datetime.date], int]] = {
    "y": lambda date: date.year,
    "M": lambda date: date.month,
    "L": lambda date: date.month,  # a month without a day; some languages have another form for it
    "d": lambda date: date.day,
    "E": lambda date: date.weekday(),
    "c": lambda date: date.weekday(),  # a weekday without a date
    "G": lambda date: 1,  # the era: all these dates are in the same one
}
_FIELD_LABELS = {"y": "year", "M": "month-{}", "L": "month-{}", "d": "day"}

_DATES_OF_EVERY_VALUE = (
    *(datetime.date(2000, 1, day) for day in range(1, 32)),
    *(datetime.date(2000, month, 1) for month in range(1, 13)),
    *(datetime.date(year, 1, 1) for year in range(FIRST_DAY.year, LAST_DAY.year + 1)),
)


def write_date(date: datetime.date, language: str, style: str) -> DatedText:
    """Write a date as `babel.dates.format_date(date, style, language)` does, with its spans.

    Args:
        date: the date, from `FIRST_DAY` to `LAST_DAY`.
        language: a locale identifier of Babel, such as those of `LANGUAGES`.
        style: one of `STYLES`.

    Raises:
        EncodaxError: the date is outside the demo's century.
    """
    if not FIRST_DAY <= date <= LAST_DAY:
        raise EncodaxError(f"{date} is not from {FIRST_DAY} to {LAST_DAY}")
    text = ""
    spans = []
    for piece in _pieces(language, style):
        if isinstance(piece, str):
            text += piece
            continue
        value = piece.value(date)
        start = len(text)
        text += piece.names[value]
        if piece.label is not None:
            spans.append(Span(start, len(text), piece.label.format(value)))
    return DatedText(text, tuple(spans), date.isoformat(), language, style)


@cache
def _pieces(language: str, style: str) -> tuple[str | _Field, ...]:
    """Return the pattern of a style as literal texts and fields, in order."""
    pattern = Locale.parse(language).date_formats[style].pattern
    return tuple(
        _field(language, *value) if isinstance(value, tuple) else value
        for _, value in tokenize_pattern(pattern)
    )


@cache
def _field(language: str, letter: str, width: int) -> _Field:
    """Return the field of a pattern with all its texts, cached because Babel is slow."""
    locale = Locale.parse(language)
    value = _VALUES[letter]
    names = {
        value(date): DateTimeFormat(date, locale)[letter * width] for date in _DATES_OF_EVERY_VALUE
    }
    return _Field(value, names, _FIELD_LABELS.get(letter))


def sample(count: int, *, seed: int, exclude: AbstractSet[str] = frozenset()) -> list[DatedText]:
    """Draw dates with language, style and day uniform, without repeating a text.

    For an evaluation on texts never seen in training, pass the training texts as `exclude`.

    A text is unambiguous: among all 7,451,100 dates in these languages and styles, equal texts are
    always the same day, because these styles name the month or agree on the order of the numbers
    (day, month, year, or the reverse if the year comes first). About a seventh are texts that
    languages or styles share; the first one drawn sets the language.

    Args:
        count: number of dates.
        seed: random seed; the same seed gives the same list, and a longer list starts with the
            shorter one.
        exclude: texts to leave out.

    Raises:
        EncodaxError: `count` and `exclude` together are over half of all dates (3,725,550).
    """
    generator = np.random.default_rng(seed)
    sizes = (len(LANGUAGES), len(STYLES), (LAST_DAY - FIRST_DAY).days + 1)
    limit = math.prod(sizes) // 2  # far below the number of texts, so that drawing ends
    if count + len(exclude) > limit:
        raise EncodaxError(f"{count} dates and {len(exclude)} excluded ones are more than {limit}")
    drawn: dict[str, DatedText] = {}
    while len(drawn) < count:
        for language, style, days in generator.integers(sizes, size=(_DRAWS, 3)).tolist():
            date = FIRST_DAY + datetime.timedelta(days)
            written = write_date(date, LANGUAGES[language], STYLES[style])
            if written.text not in exclude:
                drawn.setdefault(written.text, written)
    return list(drawn.values())[:count]


def read_date(text: str, spans: Iterable[Span]) -> str | None:
    """Return the date in labelled spans of a text as YYYY-MM-DD; digits of any script are read.

    Returns None if day, month or year is missing, duplicate or not a number, or is not a valid
    date.
    """
    parts: dict[str, str] = {}
    for span in spans:
        part, _, month = span.label.partition("-")
        if part in parts:
            return None
        parts[part] = month or text[span.start : span.end]
    try:
        year, month_number, day = (int(parts[part]) for part in ("year", "month", "day"))
        return datetime.date(year, month_number, day).isoformat()
    except (KeyError, ValueError, OverflowError):
        return None


def exact_match(answers: Sequence[str | None], dated: Sequence[DatedText]) -> ExactMatch:
    """Return the share of answers that are the written date, overall and for each language.

    Args:
        answers: the date of each text as YYYY-MM-DD, or None for no answer, which is wrong.
        dated: the texts, at least one.
    """
    by_language: defaultdict[str, list[bool]] = defaultdict(list)
    for answer, written in zip(answers, dated, strict=True):
        by_language[written.language].append(answer == written.iso)
    right = [is_right for answered in by_language.values() for is_right in answered]
    return ExactMatch(
        overall=sum(right) / len(right),
        by_language={
            language: sum(answered) / len(answered)
            for language, answered in sorted(by_language.items())
        },
    )
