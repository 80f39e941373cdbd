"""A directory, or the id of a model on the Hugging Face hub, to files on this machine."""

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
"""What is fetched: never code, never a pickle."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def directory_of(
    path_or_id: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    files: Sequence[str] = FILES,
) -> Path:
    """The directory that holds a model's files.

    An existing path is taken as it is. All else is an id such as `intfloat/e5-small-v2`: its files
    are fetched into the cache of `huggingface_hub` (HF_HOME), or taken from there when it is
    offline (HF_HUB_OFFLINE=1).

    Args:
        path_or_id: a directory, or an id.
        revision: a branch, tag or commit of the hub's repository.
        token: for private repositories; HF_TOKEN or the one that was logged in with otherwise.
        files: patterns of what is fetched.

    Raises:
        EncodaxError: there is neither such a directory nor such a repository, or the hub cannot be
            reached.
    """
    path, name = Path(path_or_id), str(path_or_id)
    if not name:
        raise EncodaxError("the model's path is empty: give a model directory, or an id of the hub")
    if os.path.isdir(path):  # also where the name is too long for a path
        return path
    if os.path.exists(path) or not HUB_ID.fullmatch(name) or name.startswith("."):
        raise EncodaxError(f"{name} {_wrong_with(path)}")
    from huggingface_hub import snapshot_download  # it takes a while to import
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
    except Exception as error:  # of the library, or of what it reaches the network with
        raise EncodaxError(
            f"{name} is no directory here, and cannot be fetched from the hub ({_reason(error)}); "
            "give the path of a model directory that you have"
        ) from error


def revision_of(directory: Path) -> str | None:
    """The commit that a directory of the hub's cache holds; None of any other directory."""
    place = directory.absolute()
    is_commit = re.fullmatch(r"[0-9a-f]{40}", place.name) is not None
    return place.name if is_commit and place.parent.name == "snapshots" else None


def _wrong_with(path: Path) -> str:
    """What is wrong with a path that is no directory, and what to give instead."""
    if os.path.exists(path):
        if path.with_name("config.json").exists():
            return f"is a file: give its directory, {path.parent}"
        return "is a file: give a model directory, or the id of one on the hub"
    near: list[str] = []
    with contextlib.suppress(OSError):
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    meant = f" (is {path.with_name(near[0])} meant?)" if near else ""
    return f"does not exist{meant}: give a model directory, or the id of one on the hub"


def upload(directory: Path, name: str, *, private: bool, token: str | None) -> str:
    """Put a model directory on the hub, and give its address.

    Raises:
        EncodaxError: the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=repository, folder_path=directory))
    except Exception as error:  # the same
        raise EncodaxError(f"{name} cannot be put on the hub: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Its first line, without the full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
