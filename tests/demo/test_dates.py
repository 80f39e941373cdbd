"""Dates written field by field are Babel's, their spans are exact, and the tags read back."""

import datetime
import itertools
from collections import Counter

import numpy as np
import pytest
from babel.dates import format_date

from encodax.demo.dates import (
    FIRST_DAY,
    LABELS,
    LANGUAGES,
    LAST_DAY,
    STYLES,
    DatedText,
    exact_match,
    read_date,
    sample,
    write_date,
)
from encodax.errors import EncodaxError
from encodax.types.batches import Span

CENTURY = (LAST_DAY - FIRST_DAY).days + 1
BY_STYLE = list(itertools.product(LANGUAGES, STYLES))


def random_dates(count: int, seed: int) -> list[datetime.date]:
    """Dates of the century, its first and last day and every month among them."""
    days = np.random.default_rng(seed).integers(CENTURY, size=count).tolist()
    months = [datetime.date(2000 + month, month, month) for month in range(1, 13)]
    return [FIRST_DAY, LAST_DAY, *months, *(FIRST_DAY + datetime.timedelta(day) for day in days)]


def tagged(written: DatedText) -> list[tuple[str, str]]:
    return [(written.text[span.start : span.end], span.label) for span in written.spans]


def test_languages_are_many_and_different() -> None:
    assert len(LANGUAGES) >= 60
    assert len(set(LANGUAGES)) == len(LANGUAGES)


def test_text_is_what_babel_writes() -> None:
    for (language, style), date in itertools.product(BY_STYLE, random_dates(40, seed=0)):
        written = write_date(date, language, style).text
        assert written == format_date(date, style, locale=language), (language, style)


def test_tags_read_back_to_the_date() -> None:
    for (language, style), date in itertools.product(BY_STYLE, random_dates(300, seed=1)):
        written = write_date(date, language, style)
        assert read_date(written.text, written.spans) == date.isoformat() == written.iso, written


def test_spans_are_day_month_and_year() -> None:
    for (language, style), date in itertools.product(BY_STYLE, random_dates(0, seed=2)):
        written = write_date(date, language, style)
        pieces = {label: piece for piece, label in tagged(written)}
        assert set(pieces) == {"day", f"month-{date.month}", "year"} <= set(LABELS)
        assert pieces["year"] == str(date.year)
        assert int(pieces["day"]) == date.day
        ends = [0, *(edge for span in written.spans for edge in (span.start, span.end))]
        assert ends == sorted(ends)
        assert ends[-1] <= len(written.text)


@pytest.mark.parametrize("year", [2012, 2013])
def test_a_text_has_one_reading_and_one_tagging(year: int) -> None:
    readings: dict[str, DatedText] = {}
    january = datetime.date(year, 1, 1)
    days = (january + datetime.timedelta(day) for day in range(365))
    for date, (language, style) in itertools.product(days, BY_STYLE):
        written = write_date(date, language, style)
        other = readings.setdefault(written.text, written)
        assert (other.iso, other.spans) == (written.iso, written.spans), (other, written)


@pytest.mark.parametrize(
    ("language", "style", "text", "tags"),
    [
        ("de", "medium", "05.08.2031", [("05", "day"), ("08", "month-8"), ("2031", "year")]),
        ("ja", "full", "2031年8月5日火曜日", [("2031", "year"), ("8", "month-8"), ("5", "day")]),
        ("he", "long", "5 באוגוסט 2031", [("5", "day"), ("אוגוסט", "month-8"), ("2031", "year")]),
        (
            "th",
            "full",
            "วันอังคารที่ 5 สิงหาคม ค.ศ. 2031",
            [("5", "day"), ("สิงหาคม", "month-8"), ("2031", "year")],
        ),
    ],
)
def test_known_dates(language: str, style: str, text: str, tags: list[tuple[str, str]]) -> None:
    written = write_date(datetime.date(2031, 8, 5), language, style)
    assert (written.text, tagged(written)) == (text, tags)


