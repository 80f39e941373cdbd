"""The documentation as it is built, but for the code cells: `make docs` runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import public_names
import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[2]
LOADS = {
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "iframe": "src",
    "use": "href",
}
"""What fetches something by itself, and from where."""


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if (address := given.get(LOADS.get(tag, ""))) is not None:
            self.loaded.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that `make docs` built, where that is of these sources; else it is built here."""
    built = ROOT / "docs" / "_build" / "html"
    if is_of_these_sources(built):
        return built
    place = tmp_path_factory.mktemp("site")
    choices = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *choices]
    done = subprocess.run(
        [*command, "-d", str(place / "doctrees"), str(ROOT / "docs"), str(place / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    return place / "html"


def is_of_these_sources(built: Path) -> bool:
    """Whether a site was built to its end, and after the last change of what it is made of."""
    inventory = built / "objects.inv"  # the last file that is written
    names = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard", "docs", "src", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    sources = [ROOT / name for name in names.split("\0") if name]
    if not sources or not inventory.exists():
        return False
    changed = max(path.stat().st_mtime for path in sources if path.exists())
    return inventory.stat().st_mtime > changed


def test_the_site_holds_together(site: Path) -> None:
    """One test, since the site takes long to build: links, what is loaded, what is documented."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken, fetched = [], []
    for path, page in pages.items():
        for link in {*page.links, *page.loaded}:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            known = pages[target].anchors if target in pages else {""}
            if not target.exists() or (unquote(address.fragment) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
        fetched += [
            f"{path.relative_to(site)}: {address}"
            for address in page.loaded
            if urlsplit(address).netloc or urlsplit(address).scheme not in ("", "data")
        ]
    assert broken == []
    assert fetched == []
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert "@import" not in text
        assert "url(http" not in text.replace('"', "").replace("'", "")

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    there = {name for kind in inventory if kind.startswith("py:") for name in inventory[kind]}
    public = {name for module in public_names.modules() for name, _ in public_names.members(module)}
    assert {name for name in public if not name.startswith("encodax.cli.")} - there == set()
