"""The README's examples run as they stand, and its tree names every file there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    (token.info, token.content)
    for token in MarkdownIt().parse(README)
    if token.type == "fence" and token.info in ("sh", "python")
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has what the examples read, and room for what they write."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", place / "examples")
    return place


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A Hugging Face cache as it is once all-MiniLM-L6-v2 has been fetched."""
    home = tmp_path_factory.mktemp("huggingface")
    model = home / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    revision = "0" * 40
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(revision)
    (model / "snapshots").mkdir()
    shutil.copytree(minilm, model / "snapshots" / revision)
    return home


def test_examples_run_in_order(checkout: Path, cache: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
    }
    ran = []
    for language, content in BLOCKS:
        if content.startswith("make "):
            continue  # the two commands: the second is what runs this test
        command = [sys.executable, "-c"] if language == "python" else ["bash", "-euc"]
        done = subprocess.run(
            [*command, content], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
        ran.append(language)
    assert set(ran) == {"python", "sh"}


def test_tree_names_every_file_of_the_package() -> None:
    tree = next(content for content in re.findall(r"```text\n(.*?)```", README, re.DOTALL))
    named = set(re.findall(r"[\w.]+\.(?:py|jinja)\b", tree))
    there = {
        path.name
        for path in (ROOT / "src").rglob("*")
        if path.suffix in (".py", ".jinja") and path.name != "__init__.py"
    }
    assert there - named == set()
    assert named - there - {"__init__.py"} == set()
