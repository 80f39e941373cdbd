"""Model directories: local, or fetched from the Hugging Face hub."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from encodax.errors import EncodaxError
from encodax.storage import reading

FILES = tuple(f"*{ending}" for ending in reading.ENDINGS)
"""Patterns of the files that are fetched: no code, no pickles."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def directory_of(
    path_or_id: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    files: Sequence[str] = FILES,
) -> Path:
    """Return the directory that holds a model's files.

    An existing path is returned as it is. Anything else is an id such as `intfloat/e5-small-v2`,
    whose files are fetched into the cache of `huggingface_hub` (HF_HOME), or read from there when
    offline (HF_HUB_OFFLINE=1).

    Args:
        path_or_id: a directory, or an id on the hub.
        revision: branch, tag or commit of the repository on the hub.
        token: access token for private repositories; by default HF_TOKEN, or that of the stored
            login.
        files: patterns of the files to fetch.

    Raises:
        EncodaxError: there is no such directory or repository, or the hub cannot be reached.
    """
    path, name = Path(path_or_id), str(path_or_id)
    if not name:
        raise EncodaxError("the model's path is empty: give a model directory, or an id of the hub")
    if os.path.isdir(path):  # also correct if the name is too long for a path
        return path
    if os.path.exists(path) or not HUB_ID.fullmatch(name) or name.startswith("."):
        raise EncodaxError(f"{name} {_wrong_with(path)}")
    from huggingface_hub import snapshot_download  # slow to import
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(name, revision=revision, token=token, allow_patterns=list(files))
        )
    except RepositoryNotFoundError as error:
        raise EncodaxError(
            f"{name} is neither a directory here nor a repository of the hub that this token may "
            "read (HF_TOKEN, or token=)"
        ) from error
    except Exception as error:  # raised by the library or by its network code
        raise EncodaxError(
            f"{name} is no directory here, and cannot be fetched from the hub ({_reason(error)}); "
            "give the path of a model directory that you have"
        ) from error


def revision_of(directory: Path) -> str | None:
    """Return the commit that a directory of the hub's cache holds; None for other directories."""
    place = directory.absolute()
    is_commit = re.fullmatch(r"[0-9a-f]{40}", place.name) is not None
    return place.name if is_commit and place.parent.name == "snapshots" else None


def _wrong_with(path: Path) -> str:
    """Return why a path is not a usable directory, and what to give instead."""
    if os.path.exists(path):
        if path.with_name("config.json").exists():
            return f"is a file: give its directory, {path.parent}"
        return "is a file: give a model directory, or the id of one on the hub"
    near: list[str] = []
    with contextlib.suppress(OSError):
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    meant = f" (did you mean {path.with_name(near[0])}?)" if near else ""
    return f"does not exist{meant}: give a model directory, or the id of one on the hub"


def upload(directory: Path, name: str, *, private: bool, token: str | None) -> str:
    """Upload a model directory to the hub, and return its address.

    Raises:
        EncodaxError: the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repository, folder_path=directory))
    except Exception as error:  # as above
        raise EncodaxError(f"{name} cannot be put on the hub: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
