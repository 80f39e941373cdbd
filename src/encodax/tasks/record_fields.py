"""Texts in the fields of a record."""

from __future__ import annotations

from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.text.tokenizer import Text, check_unicode

LONGEST_SHOWN = 80
"""Maximum number of characters of a value that an error shows."""


def text_of(record: Record, names: tuple[str, str] = ("text", "text_pair")) -> Text:
    """Return the text, or pair of texts, of a record, from the fields with these names.

    Raises:
        EncodaxError: there is no text, or it is not a string, or is empty.
    """
    first, second = names
    text = string_of(record, first)
    return (text, string_of(record, second)) if second in record.fields else text


def string_of(record: Record, name: str) -> str:
    """Return the text in the field `name` of a record.

    Raises:
        EncodaxError: there is no text, or it is not a string, or is empty.
    """
    if name not in record.fields:
        raise EncodaxError(f"{record.where}: no field {name!r}{instead_of(record, name)}")
    text = record.fields[name]
    if not isinstance(text, str):
        kind = EncodaxError if text is not None else EmptyText
        what = f" (a {type(text).__name__}, in the field {name!r}): make it a string"
        column = what if text is not None else ""
        raise kind(f"{record.where}: a text is a string, not {_shortened(repr(text))}{column}")
    if not text.strip():
        raise EmptyText.of(record.where)
    check_unicode(text, record.where)
    return text


def instead_of(record: Record, name: str) -> str:
    """Return the end of an error about a missing field or a wrong value: what the record has."""
    if name in record.fields:
        return f", not {_shortened(repr(record.fields[name]))}"
    known = ", ".join(map(str, record.fields)) or "nothing"
    return f" (found: {known}); if it has another name: --columns {name}=NAME"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
