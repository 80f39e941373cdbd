"""What each chapter shows things with: the library's source, pictures, tables, a text, a model."""

from __future__ import annotations

import ast
import codecs
import contextlib
import html
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import haiku as hk
from IPython.display import HTML, Code

import encodax
from encodax.demo.answers import find_model


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


def picture(svg: str | Sequence[str], caption: str) -> HTML:
    """Pictures of `encodax.pages.diagrams` in the page, so that their colours follow the page's.

    Args:
        svg: one picture, or several to stand side by side where there is room.
        caption: what is seen.
    """
    drawn = svg if isinstance(svg, str) else "".join(f"<div>{one}</div>" for one in svg)
    label = html.escape(caption)
    return HTML(
        f'<figure class="picture"><div class="drawn">{drawn}</div>'
        f"<figcaption>{label}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> HTML:
    """Rows of values under their names."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return HTML(
        '<div class="table-wrapper"><table class="docutils">'
        f"<thead>{line('th', header)}</thead><tbody>{body}</tbody></table></div>"
    )


def zen_of_python() -> list[str]:
    """The lines of the poem that every Python carries, its title first."""
    with contextlib.redirect_stdout(None):  # importing it prints it
        import this
    return [line for line in codecs.decode(this.s, "rot13").splitlines() if line]


def minilm() -> encodax.Model:
    """all-MiniLM-L6-v2: from the package that `make setup` installs, or else from the hub."""
    try:
        directory = find_model()
    except encodax.EncodaxError:
        return encodax.load("sentence-transformers/all-MiniLM-L6-v2")
    return encodax.load(directory)


def seen(
    model: encodax.Model, batch: encodax.PackedBatch, kind: type[hk.Module]
) -> dict[str, tuple[Any, Any]]:
    """What each module of a kind is given when a model runs, and what it gives; a module is before
    those inside it."""
    kept: dict[str, tuple[Any, Any]] = {}

    def keep(run: Any, arguments: Any, options: Any, context: hk.MethodContext) -> Any:
        if not isinstance(context.module, kind) or context.method_name != "__call__":
            return run(*arguments, **options)
        name = context.module.module_name
        kept[name] = arguments[0], None
        kept[name] = arguments[0], run(*arguments, **options)
        return kept[name][1]

    with hk.intercept_methods(keep):
        model.apply(model.params, batch)
    return kept
