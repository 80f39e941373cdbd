"""The folder of a run's checkpoints: what in it is of Encodax, and what is foreign.

Orbax removes old checkpoints by their number, and whatever has the name of an unfinished one. So a
folder in which anything else could go that way is refused before the first step.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

from encodax import outputs
from encodax.errors import EncodaxError

WAY_OUT = "choose another folder for the checkpoints (--checkpoints, checkpoints=)"
MANIFEST = "_encodax.json"
"""Stands in a folder of checkpoints, and says that Encodax writes there."""
_STEP = r"(?:0|[1-9]\d*)"
_UNFINISHED = r"(?:\.orbax-checkpoint-tmp(?:-\d+)?)"
CHECKPOINT = re.compile(f"{_STEP}{_UNFINISHED}?")
"""Names that Orbax takes for its own in there, and may remove."""
UNFINISHED_CHECKPOINT = ".orbax-checkpoint-tmp"
"""Whatever has this in its name Orbax removes when it opens the folder."""
_ARRAYS = r"(?:manifest\.ocdbt|d/[0-9a-f]{32})"
OF_CHECKPOINT = re.compile(
    rf"""(?:_CHECKPOINT_METADATA | commit_success\.txt
    | (?:metrics|record){_UNFINISHED}?/(?:metrics|metadata|_CHECKPOINT_METADATA|commit_success\.txt)
    | state{_UNFINISHED}?/(?:_METADATA|_sharding|_strings\.json|_CHECKPOINT_METADATA
        |commit_success\.txt|array_metadatas/process_\d+
        |{_ARRAYS}|ocdbt\.process_\d+/{_ARRAYS}))
    (?:\.__lock)?""",
    re.VERBOSE,
)
"""The files of a checkpoint, each also under the name that TensorStore writes before it renames."""
FOLDER_OF_CHECKPOINT = re.compile(
    rf"""(?:metrics|record|state){_UNFINISHED}?
    | state{_UNFINISHED}?/(?:array_metadatas|d|ocdbt\.process_\d+(?:/d)?)""",
    re.VERBOSE,
)


def mark(folder: Path) -> None:
    """Say in a folder that what is there are checkpoints of Encodax."""
    if not _is_marked(folder):
        content = {"written_by": "encodax", "what": "checkpoints of a training run"}
        with outputs.open_file(folder / MANIFEST) as stream:
            stream.write(json.dumps(content, indent=2) + "\n")


def _is_marked(folder: Path) -> bool:
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes()) if path.is_file() and not path.is_symlink() else {}
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("written_by") == "encodax"


def check(folder: Path, *, goes_on: bool = False) -> None:
    """Refuse a folder of checkpoints in which something foreign could be lost.

    Args:
        folder: where checkpoints are, or will be; it need not exist.
        goes_on: whether a run goes on with them: then what has no name of a checkpoint stays.

    Raises:
        EncodaxError: names what is foreign.
    """
    try:
        is_marked = _is_marked(folder)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        for name in names:
            could_go = (
                name == MANIFEST or CHECKPOINT.fullmatch(name) or UNFINISHED_CHECKPOINT in name
            )
            is_own = (name == MANIFEST and is_marked) or outputs.is_ours(name)
            if is_own or (goes_on and not could_go):
                continue
            foreign = _foreign_in(folder / name, is_marked=is_marked)
            if foreign is not None:
                raise EncodaxError(
                    f"{foreign} is not of Encodax, and could be lost: {WAY_OUT}, or move it away"
                )
    except OSError as error:
        raise EncodaxError(f"{folder} cannot be read: {error.strerror or error}") from error


def _foreign_in(path: Path, *, is_marked: bool) -> Path | None:
    """What is foreign in what has the name of a checkpoint, or has none; None for nothing.

    In a folder that is not marked it has to be a whole checkpoint of ours, or an unfinished one. In
    a marked one it may be what a killed removal leaves: a part of a checkpoint, an empty folder.
    """
    is_folder = path.is_dir() and not path.is_symlink()
    if not is_folder or not CHECKPOINT.fullmatch(path.name):
        return path
    names = []
    for inner in sorted(path.rglob("*")):
        names.append(name := inner.relative_to(path).as_posix())
        is_folder = inner.is_dir() and not inner.is_symlink()
        known = FOLDER_OF_CHECKPOINT if is_folder else OF_CHECKPOINT
        if not known.fullmatch(name) or not (is_folder or stat.S_ISREG(inner.lstat().st_mode)):
            return inner
    is_whole = {"record/metadata", "state/_METADATA"} <= set(names)
    return None if is_whole or is_marked or UNFINISHED_CHECKPOINT in path.name else path


def clear(folder: Path) -> None:
    """Remove the checkpoints of an older run; where the folder is a link, where it points to.

    Raises:
        EncodaxError: something foreign is there, or a checkpoint cannot be removed.
    """
    check(folder)
    for path in own(folder):
        outputs.remove_folder(path, WAY_OUT)


def own(folder: Path) -> list[Path]:
    """The checkpoints in a folder that hold nothing foreign, by name."""
    is_marked, paths = _is_marked(folder), sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if _foreign_in(path, is_marked=is_marked) is None]
