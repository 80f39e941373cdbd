"""`encodax.train`: from files to a model directory."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from encodax import adapters, atomic, locks, overlap
from encodax.errors import EncodaxError
from encodax.inference.evaluation import evaluator
from encodax.model import Model
from encodax.run_files import METRICS_FILE, REPORT_FILE
from encodax.tasks.empty import OnEmptyInData
from encodax.tasks.task import AnyModel
from encodax.training import distributed
from encodax.training.about import about
from encodax.training.events import EVENTS_FOLDER
from encodax.training.examples import Data, paths_of
from encodax.training.job import prepare
from encodax.training.loop import Fitted, Keeping, fit
from encodax.training.profiler import PROFILE_FOLDER
from encodax.training.progress import RunLog


@dataclass(frozen=True)
class TrainResult(Fitted):
    """What a run leaves, and where it was written."""

    out: Path | None
    checkpoints: Path | None

    def places(self) -> dict[str, Path]:
        """What was written, and where."""
        if self.out is None:
            return {}
        found = {
            "model": self.out,
            "learning curve": self.out / METRICS_FILE,
            "report": self.out / REPORT_FILE,
            "TensorBoard": self.out / EVENTS_FOLDER,
            "profile": self.out / PROFILE_FOLDER,
        }
        if self.checkpoints is not None:
            found["checkpoints"] = self.checkpoints
        return {what: place for what, place in found.items() if place.exists()}


def train(
    task: str,
    *,
    train: Data,
    eval: Data,
    out: Path | str | None = None,
    model: Path | str | AnyModel | None = None,
    teacher: Path | str | Model | None = None,
    columns: Sequence[str] | None = None,
    on_empty: OnEmptyInData = "error",
    overwrite: bool = False,
    checkpoints: Path | str | None = None,
    resume: bool = False,
    resume_step: int | None = None,
    console: Console | None = None,
    **choices: Any,
) -> TrainResult:
    """Train a model for a task, from scratch or from another model, and keep the best.

    Args:
        task: a name in `encodax.tasks.TASKS`, such as `classification`.
        train: a file (JSON Lines, CSV, TSV, Parquet, text; plain or gzip) or records to learn from.
            A file need not fit in memory.
        eval: the same, to choose the best model by.
        out: the model directory to write; None to write nothing.
        model: a model (or its directory) to begin from; None for one from scratch.
        teacher: a model whose answers are learned (`distillation` alone).
        columns: names of the columns of CSV or TSV files without a header.
        on_empty: what becomes of records of an empty text: `error` refuses them, and `skip` leaves
            them out.
        overwrite: whether `out` may exist.
        checkpoints: where a run is saved that it can go on from; `OUT.checkpoints` when not given.
        resume: go on from the newest checkpoint, to the bit as if the run had never stopped. What
            its steps depend on is to be given again as it was; there may be more `steps` where the
            learning rate of those that are done does not depend on them.
        resume_step: go on from the checkpoint of this step instead.
        console: where progress is shown; None for nowhere.
        **choices: fields of `TrainSettings` (`steps`, `learning_rate`, `seed`, ...), of `Objective`
            (`label_smoothing`, `mask_rate`, ...) and, from scratch, of `NewModel` (`layers`,
            `width`, `tokenizer`, ...).

    Returns:
        The best model, its metrics on the evaluation data, and figures of the run.

    Raises:
        EncodaxError: a file, a record or a choice that cannot be used; a place to write to that is
            also read, or that another process writes; losses that are not finite; or a checkpoint
            that is damaged, or of another run.
        encodax.training.Stopped: SIGTERM or SIGINT has come, and the run is saved.
    """
    place = None if out is None else Path(out)
    kept = _checkpoints(place, checkpoints)
    read = {"model": _places_of(model), "teacher": _places_of(teacher)}
    overlap.check_apart(
        {"out": place, "checkpoints": kept},
        {**read, "train": paths_of(train), "eval": paths_of(eval)},
    )
    written = [path for path in (place, kept) if path is not None and distributed.is_first()]
    with locks.held(*written):
        return _train(
            task, place, kept, train=train, eval=eval, model=model, teacher=teacher,
            columns=columns, on_empty=on_empty, overwrite=overwrite, resume=resume,
            resume_step=resume_step, console=console, **choices,
        )  # fmt: skip


def _train(
    task: str,
    place: Path | None,
    checkpoints: Path | None,
    *,
    overwrite: bool,
    resume: bool,
    resume_step: int | None,
    console: Console | None,
    **choices: Any,
) -> TrainResult:
    job = prepare(
        task, out=place, overwrite=overwrite or resume or resume_step is not None, **choices
    )
    keeping = Keeping(
        out=place,
        checkpoints=checkpoints,
        resume=resume or resume_step is not None,
        resume_step=resume_step,
        facts=job.facts,
        keep=(lambda *_: None) if place is None else functools.partial(job.save, place),
        kept=None if place is None else functools.partial(type(job.model).load, place),
    )
    if job.run.settings.average and keeping.checkpoints is None:
        raise EncodaxError("average is of checkpoints: say where to write them (out, --out)")
    _make_room(keeping, overwrite=overwrite)
    fitted = fit(
        job.run,
        job.train,
        evaluator(job.model, job.eval, job.objective, job.teacher),
        log=functools.partial(
            RunLog,
            place if distributed.is_first() else None,
            about=about(job) if distributed.is_first() else None,
            console=console,
        ),
        keeping=keeping,
    )
    own = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
    return TrainResult(**own, out=place, checkpoints=keeping.checkpoints)


def _places_of(model: Any) -> list[Path]:
    """The directories that a model is read from: of an adapter, its base too."""
    if not isinstance(model, str | Path) or not os.path.isdir(model):
        return []
    base = adapters.base_of(Path(model))
    return [Path(model)] if base is None else [Path(model), Path(base)]


def _checkpoints(out: Path | None, given: Path | str | None) -> Path | None:
    if given is not None:
        return Path(given)
    return None if out is None else out.with_name(out.name + ".checkpoints")


def _make_room(keeping: Keeping, *, overwrite: bool) -> None:
    """Make the directories of a run; an older run's checkpoints go where a new one replaces it.

    Raises:
        EncodaxError: there is nothing to go on from, checkpoints would be lost that nobody has
            asked to replace, or the directories cannot be made.
    """
    place = keeping.checkpoints
    if keeping.resume and (place is None or not place.is_dir()):
        raise EncodaxError(f"{place or 'the run'}: there is no checkpoint to go on from")
    if place is not None and not keeping.resume:
        atomic.check_free(place, overwrite=overwrite)
    try:
        if keeping.out is not None:
            keeping.out.mkdir(parents=True, exist_ok=True)
        if place is not None and not keeping.resume and distributed.is_first():
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise EncodaxError(f"{keeping.out} cannot be made: {error.strerror}") from error
