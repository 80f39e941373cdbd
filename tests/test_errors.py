"""Errors are one line, whatever text they contain."""

from __future__ import annotations

import pickle

import pytest

from encodax.errors import (
    LONGEST_LINE,
    EmptyText,
    EncodaxError,
    error_message,
    escape_invisible,
    library_errors,
)

HIDDEN = {
    "\x1b[31m": "\\x1b[31m",
    "\x07": "\\x07",
    "\r": "\\r",
    "\n": "\\n",
    "\x00": "\\x00",
    "\x7f": "\\x7f",
    "\x9b31m": "\\x9b31m",
    "\u202e": "\\u202e",
    "\u2028": "\\u2028",
    "\u2066": "\\u2066",
    "\u200b": "\\u200b",
    "\ufeff": "\\ufeff",
    "\ud800": "\\ud800",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize(("sign", "shown"), HIDDEN.items(), ids=map(ascii, HIDDEN))
def test_what_is_no_character_to_see_is_an_escape(sign: str, shown: str) -> None:
    assert escape_invisible(f"a{sign}b") == f"a{shown}b"
    assert str(EncodaxError(f"no file a{sign}b")) == f"no file a{shown}b"
    assert escape_invisible(escape_invisible(f"a{sign}b")) == escape_invisible(f"a{sign}b")


@pytest.mark.parametrize(
    "text", ["[/b]", "[red]x[/red]", "a\\b", "\u00e9\u4e2d", "a\u00a0b", "\u0645\u06cc\u200c\u062e"]
)
def test_all_else_stays(text: str) -> None:
    assert escape_invisible(text) == text


def test_of_a_long_message_beginning_and_end_are_kept() -> None:
    message = str(EncodaxError(f"file {'x' * 9_000}: too long; cut it"))
    assert len(message) == LONGEST_LINE
    assert message.startswith("file xxx") and " ... " in message
    assert message.endswith("x: too long; cut it")


def test_an_error_goes_through_a_pipe() -> None:
    error = pickle.loads(pickle.dumps(EncodaxError("a\nb")))
    assert str(error) == "a\\nb"
    assert str(EmptyText.of("line\x1b 3")) == "line\\x1b 3: the text is empty"


def test_what_a_library_says_is_one_line_and_its_kind_where_it_says_nothing() -> None:
    assert error_message(ValueError(" two\n  lines ")) == "two lines"
    with pytest.raises(EncodaxError, match=r"^f: KeyError$"), library_errors("f"):
        raise KeyError
    with pytest.raises(EncodaxError, match=r"^as it was$"), library_errors("f"):
        raise EncodaxError("as it was")
