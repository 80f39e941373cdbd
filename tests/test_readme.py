"""The README's tree names every file; its examples run with those of docs/."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tree_names_every_file_of_the_package() -> None:
    blocks = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    (tree,) = (content for content in blocks if content.startswith("src/"))
    named = set(re.findall(r"[\w.]+\.(?:py|jinja)\b", tree))
    there = {
        path.name
        for path in (ROOT / "src").rglob("*")
        if path.suffix in (".py", ".jinja") and path.name != "__init__.py"
    }
    assert there - named == set()
    assert named - there - {"__init__.py"} == set()
