"""What a run is made of: the files of its data, the model it begins from, its teacher."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encodax.model_files import hub
from encodax.tasks.task import AnyModel
from encodax.training.batches.examples import Examples
from encodax.training.setup.fingerprint import content


@dataclass(frozen=True)
class Begin:
    """A model that a run begins from, or learns from."""

    model: AnyModel
    name: str | None = None
    """Its directory, or its id on the hub; None of one in memory."""
    revision: str | None = None
    """Its commit on the hub."""

    @functools.cached_property
    def sha256(self) -> str:
        """Of its parameters and its configuration."""
        return digest_of(self.model)

    @classmethod
    def of(cls, kind: Any, model: Path | str | AnyModel) -> Begin:
        """Load a model, or take one that is loaded.

        Args:
            kind: its class.
            model: a directory, an id of the hub, or the model itself.
        """
        if not isinstance(model, str | Path):
            return cls(model)
        directory = hub.directory_of(model)
        return cls(kind.load(directory), str(model), hub.revision_of(directory))

    def to_json(self) -> dict[str, Any]:
        """What tells it apart from others."""
        found = {"name": self.name, "revision": self.revision, "sha256": self.sha256}
        return {name: value for name, value in found.items() if value is not None}


def digest_of(model: AnyModel) -> str:
    """A sha256 over the configuration of a model and its parameters, by name."""
    digest = hashlib.sha256(repr(model.config).encode())
    for path, leaf in jax.tree.leaves_with_path(model.params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def facts_of_models(begins: dict[str, Begin | None]) -> dict[str, Any]:
    """Models as facts of a run: what counts is their content, wherever it lies."""
    return {
        name: content(None)
        if begin is None
        else content(begin.sha256, begin.name or "one in memory")
        for name, begin in begins.items()
    }


def data_of(examples: Examples) -> dict[str, Any]:
    """The files that examples are read from, with their sha256 and rows, and how many there are.

    Raises:
        EncodaxError: a file has changed since it was opened.
    """
    files = [file for records in examples.files for file in records.described()]
    return {"files": files, "examples": len(examples)}


def fact_of_data(examples: Examples) -> dict[str, Any]:
    """Examples as a fact of a run: what counts is what they hold, in whatever file."""
    names = [name for records in examples.files for name in records.names]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return content(examples.sha256, ", ".join(names[:2]) + more or None)
