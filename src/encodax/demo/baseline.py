"""Baseline: the same dates with `dateparser`, a library of rules for dates in 200 languages."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from dateparser.date import DateDataParser

from encodax.demo.dates import LANGUAGES, DatedText, ExactMatch, exact_match

SETTINGS = {
    # Without it, missing parts are filled in from today's date, which is never right here.
    "REQUIRE_PARTS": ["day", "month", "year"],
    # Order of the numbers if no word identifies the language: that of most languages. The default
    # is the American order.
    "DATE_ORDER": "DMY",
}
"""Settings of a user who knows that the texts are whole dates in many languages. With dateparser
1.5.0, 92.4 % of 3,000 texts of `sample` were read correctly, and 90.6 % with its defaults. Neither
`STRICT_PARSING` instead of `REQUIRE_PARTS` nor `PARSERS` with only "absolute-time" changed that,
and their speed was the same within the noise."""

_CHUNK = 100  # texts between two progress reports
_WARM_UP = "no language has this word"  # is tried in every language, which loads them all


@dataclass(frozen=True)
class Measurement:
    """Accuracy and speed of reading dates."""

    match: ExactMatch
    count: int
    """Number of texts read."""
    seconds: float
    """Wall-clock time of reading, without loading the languages."""

    @property
    def texts_per_second(self) -> float:
        """Number of texts read per second."""
        return self.count / self.seconds


def read_with_dateparser(
    texts: Sequence[str], languages: Sequence[str] | None = None
) -> list[str | None]:
    """Return the date of each text as YYYY-MM-DD, or None if the library finds none.

    Args:
        texts: one date each.
        languages: identifiers of the languages that the texts may be in; all languages of the
            library by default.

    Raises:
        ValueError: the library does not have one of the languages.
    """
    parser = _parser(None if languages is None else tuple(languages))
    with warnings.catch_warnings():
        # Its warnings (about time zones, for example) do not affect any answer.
        warnings.simplefilter("ignore")
        found = [parser.get_date_data(text).date_obj for text in texts]
    return [None if date is None else date.date().isoformat() for date in found]


@cache
def _parser(languages: tuple[str, ...] | None) -> DateDataParser:
    """Return a cached parser, because creating one takes longer than reading a date."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DateDataParser(languages=languages, settings=SETTINGS)


def measure_dateparser(
    dated: Sequence[DatedText],
    *,
    limit: int | None = None,
    tell_language: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measure exact match and speed of `dateparser`, in this process, on one core.

    The library is given the set of languages, which the encoder also knows, from its training. This
    helps the library: without, it was right on 92.2 % instead of 92.4 %, and slower.

    Args:
        dated: the texts, at least one, in a random order, such as from `sample`.
        limit: number of texts to read, the first ones; None for all.
        tell_language: whether to give the library the language of each text, which the encoder
            never gets: about six times faster, but right on 91.3 %, because its "yue" reads no such
            date, which its "zh" does.
        progress: called from time to time with the number of texts read and of all texts.
    """
    dated = dated[:limit]
    read = _read_with_language if tell_language else _read_without_language
    languages = {written.language for written in dated}
    read([DatedText(_WARM_UP, (), "", language, "") for language in languages])
    answers: list[str | None] = []
    seconds = 0.0
    for start in range(0, len(dated), _CHUNK):
        began = time.perf_counter()
        answers += read(dated[start : start + _CHUNK])
        seconds += time.perf_counter() - began
        if progress is not None:
            progress(len(answers), len(dated))
    return Measurement(exact_match(answers, dated), len(answers), seconds)


def _read_without_language(dated: Sequence[DatedText]) -> list[str | None]:
    return read_with_dateparser([written.text for written in dated], LANGUAGES)


def _read_with_language(dated: Sequence[DatedText]) -> list[str | None]:
    return [read_with_dateparser([written.text], [written.language])[0] for written in dated]
