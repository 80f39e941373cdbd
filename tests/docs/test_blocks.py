"""The examples of README and of every page of docs/ run as they stand.

Blocks of `sh` and `python` run in order, a page at a time, in a folder that holds examples/, beside
a cache that has all-MiniLM-L6-v2. Commands of README are processes; all else runs in one that has
JAX loaded (`page_runner.py`). A block that cannot run here says so: its info string is another one.
Code cells run when the documentation is built.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RUN = ("sh", "python")
SHOWN = ("console", "json", "text")
"""What is not run: commands that want the network or another machine, files, and output."""


def blocks_of(page: Path) -> list[Token]:
    """The blocks of code of a page, in order; directives of MyST are none."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    fences = [token for token in tokens if token.type in ("fence", "code_block")]
    return [token for token in fences if not token.info.startswith("{")]


def examples_of(page: Path) -> list[tuple[str, str]]:
    """The language and the text of the blocks that run."""
    return [(block.info, block.content) for block in blocks_of(page) if block.info in RUN]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A Hugging Face cache as it is once all-MiniLM-L6-v2 has been fetched."""
    home = tmp_path_factory.mktemp("huggingface")
    model = home / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    revision = "0" * 40
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(revision)
    (model / "snapshots").mkdir()
    (model / "snapshots" / revision).symlink_to(minilm, target_is_directory=True)
    return home


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    """Variables of whoever follows a page."""
    scripts = Path(sys.executable).parent
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_DISABLE")}
    return {
        **own,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture(scope="module")
def runner(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """The process that runs pages."""
    folder = tmp_path_factory.mktemp("commands")
    command = [sys.executable, str(Path(__file__).with_name("page_runner.py")), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if examples_of(page)],
)
def test_examples_run_in_order(page: Path, tmp_path: Path, runner: subprocess.Popen[str]) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    assert runner.stdin is not None
    assert runner.stdout is not None
    asked = [str(tmp_path), page != PAGES[0], examples_of(page)]
    print(json.dumps(asked), file=runner.stdin, flush=True)
    code, written = json.loads(runner.stdout.readline())
    assert code == 0, written[-10_000:]


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)
def test_every_block_says_whether_it_runs(page: Path) -> None:
    unknown = [block for block in blocks_of(page) if block.info not in RUN + SHOWN]
    assert [f"{block.info!r}: {block.content[:60]}" for block in unknown] == []
