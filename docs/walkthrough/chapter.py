"""What each chapter shows things with: a piece of the library as it stands, and a picture."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import HTML, Code


def source(thing: Callable[..., Any] | type, *, doc: bool = False) -> Code:
    """The source of a function, method or class of the library, read from where it is imported.

    Args:
        thing: what to show.
        doc: keep its docstring.
    """
    text = textwrap.dedent(inspect.getsource(thing))
    body = ast.parse(text).body[0].body  # type: ignore[attr-defined]
    if not doc and ast.get_docstring(ast.parse(text).body[0]) is not None:  # type: ignore[arg-type]
        lines = text.splitlines(keepends=True)
        text = "".join(lines[: body[0].lineno - 1] + lines[body[0].end_lineno :])
    return Code(text, language="python")


def picture(svg: str, caption: str) -> HTML:
    """A picture of `encodax.explore.figures` in the page, so that its colours follow the page's."""
    label = html.escape(caption)
    return HTML(f'<figure class="picture">{svg}<figcaption>{label}</figcaption></figure>')
