"""Directory of a run's best model: write it, tell it from any other, read it back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from encodax.errors import EncodaxError
from encodax.model_files.run_files import EVALUATION_PREFIX, METRICS_FILE, read_curve
from encodax.model_files.saved_model import MODEL_FILES
from encodax.tasks.task import AnyModel
from encodax.types.batches import Params

WEIGHTS = tuple(name for name in MODEL_FILES if name.endswith(".safetensors"))
"""Names of the files of a model that hold its weights."""


@dataclass(frozen=True)
class BestModelDirectory:
    """Directory of a run's best model."""

    out: Path
    write: Callable[[AnyModel, Params], None]
    """Function that writes a model to `out`, given its trained parameters."""
    read: Callable[[], AnyModel]

    def read_if(self, sha256: str | None) -> AnyModel | None:
        """Read the model in the directory if its weights have this digest; None otherwise."""
        if sha256 is None or weights_digest(self.out) != sha256:
            return None
        try:
            return self.read()
        except EncodaxError:  # another file of it is missing or damaged
            return None

    def has_logged(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Return whether the learning curve there has this evaluation, so is of the same run."""
        wanted = {
            (EVALUATION_PREFIX + name, repr(value)) for name, value in metrics.items()
        }  # NaN too
        try:
            curve = read_curve(self.out / METRICS_FILE)
        except (EncodaxError, OSError):
            return False
        found = [
            {(n, repr(v)) for n, v in entry.items()} for entry in curve if entry["step"] == step
        ]
        return any(wanted <= told for told in found)

    def forget_log(self) -> None:
        """Remove the learning curve of another run."""
        (self.out / METRICS_FILE).unlink(missing_ok=True)


def weights_digest(directory: Path) -> str | None:
    """Return a sha256 of a model directory's weight files and their names; None without any."""
    digest, found = hashlib.sha256(), False
    for path in sorted({path for name in WEIGHTS for path in directory.glob(name)}):
        with path.open("rb") as stream:
            own = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(directory).as_posix()} {own}\n".encode())
        found = True
    return digest.hexdigest() if found else None
