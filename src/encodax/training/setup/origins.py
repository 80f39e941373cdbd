"""Origins of a run: the files of its data, the model that it starts from, its teacher."""

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
class StartModel:
    """Model that a run starts from, or its teacher."""

    model: AnyModel
    name: str | None = None
    """Directory of the model, or its id on the Hub; None for one in memory."""
    revision: str | None = None
    """Commit of the model on the Hub."""

    @functools.cached_property
    def sha256(self) -> str:
        """Digest of its parameters and its configuration."""
        return digest_of(self.model)

    @classmethod
    def of(cls, kind: Any, model: Path | str | AnyModel) -> StartModel:
        """Load a model, or take one that is loaded.

        Args:
            kind: class of the model.
            model: a directory, an id on the Hub, or the model itself.
        """
        if not isinstance(model, str | Path):
            return cls(model)
        directory = hub.directory_of(model)
        return cls(kind.load(directory), str(model), hub.revision_of(directory))

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the model."""
        found = {"name": self.name, "revision": self.revision, "sha256": self.sha256}
        return {name: value for name, value in found.items() if value is not None}


def digest_of(model: AnyModel) -> str:
    """Return a sha256 of the configuration of a model and its parameters, with their names."""
    digest = hashlib.sha256(repr(model.config).encode())
    for path, leaf in jax.tree.leaves_with_path(model.params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def facts_of_models(begins: dict[str, StartModel | None]) -> dict[str, Any]:
    """Return models as facts of a run, compared by their content wherever they are stored."""
    return {
        name: content(None)
        if begin is None
        else content(begin.sha256, begin.name or "one in memory")
        for name, begin in begins.items()
    }


def data_of(examples: Examples) -> dict[str, Any]:
    """Return the files of examples, with their sha256 and rows, and the number of examples.

    Raises:
        EncodaxError: a file has changed since it was opened.
    """
    files = [file for records in examples.files for file in records.described()]
    return {"files": files, "examples": len(examples)}


def fact_of_data(examples: Examples) -> dict[str, Any]:
    """Return examples as a fact of a run, compared by their content whatever their files."""
    names = [name for records in examples.files for name in records.names]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return content(examples.sha256, ", ".join(names[:2]) + more or None)
