"""`dateparser` reads the same texts, with and without being told the language."""

import datetime

import pytest

from encodax.demo.baseline import measure_dateparser, read_with_dateparser
from encodax.demo.dates import LANGUAGES, sample, write_date

TEXTS = ["5 août 2031", "2031年8月5日", "05.08.2031", "August 2031", "no date", ""]
ANSWERS = ["2031-08-05", "2031-08-05", "2031-08-05", None, None, None]


@pytest.mark.parametrize("languages", [None, LANGUAGES, ["fr", "ja"]])
def test_reads_whole_dates_only(languages: list[str] | None) -> None:
    assert read_with_dateparser(TEXTS, languages) == ANSWERS


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(ValueError, match="tlh"):
        read_with_dateparser(["5 August 2031"], ["tlh"])


def test_the_library_knows_every_language() -> None:
    for language in LANGUAGES:
        assert len(read_with_dateparser(["2031-08-05"], [language])) == 1


@pytest.mark.parametrize("tell_language", [False, True])
def test_measures_a_subsample(tell_language: bool) -> None:
    date = datetime.date(2031, 8, 5)
    dated = [write_date(date, language, "long") for language in ("en", "fr", "de", "ja")]
    measured = measure_dateparser(dated, limit=3, tell_language=tell_language)
    assert measured.count == 3
    assert measured.match.overall == 1.0
    assert set(measured.match.by_language) == {"en", "fr", "de"}
    assert measured.seconds > 0
    assert measured.texts_per_second == measured.count / measured.seconds


def test_reports_progress() -> None:
    reports: list[tuple[int, int]] = []
    dated = [written for written in sample(400, seed=0) if written.language == "en"] * 25
    dated = dated[:101]
    assert len(dated) == 101
    measure_dateparser(
        dated, tell_language=True, progress=lambda done, total: reports.append((done, total))
    )
    assert reports == [(100, 101), (101, 101)]
