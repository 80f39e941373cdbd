"""`encodax explore`: a page and its name, or one line that says what cannot be."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import pytest
from commands import Call, Outcome, assert_refused, call, real
from toys import snapshot, writer

from encodax import Inspector
from encodax.cli import look
from encodax.models.encoder_model import Model
from encodax.pages.explorer import page as explorer

__all__ = ["call"]

TEXT = "the cat <ran> & \u202esat"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    """A folder of models that have learned nothing."""
    site = tmp_path_factory.mktemp("site")
    tiny_model.save(site / "model")
    tiny_model.with_head("span").save(site / "questions")
    tiny_model.with_head("token", labels=("O", "B-a", "I-a")).save(site / "tags")
    writer().save(site / "writer")
    (site / "empty").mkdir()
    return site


def page_of(site: Path, model: str, *texts: str, **choices: Any) -> str:
    found = Inspector.load(site / model, **choices).inspect(*texts)
    return explorer.render(found, model=model)


# What it is for: twice in a process of its own.


def test_a_pipe_becomes_a_page(site: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    given = {"stdin": None, "input": f"{TEXT}\n".encode()}
    outcome = real(site, "explore", "model", "-", "--output", str(page), **given)
    assert outcome == Outcome(0, f"{page}\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "<title>Inside model</title>" in page.read_text(encoding="utf-8")


def test_a_page_goes_to_a_pipe(site: Path) -> None:
    outcome = real(site, "explore", "model", TEXT, "--steps=1", "--output", "-")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("<!doctype html>")
    assert outcome.out.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("model", "texts", "choices"),
    [
        ("model", [TEXT, "a dog"], {"steps": 2}),
        ("questions", ["what ran?", TEXT], {"steps": 0}),
        ("writer", ["abc", "CBA"], {"steps": 1, "top_k": 3}),
    ],
)
def test_the_page_is_that_of_the_inspector(
    call: Call, site: Path, tmp_path: Path, model: str, texts: list[str], choices: dict[str, int]
) -> None:
    page = tmp_path / "page.html"
    options = [
        part for name, value in choices.items() for part in (f"--{name}".replace("_", "-"), value)
    ]
    outcome = call("explore", f"{model}/", *texts, "--output", str(page), *map(str, options))
    assert outcome == Outcome(0, f"{page}\n", "")
    assert page.read_text(encoding="utf-8") == page_of(site, model, *texts, **choices)


def test_the_page_has_a_usual_name(call: Call, site: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        outcome = call("explore", str(site / "model"), TEXT, "--steps", "0")
    assert outcome == Outcome(0, "explorer.html\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["explorer.html"]


def test_the_page_is_shown_where_that_is_asked_for(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    page = tmp_path / "a page.html"
    arguments = ["explore", "model", TEXT, "--steps", "0", "--output", str(page)]
    assert call(*arguments) == Outcome(0, f"{page}\n", "")
    assert shown == []
    assert call(*arguments, "--open") == Outcome(0, f"{page}\n", "")
    assert shown == [page.as_uri()]


def test_a_long_text_is_cut_where_that_is_asked_for(call: Call, site: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ["explore", "model", "cat " * 40, "--steps", "0", "--output", str(page)]
    assert_refused(call(*arguments), r"the text: \d+ tokens, and the model takes 32; .*--truncate")
    assert not page.exists()
    assert call(*arguments, "--truncate").code == 0
    assert page.is_file()


# What cannot be: once in a process of its own, after the file was begun.


def test_what_cannot_be_is_one_line_and_leaves_no_file(site: Path) -> None:
    before = snapshot(site)
    outcome = real(site, "explore", "questions", "who?", "--output", "page.html")
    assert_refused(outcome, "the model answers questions: give a question and a context")
    assert snapshot(site) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", TEXT, "--open", "--output", "-"], "--open needs a file to show: --output page"),
        (["nothing", TEXT], "nothing is no directory here, and cannot be fetched from the hub"),
        (["empty", TEXT], "empty/config.json does not exist"),
        (["model", " "], "the text: the text is empty"),
        (["tags", TEXT, "a dog"], "token classification takes one text, not a pair"),
        (["questions", TEXT, " "], "the context is empty"),
        (["writer", "abc", ""], "the target of the text: the text is empty"),
        (
            ["model", TEXT, "--output", "no/page.html"],
            "no/page.html cannot be written: there is no folder",
        ),
        (["model", TEXT, "--output", "."], r"\. is a folder: name a file in it"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Call, site: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = snapshot(site)
    assert_refused(call("explore", *arguments), message)
    assert snapshot(site) == before


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"caf\xe9", "standard input, line 1: not UTF-8; convert it, as in: iconv -f latin1 -t"),
        ("a cat".encode("utf-16"), "line 1: not UTF-8 but UTF-16; convert it, .* -f utf-16 -t"),
        (
            b"BZh91AY&SY\xb5\x02",
            r"line 1: not UTF-8: the file is packed \(bzip2\); unpack it first",
        ),
        (b"", "the text: the text is empty"),
        ("é".encode() * 51, "standard input has more than 50 characters: give a part of it"),
        (b"a" * 50, "the text: 52 tokens, and the model takes 32"),
    ],
)
def test_standard_input_that_cannot_be_read_is_refused(
    call: Call, site: Path, monkeypatch: pytest.MonkeyPatch, stdin: bytes, message: str
) -> None:
    monkeypatch.setattr(look, "LONGEST_READ", 50)
    before = snapshot(site)
    assert_refused(call("explore", "model", "-", stdin=stdin), message)
    assert snapshot(site) == before


def test_a_megabyte_is_refused(call: Call, site: Path) -> None:
    before = snapshot(site)
    outcome = call("explore", "model", "-", stdin=b"a cat " * 170_000)
    assert_refused(outcome, "standard input has more than 500,000 characters: give a part of it")
    outcome = call("explore", "model", "-", stdin=b"a cat " * 80_000)
    assert_refused(outcome, r"the text: \d+ tokens, and the model takes 32")
    assert snapshot(site) == before
