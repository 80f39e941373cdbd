"""Tokenizers' directories as data: tiny files, and changes of them, with what transformers gives."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parent / "parity" / "goldens-tokenizers.json"
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
    """Write them: JSON, or text."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each case and what is expected of it."""
    yield from json.loads(GOLDENS.read_text(encoding="utf-8"))["cases"].items()


def files_of(case: Files) -> dict[str, Any]:
    """The files of its directory."""
    bases = json.loads(GOLDENS.read_text(encoding="utf-8"))["bases"]
    return changed(bases[case["base"]], case["changes"])
