"""Errors for users: one line that names the problem, the limit and the remedy."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONGEST_LINE = 2_000
"""Largest number of characters of a message: the middle of a longer one is left out."""
JOINERS = "\u200c\u200d"
"""Characters without a width that stay as they are: Persian words and emoji need them."""


def escape_invisible(text: str) -> str:
    r"""Return a text as one line in which every invisible character is an escape sequence.

    Escaped are control characters (a terminal would obey them), line ends, characters that change
    the direction of writing, and other characters without a width.

    >>> print(escape_invisible("a\x1b[31mb"))
    a\x1b[31mb
    """
    if text.isprintable():
        return text
    return "".join(repr(each)[1:-1] if _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS


class EncodaxError(ValueError):
    """Error that the caller can mend: a bad file, a bad argument, a text that is too long.

    The message is one line for people. The command line prints it and exits with code 2.
    """

    def __str__(self) -> str:
        """Return the message as one line, whatever a file, a label or a library has put into it."""
        line = escape_invisible(super().__str__())
        if len(line) <= LONGEST_LINE:
            return line
        end = LONGEST_LINE // 4  # the remedy is named at the end
        return f"{line[: LONGEST_LINE - end - 5]} ... {line[-end:]}"


class EmptyText(EncodaxError):
    """Error of a text without a token."""

    places: tuple[int, ...] = ()
    """Indices of the empty texts, where several were given."""

    @classmethod
    def of(cls, name: str, places: Sequence[int] = (), what: str = "the text") -> EmptyText:
        """Return the error for a text called `name`, or for several of which it is the first."""
        error = cls(f"{name}: {what} is empty")
        error.places = tuple(places)
        return error


class TooLong(EncodaxError):
    """Error of a text of more tokens than the model takes."""


@contextmanager
def library_errors(where: object) -> Iterator[None]:
    """Turn any error of a library over a user's file, Rust panics included, into an EncodaxError.

    Args:
        where: beginning of the message: the file, and the action that failed.

    Raises:
        EncodaxError: anything was raised, except what stops the process.
    """
    try:
        yield
    except EncodaxError:
        raise
    except BaseException as error:
        # A Rust panic is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise EncodaxError(f"{where}: {error_message(error)}") from error


def error_message(error: BaseException) -> str:
    """Return a library's message as one line; the name of the error's class where it is empty."""
    return " ".join(str(error).split()) or type(error).__name__
