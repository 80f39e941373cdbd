"""JSON files of a model directory, read with errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError


def read(path: Path, kind: type = dict, *, hint: str) -> Any:
    """What a file holds, an object or a list.

    Args:
        path: the file.
        kind: `dict` or `list`.
        hint: what an error adds where the file is missing.

    Raises:
        EncodaxError: it is missing, not JSON, or not of that kind.
    """
    if not path.is_file():
        raise EncodaxError(f"{path} does not exist{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise EncodaxError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise EncodaxError(f"{path} wants {wanted}, not a {type(content).__name__}")
    return content


def write(path: Path, content: Any) -> None:
    """Write an object or a list."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
