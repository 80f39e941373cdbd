"""Lists that a table cell holds as text: JSON, or as Python and NumPy print them."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
import tokenize
from typing import Any

from encodax.data.sources import Record
from encodax.errors import EncodaxError

_LONGEST = 1 << 20
"""Largest number of characters of a cell that Python's parser reads: it needs much memory."""
_OPENS = {"[": "]", "(": ")", "{": "}"}


def listed(value: str) -> list[Any] | None:
    """Parse the text of a list: `["x", "y"]`, `['x', 'y']`, `('x', 'y')`, `['x' 'y']`; or None.

    Nothing is ever run: only strings, numbers and brackets are read.
    """
    text = re.sub(r"\Aarray\((.*?)(,\s*dtype=[\w.<>']+)?\)\Z", r"\1", value.strip(), flags=re.S)
    if _OPENS.get(text[:1], "-") != text[-1:]:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _as_python(text)
    if isinstance(found, set | frozenset):
        return sorted(found, key=str)
    return list(found) if isinstance(found, list | tuple) else None


def _as_python(text: str) -> Any:
    """Parse the `repr` of Python, or of NumPy, which has no commas; None for anything else."""
    if len(text) > _LONGEST:
        return None
    try:
        words = [word for word in _words(text) if word.strip()]
        if len(words) > 2 and not any(word in ",[]{}():" for word in words[1:-1]):
            text = f"[{', '.join(words[1:-1])}]"  # NumPy's
        elif any(a[-1] in "'\"" and b[0] in "'\"" for a, b in itertools.pairwise(words)):
            return None  # two strings that Python would join
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
        return None


def _words(text: str) -> list[str]:
    return [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)]


def list_of(record: Record, name: str, *, wants: str) -> Any:
    """Return a field, parsed where it is the text of a list; other values unchanged.

    Args:
        record: the record.
        name: the field.
        wants: expected form for the error, such as `["x", "y"]`.

    Raises:
        EncodaxError: it is a text in brackets that is not a list.
    """
    value = record.fields.get(name)
    if not isinstance(value, str):
        return value
    found = listed(value)
    if found is None and value.strip()[:1] == "[" and value.strip()[-1:] == "]":
        shown = value if len(value) <= 60 else value[:59] + "…"
        raise EncodaxError(f"{record.where}: {name!r} is not a list: {shown!r}; write {wants}")
    return value if found is None else found
