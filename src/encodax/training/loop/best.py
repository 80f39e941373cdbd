"""Best model of a run: decide which it is, write it, tell it from any other, read it back."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError
from encodax.inference.evaluation import Evaluator
from encodax.model_files.run_files import (
    EVALUATION_PREFIX,
    METRICS_FILE,
    evaluation_sort_key,
    read_curve,
)
from encodax.model_files.saved_model import MODEL_FILES
from encodax.tasks.task import AnyModel
from encodax.training.loop import distributed
from encodax.training.setup.run import Run
from encodax.training.step import sharding
from encodax.training.step.partition import merged_params
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
        return any(wanted <= metrics for metrics in found)

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


class BestModel:
    """Evaluator that keeps the best parameters."""

    def __init__(self, run: Run, evaluate: Evaluator, directory: BestModelDirectory | None):
        self._run, self._evaluate, self._directory = run, evaluate, directory
        self.metric = run.metric
        self._best: AnyModel | None = None
        self._sha256: str | None = None
        """Digest of the best model's weights, if they are written."""
        self._only_metrics_left = False
        """Whether only the metrics of the best model are left: the next one then counts as
        better."""
        self.best_metrics: dict[str, float] = {}
        self.best_step = 0
        self.last: dict[str, float] = {}
        self.evaluations_without_gain = 0
        """Number of evaluations since the metric improved."""

    def evaluate(self, step: int, params: Params) -> bool:
        """Evaluate these parameters; if they are the best so far, keep them and return True.

        Ties by the metric are decided by the lower loss, and ties by the loss by the later step.
        """
        trained = sharding.gathered(params, self._run.mesh)
        whole = merged_params(trained, self._frozen)
        try:
            self.last = self._evaluate(whole)
        except EncodaxError as error:
            raise EncodaxError(f"step {step}: {error}; a lower learning rate may help") from error
        own = self._rank(self.last)
        best = self._rank(self.best_metrics) if self.best_metrics else None
        self.evaluations_without_gain = (
            0 if best is None or own[0] > best[0] else self.evaluations_without_gain + 1
        )
        if best is not None and own < best and not self._only_metrics_left:
            return False
        self.best_metrics, self.best_step = self.last, step
        self._keep(trained, whole)
        return True

    def _keep(self, trained: Params, whole: Params) -> None:
        self._best, self._only_metrics_left = (
            replace(self._run.step_spec.model, params=whole),
            False,
        )
        directory = self._directory
        if directory is not None and distributed.is_first():
            directory.write(self._best, trained)
            self._sha256 = weights_digest(directory.out)

    def _rank(self, found: dict[str, float]) -> tuple[float, float]:
        return evaluation_sort_key(found, self.metric, larger_is_better=self._run.larger_is_better)

    @functools.cached_property
    def _frozen(self) -> Params:
        """Frozen parameters, gathered once."""
        return sharding.gathered(self._run.constants.frozen, self._run.mesh)

    @property
    def is_over(self) -> bool:
        """Whether the patience is exhausted."""
        patience = self._run.settings.patience
        return patience is not None and self.evaluations_without_gain >= patience

    def best_model(self) -> AnyModel:
        """Return the best model of the run, even if an earlier part of it found it."""
        return self._best or self._run.step_spec.model

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint stores of this object."""
        return {
            "metrics": self.best_metrics,
            "step": self.best_step,
            "waited": self.evaluations_without_gain,
            "sha256": self._sha256,
        }

    def restore(self, record: dict[str, Any]) -> None:
        """Restore what a checkpoint stored; `recover` then looks for the best model."""
        self.best_metrics, self.best_step = record["metrics"], record["step"]
        self.evaluations_without_gain = record["waited"]
        self._sha256 = record.get("sha256")  # older versions did not store it

    def recover(self, saved: Callable[[int], Params | None], *, is_last: bool) -> str | None:
        """Find the best model of the steps that are done: in OUT, or else in its checkpoint.

        If it is in neither, a later part of the same run may have written a better one to OUT, from
        steps that will be repeated: then the best of these becomes the model.

        Args:
            saved: function from a step to the trained parameters in its checkpoint, or None.
            is_last: whether no evaluation follows.

        Returns:
            A note to log, or None.

        Raises:
            EncodaxError: the best model is lost.
        """
        directory, step = self._directory, self.best_step
        if not self.best_metrics or self._reads():
            return None
        is_own = directory is None or distributed.broadcast_from_first(
            directory.has_logged(step, self.best_metrics)
        )
        trained = saved(step)
        if trained is not None:
            return self._writes_again(trained, is_own=is_own)
        if directory is not None and is_own and self._sha256 is None:
            self._best = directory.read()
            return (
                f"the best model, of step {step}, is taken to be that in {directory.out}: an older "
                "version of Encodax has saved it, and did not record its sha256"
            )
        place = "in no directory" if directory is None else f"not in {directory.out}"
        lost = f"the best model so far, of step {step}, is {place}, and has no checkpoint"
        if not is_own or is_last:
            raise EncodaxError(f"{lost}; bring it back, or start again (--overwrite)")
        self._only_metrics_left = True
        return f"{lost}: the best of the steps from here on will be the model"

    def _writes_again(self, trained: Params, *, is_own: bool) -> str | None:
        """Rebuild the best model from its checkpoint, write it to its place, and return a note."""
        directory = self._directory
        trained = sharding.gathered(trained, self._run.mesh)
        self._keep(trained, merged_params(trained, self._frozen))
        if directory is None:
            return None
        if not is_own and distributed.is_first():
            directory.forget_log()
        step = self.best_step
        return f"the best model, of step {step}, is written to {directory.out} from its checkpoint"

    def _reads(self) -> bool:
        """Read the best model back; return False if it is no longer where it was written."""
        directory = self._directory
        if directory is None:
            return False
        found = directory.read_if(self._sha256)
        if distributed.broadcast_from_first(found is not None):
            self._best = found or directory.read()
            return True
        return False
