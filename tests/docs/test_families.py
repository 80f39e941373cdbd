"""The first table of docs/families.md says what the tables below it say."""

from __future__ import annotations

import re
from pathlib import Path

from encodax.families import ENCODERS, SEQ2SEQ

PAGE = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
FIRST, BELOW = PAGE.split("## There and back")
FIGURE = re.compile(r"\d\.\de-\d\d")
NATIVE = {"encodax", "encodax-seq2seq"}


def figures_of(text: str) -> dict[str, list[float]]:
    """The differences in each family's rows."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        if (row := re.match(r"\| ([a-z_]+[\w-]*)", line)) and (numbers := FIGURE.findall(line)):
            found.setdefault(row[1], []).extend(map(float, numbers))
    return found


def test_the_largest_difference_is_that_of_all_tables() -> None:
    below = figures_of(BELOW)
    first = figures_of(FIRST)
    assert first == {family: [max(below[family])] for family in first}


def test_every_family_is_there() -> None:
    known = {*ENCODERS.by_name, *SEQ2SEQ.by_name} - NATIVE
    assert {*figures_of(FIRST)} - {"deberta-v3"} == known  # a set of options of deberta-v2
