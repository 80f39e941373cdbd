"""The one error that reaches a user: a line that names the thing, the limit and the way out."""

from __future__ import annotations

from collections.abc import Sequence


class EncodaxError(ValueError):
    """Something the caller can mend: a bad file, a bad argument, a text that is too long.

    The message is one line for people. The command line prints it and exits with code 2.
    """


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