@pytest.mark.parametrize("date", [FIRST_DAY - datetime.timedelta(1), datetime.date(2050, 1, 1)])
def test_a_date_outside_the_century_is_refused(date: datetime.date) -> None:
    with pytest.raises(EncodaxError, match="is not from 1950-01-01 to 2049-12-31"):
        write_date(date, "en", "long")


def test_sample_is_fixed_by_its_seed() -> None:
    assert sample(2000, seed=3) == sample(2000, seed=3)
    assert sample(2000, seed=3)[:500] == sample(500, seed=3)
    assert sample(500, seed=3) != sample(500, seed=4)
    assert sample(0, seed=3) == []


def test_sample_has_no_text_twice_and_none_of_the_excluded() -> None:
    train = {written.text for written in sample(4000, seed=0)}
    assert len(train) == 4000
    evaluation = {written.text for written in sample(4000, seed=1, exclude=train)}
    assert len(evaluation) == 4000
    assert not train & evaluation


def test_sample_draws_evenly() -> None:
    drawn = sample(20_000, seed=5)
    for found, kinds in [
        ([written.language for written in drawn], len(LANGUAGES)),
        ([written.style for written in drawn], len(STYLES)),
        ([written.iso[:4] for written in drawn], 100),
        ([written.iso[5:7] for written in drawn], 12),
    ]:
        counts = Counter(found)
        assert len(counts) == kinds
        expected = len(drawn) / kinds
        for name, count in counts.items():
            # Five standard deviations, and a tenth for February and for texts that are shared.
            assert abs(count - expected) < 5 * expected**0.5 + 0.1 * expected, name


def test_sample_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(EncodaxError, match="4000000 dates and 0 excluded ones are more than"):
        sample(4_000_000, seed=0)


def test_sample_goes_on_where_all_that_its_seed_gave_is_excluded() -> None:
    train = sample(4000, seed=0)
    evaluation = sample(100, seed=0, exclude={written.text for written in train})
    assert not {written.text for written in evaluation} & {written.text for written in train}


DAY, MONTH, YEAR = Span(0, 1, "day"), Span(2, 3, "month-8"), Span(4, 8, "year")


@pytest.mark.parametrize(
    ("text", "spans", "iso"),
    [
        ("5 M 2031", (YEAR, DAY, MONTH), "2031-08-05"),
        ("५ M २०३१", (DAY, MONTH, YEAR), "2031-08-05"),
        ("๕ M ๒๐๓๑", (DAY, MONTH, YEAR), "2031-08-05"),
        ("5 M 2031", (), None),
        ("5 M 2031", (DAY, YEAR), None),
        ("5 M 2031", (DAY, MONTH, YEAR, Span(7, 8, "day")), None),
        ("5 M 2031", (DAY, MONTH, YEAR, Span(2, 3, "month-9")), None),
        ("x M 2031", (DAY, MONTH, YEAR), None),
        ("0 M 2031", (DAY, MONTH, YEAR), None),
        ("31 2031", (Span(0, 2, "day"), Span(2, 3, "month-2"), Span(3, 7, "year")), None),
        ("5 M 20319999", (DAY, MONTH, Span(4, 12, "year")), None),
        ("5 M " + "9" * 30, (DAY, MONTH, Span(4, 34, "year")), None),
    ],
)
def test_read_date(text: str, spans: tuple[Span, ...], iso: str | None) -> None:
    assert read_date(text, spans) == iso


def test_exact_match_counts_overall_and_by_language() -> None:
    date = datetime.date(2031, 8, 5)
    dated = [write_date(date, language, "long") for language in ("fr", "en", "fr", "fr")]
    match = exact_match(["2031-08-05", "2031-08-05", None, "2031-05-08"], dated)
    assert match.overall == 0.5
    assert match.by_language == {"en": 1.0, "fr": pytest.approx(1 / 3)}
    with pytest.raises(ValueError, match="longer"):
        exact_match([None], dated)
