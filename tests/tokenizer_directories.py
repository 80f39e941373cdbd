"""Tokenizer directories as data: tiny files, changes to them, and the output of transformers."""

from __future__ import annotations

import copy
import functools
import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARITY = Path(__file__).parent / "parity"
GOLDENS = PARITY / "goldens-tokenizers.json.gz"
GONE = "(gone)"
"""In a change, the value of a key that goes."""
Files = Mapping[str, Any]


def changed(files: Files, changes: Files) -> dict[str, Any]:
    """The files of a directory with keys of its JSON files changed, and whole files, or None."""
    found = copy.deepcopy(dict(files))
    for name, change in changes.items():
        if change is None:
            del found[name]
        elif isinstance(change, dict):
            content = {**found.get(name, {}), **change}
            found[name] = {key: value for key, value in content.items() if value != GONE}
        else:
            found[name] = change
    return found


def write(directory: Path, files: Files) -> Path:
    """Write them: JSON, text, or `@path`, a copy of another golden's file."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, str) and content.startswith("@"):
            shutil.copyfile(PARITY / content[1:], directory / name)
            continue
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name).write_text(text, encoding="utf-8")
    return directory


@functools.cache
def goldens() -> dict[str, Any]:
    """The texts, the bases, and what is expected of each case, by its name."""
    found: dict[str, Any] = json.loads(gzip.decompress(GOLDENS.read_bytes()))
    return found


def files_of(case: Files) -> dict[str, Any]:
    """The files of its directory."""
    return changed(goldens()["bases"][case["base"]], case["changes"])
