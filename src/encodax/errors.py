"""The one error that reaches a user: a line that names the thing, the limit and the way out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONGEST_LINE = 2_000
"""Characters of a message, at most: of a longer one the middle is left out."""
JOINERS = "\u200c\u200d"
"""They have no width, and words of Persian and of emoji are written with them."""


def plain(text: str) -> str:
    r"""Return a text as one line that shows all of it: what is no character to see is an escape.

    That is control characters (a terminal would obey them), ends of lines, what changes the
    direction of writing, and other characters without a width.

    >>> print(plain("a\x1b[31mb"))
    a\x1b[31mb
    """
    if text.isprintable():
        return text
    return "".join(repr(each)[1:-1] if _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS


class EncodaxError(ValueError):
    """Something the caller can mend: a bad file, a bad argument, a text that is too long.

    The message is one line for people. The command line prints it and exits with code 2.
    """

    def __str__(self) -> str:
        """The message as one line, whatever a file, a label or a library has put into it."""
        line = plain(super().__str__())
        if len(line) <= LONGEST_LINE:
            return line
        end = LONGEST_LINE // 4  # where the way out stands
        return f"{line[: LONGEST_LINE - end - 5]} ... {line[-end:]}"


class EmptyText(EncodaxError):
    """A text that gives no token: there is nothing to look at."""

    places: tuple[int, ...] = ()
    """Which texts are so, where several were given."""

    @classmethod
    def of(cls, name: str, places: Sequence[int] = (), what: str = "the text") -> EmptyText:
        """The error of a text, or of several of which the first is called so."""
        error = cls(f"{name}: {what} is empty")
        error.places = tuple(places)
        return error


class TooLong(EncodaxError):
    """A text of more tokens than the model takes."""


@contextmanager
def library_errors(where: object) -> Iterator[None]:
    """Turn what a library raises over a user's file, panics of Rust too, into an error of one line.

    Args:
        where: what the message begins with: the file, and what cannot be done with it.

    Raises:
        EncodaxError: anything was raised, but what stops the process.
    """
    try:
        yield
    except EncodaxError:
        raise
    except BaseException as error:
        # A panic is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise EncodaxError(f"{where}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return what a library says, as one line; the kind of its error where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
