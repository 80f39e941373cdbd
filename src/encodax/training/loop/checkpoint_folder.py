"""Folder of a run's checkpoints: tells Encodax's files from foreign ones.

Orbax removes old checkpoints by their number, and everything named like an unfinished one. So a
folder in which foreign files could be removed is refused before the first step.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

from encodax.errors import EncodaxError
from encodax.storage import outputs

OTHER_FOLDER_HINT = "choose another folder for the checkpoints (--checkpoints, checkpoints=)"
MANIFEST = "_encodax.json"
"""Name of the file that marks a folder of checkpoints as written by Encodax."""
_STEP = r"(?:0|[1-9]\d*)"
_UNFINISHED = r"(?:\.orbax-checkpoint-tmp(?:-\d+)?)"
CHECKPOINT = re.compile(f"{_STEP}{_UNFINISHED}?")
"""Names that Orbax regards as its checkpoints in the folder, and may remove."""
UNFINISHED_CHECKPOINT = ".orbax-checkpoint-tmp"
"""Part of a name: Orbax removes everything with it in its name when it opens the folder."""
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
"""Paths of files within a checkpoint, each also under the name that TensorStore writes first."""
FOLDER_OF_CHECKPOINT = re.compile(
    rf"""(?:metrics|record|state){_UNFINISHED}?
    | state{_UNFINISHED}?/(?:array_metadatas|d|ocdbt\.process_\d+(?:/d)?)""",
    re.VERBOSE,
)


def mark(folder: Path) -> None:
    """Mark a folder as one for checkpoints of Encodax."""
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
    """Refuse a folder of checkpoints in which foreign files could be lost.

    Args:
        folder: folder of the checkpoints; it need not exist.
        goes_on: whether a run resumes from them; then everything not named like a checkpoint is
            kept.

    Raises:
        EncodaxError: names the foreign file.
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
                    f"{foreign} was not written by Encodax, and could be lost: "
                    f"{OTHER_FOLDER_HINT}, or move it away"
                )
    except OSError as error:
        raise EncodaxError(f"{folder} cannot be read: {error.strerror or error}") from error


def _foreign_in(path: Path, *, is_marked: bool) -> Path | None:
    """Return a foreign path in `path`, or `path` itself if it is no checkpoint; None without any.

    In a folder without the mark, it must be a complete checkpoint of Encodax, or an unfinished one.
    With the mark, it may be the rest of a killed removal: a part of a checkpoint, an empty folder.
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
    """Remove the checkpoints of an older run; if the folder is a link, those where it points to.

    Raises:
        EncodaxError: a foreign file is there, or a checkpoint cannot be removed.
    """
    check(folder)
    for path in own(folder):
        outputs.remove_folder(path, OTHER_FOLDER_HINT)


def own(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that contain nothing foreign, by name."""
    is_marked, paths = _is_marked(folder), sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if _foreign_in(path, is_marked=is_marked) is None]
