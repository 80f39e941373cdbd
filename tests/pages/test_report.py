"""The page is one HTML file: all there, escaped, and nothing from outside."""

import re
from html.parser import HTMLParser

import pytest

from encodax.pages import report
from encodax.types.batches import Span

EVIL = "<script>alert('x')</script> & \"y\""
DATE = report.TaggedText(
    "mardi 5 août 2031",
    (Span(6, 7, "day"), Span(8, 12, "month-8"), Span(13, 17, "year")),
    "French",
    "fr",
    (report.Remark("encoder", "2031-08-05", True), report.Remark("rules", "no date", False)),
)


def page(text: str = "text") -> report.Page:
    """A page with every kind of block, that says a text wherever it can."""
    tagged = report.TaggedText(
        text, (Span(0, 2, text),), text, text, (report.Remark(text, text, False),)
    )
    blocks = (
        report.Numbers(((text, text),)),
        report.Table(text, (text, text), ((text, text),)),
        report.Bars(
            text,
            (text, "a", "b"),
            (report.Bar(text, text, text, (0.5, None)), report.Bar("z", "", "z", (1.0, 0.0))),
        ),
        report.Pictures(text, ("<svg><title>picture</title></svg>",)),
        report.TaggedTexts(text, (tagged, DATE), ("day", "month", "year")),
        report.Quotations(text, (report.Quotation(text, text, text, text),)),
    )
    return report.Page(
        text, text, (report.Section(text, (text,), blocks),), report.Numbers(()), text
    )


class Elements(HTMLParser):
    """Notes every element, and that each that is opened is closed in order."""

    EMPTY = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    elements.close()
    assert elements.open == []
    return elements


def visible(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


def test_a_page_is_the_same_each_time() -> None:
    assert report.render(page()) == report.render(page())


@pytest.mark.parametrize("text", ["text", EVIL, "أغسطس", "", '" onload="x', "{{ page }}"])
def test_a_page_is_well_formed_whatever_it_says(text: str) -> None:
    elements = parsed(report.render(page(text)))
    assert "script" not in {tag for tag, _ in elements.seen}
    assert not any(name.startswith("on") for _, attributes in elements.seen for name in attributes)


def test_texts_are_escaped_and_all_there() -> None:
    html = report.render(page(EVIL))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10


def test_a_page_asks_for_nothing_outside() -> None:
    html = report.render(page())
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    for tag, attributes in parsed(html).seen:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not {"src", "href"} & attributes.keys()


def test_a_page_says_what_it_is_to_who_cannot_see_it() -> None:
    elements = parsed(report.render(page()))
    tags = [tag for tag, _ in elements.seen]
    assert tags.count("h1") == tags.count("main") == 1
    assert ("html", {"lang": "en"}) in elements.seen
    assert any(attributes.get("name") == "viewport" for _, attributes in elements.seen)
    labels = [attributes.get("aria-label") for _, attributes in elements.seen]
    assert ", right" in labels
    assert ", wrong" in labels


def test_pictures_are_not_escaped() -> None:
    assert "<svg><title>picture</title></svg>" in report.render(page())


def test_tags_stand_in_their_text() -> None:
    pieces = [("mardi ", None), ("5", "day"), (" ", None), ("août", "month-8")]
    assert list(DATE.pieces()) == [*pieces, (" ", None), ("2031", "year")]
    html = report.render(page())
    assert '<mark class="tag-1">août</mark><small dir="ltr" lang="en">month-8</small>' in html
    assert 'mardi <span class="tag"><mark class="tag-0">5</mark>' in html
    assert 'dir="ltr" lang="fr"' in html


def test_a_text_without_spans_and_one_that_ends_after_them() -> None:
    assert list(report.TaggedText("no date", ()).pieces()) == [("no date", None)]
    assert list(report.TaggedText("5.", (Span(0, 1, "day"),)).pieces()) == [
        ("5", "day"),
        (".", None),
    ]
    assert list(report.TaggedText("", ()).pieces()) == []


@pytest.mark.parametrize(
    ("text", "direction"),
    [("mardi 5", "ltr"), ("5 في", "rtl"), ("4 במרץ", "rtl"), ("2031", "ltr"), ("", "ltr")],
)
def test_a_text_runs_as_its_first_letter(text: str, direction: str) -> None:
    assert report.TaggedText(text, ()).direction == direction


def test_kinds_of_label_share_a_colour() -> None:
    texts = report.TaggedTexts("", (), ("day", "month", "year"))
    assert [texts.colour(label) for label in ("day", "month-1", "month-12", "year", "new")] == [
        0, 1, 1, 2, 3,
    ]  # fmt: skip


def test_bars_show_shares_and_what_was_not_measured() -> None:
    html = report.render(page())
    assert 'style="--share:0.5000"></span>50.0</td>' in html
    assert '<td class="series-1">–</td>' in html


@pytest.mark.parametrize(("count", "halves"), [(0, []), (1, [1]), (2, [1, 1]), (5, [3, 2])])
def test_bars_stand_in_two_columns(count: int, halves: list[int]) -> None:
    rows = tuple(report.Bar(str(index), "", "", (0.5,)) for index in range(count))
    assert [len(half) for half in report.Bars("", ("", "share"), rows).halves] == halves
