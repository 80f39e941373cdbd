"""How the reference reads docstrings, which are written for a terminal.

They are plain text: paragraphs, lists with `-`, names in single backticks, Google's sections, and
indented lines that stand as they are. Here that becomes reStructuredText, and a name in backticks a
link where there is one thing that it can mean.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.roles import XRefRole
from sphinx.util.nodes import make_refnode

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
BEFORE = re.compile(r"^$|^[^-].*:$")
CODE = re.compile(r"(`[^`]*`)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
MARKUP = re.compile(r"[*|\\]|_(?=\W|$)")
"""What would be markup outside of backticks, and is a sign of mathematics or of a name there."""
SECTIONS = Config(napoleon_use_rtype=False)


def escaped(line: str) -> str:
    """A line of prose: its signs are taken as they are, and options of commands are code."""
    parts = CODE.split(line)
    for index in range(0, len(parts), 2):
        parts[index] = OPTION.sub(r"``\g<0>``", MARKUP.sub(r"\\\g<0>", parts[index]))
    return "".join(parts)


def marked_up(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText, with its sections as they were.

    Before the first section, lines that are indented after an empty line, or after one that ends
    in a colon, stand as they are.
    """
    found: list[str] = []
    is_literal = is_section = False
    for line in lines:
        is_section |= SECTION.match(line) is not None
        if line.strip():
            is_indented = line.startswith(" ") and not is_section
            if is_indented and not is_literal and BEFORE.search(found[-1]):
                found += ["", "::", ""]
                is_literal = True
            is_literal &= is_indented
        found.append(line if is_literal or line.lstrip().startswith(">>>") else escaped(line))
    return found


def read_docstring(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Turn the lines of a docstring into what Sphinx reads."""
    lines[:] = marked_up(lines)
    if what not in ("attribute", "data"):  # whose text has no sections, and may have a colon
        lines[:] = GoogleDocstring(lines, SECTIONS, app, what, name, thing, options).lines()


class Name(XRefRole):
    """A name in backticks: of a thing of the package, or of whatever else."""

    def process_link(
        self, env: BuildEnvironment, refnode: Any, has_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Remember where the name stands."""
        refnode["module"] = env.ref_context.get("py:module", "")
        refnode["class"] = env.ref_context.get("py:class", "")
        return title, target


def meaning(env: BuildEnvironment, node: Any) -> str | None:
    """The full name of what a name in backticks means: near by, or the one class so called."""
    known = env.domains.python_domain.objects
    target, module = node["reftarget"].removesuffix("()"), node["module"]
    for home in (f"{module}.{node['class']}", module, "encodax"):
        if f"{home}.{target}" in known:
            return f"{home}.{target}"
    if not re.match(r"[A-Z]\w+(\.\w+)*$|[a-z]\w+(\.\w+)+$", target):
        return target if target in known else None
    found = [name for name in known if name.endswith(f".{target}")]
    return found[0] if len(found) == 1 else None


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, text: nodes.Node) -> nodes.Node:
    """A link to what a name means; the name alone where that is not clear."""
    if node["reftype"] != "name":
        return None  # type: ignore[return-value]
    name = meaning(env, node)
    if name is None:
        return text
    entry = env.domains.python_domain.objects[name]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, text, name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.add_role("name", Name(nodeclass=addnodes.pending_xref, innernodeclass=nodes.literal))
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
