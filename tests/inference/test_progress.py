"""A bar where somebody watches, and nothing anywhere else."""

from __future__ import annotations

import io
import itertools
import sys

import pytest

from encodax.inference.progress import with_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [None, 3])
@pytest.mark.parametrize("shown", [None, False])
def test_nothing_is_shown_off_a_terminal(
    shown: bool | None, total: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(with_progress("abc", shown=shown, total=total)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [None, 3])
def test_a_terminal_is_told_how_many(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert list(with_progress("abc", total=total)) == ["a", "b", "c"]
    assert "3 texts" in screen.getvalue()
    before = screen.getvalue()
    assert list(with_progress("abc", shown=False, total=total)) == ["a", "b", "c"]
    assert screen.getvalue() == before


@pytest.mark.parametrize("shown", [None, False, True])
def test_items_are_taken_one_by_one(shown: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    source = itertools.count()
    passing = with_progress(source, shown=shown)
    assert list(itertools.islice(passing, 3)) == [0, 1, 2]
    assert next(source) == 3
