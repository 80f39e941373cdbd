"""Everything public has a docstring, and every module a place in the reference."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import public_names
import pytest

import encodax

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
ORDER = re.search(r"toctree.*?\n\n(.*?)```", (REFERENCE / "index.md").read_text(), re.DOTALL)[1]  # type: ignore[index]
PAGES = {name: (REFERENCE / f"{name}.md").read_text(encoding="utf-8") for name in ORDER.split()}
PLACES = {
    module: page
    for page, text in PAGES.items()
    for module in re.findall(r"automodule:: (\S+)", text)
}


def test_every_module_is_on_a_page() -> None:
    # Its commands are the page `command_line`.
    rooms = ("encodax.__main__", "encodax.cli")
    elsewhere = {module for module in public_names.modules() if module.startswith(rooms)}
    assert set(public_names.modules()) - elsewhere == set(PLACES)


def test_pages_stand_in_the_order_of_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"][1:]  # beside `__main__`
    places = [{list(PAGES).index(page) for page in pages_of(layer)} for layer in layers]
    for above, below in itertools.pairwise(places):
        assert max(above) <= max(below)
        assert min(above) <= min(below)


def pages_of(layer: str) -> set[str]:
    rooms = {f"encodax.{room}" for room in layer.split(" | ")}
    pages = {page for module, page in PLACES.items() if ".".join(module.split(".")[:2]) in rooms}
    return pages or {"command_line"}


@pytest.mark.parametrize("module", public_names.modules())
def test_everything_public_has_a_docstring(module: str) -> None:
    missing = [name for name, thing in public_names.members(module) if not thing.__doc__]
    assert missing == []


def test_every_name_of_the_package_is_told() -> None:
    told = re.findall(r"\{py:(?:class|func)\}`encodax\.(\w+)", PAGES["public"])
    assert sorted(told) == sorted(encodax.__all__)
