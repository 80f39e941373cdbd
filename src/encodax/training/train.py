"""`encodax.train`: from files to a model directory."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from encodax.data.formats import Columns
from encodax.errors import EncodaxError
from encodax.inference.evaluation import evaluator
from encodax.model_files import peft
from encodax.model_files.run_files import METRICS_FILE, REPORT_FILE
from encodax.models.encoder_model import Model
from encodax.storage import locks, outputs, overlap
from encodax.tasks.empty import OnEmptyInData
from encodax.tasks.task import AnyModel
from encodax.training.batches.examples import Data, paths_of
from encodax.training.loop import checkpoint_folder, distributed
from encodax.training.loop.best import BestModelDirectory
from encodax.training.loop.fit import FitResult, fit
from encodax.training.loop.output import RunOutput
from encodax.training.loop.profiler import PROFILE_FOLDER
from encodax.training.loop.progress import RunLog
from encodax.training.loop.reporter import BAD_BATCH_FILE
from encodax.training.loop.tensorboard import EVENTS_FOLDER
from encodax.training.run_facts import about
from encodax.training.setup.prepare import WRITTEN, prepare


@dataclass(frozen=True)
class TrainResult(FitResult):
    """Result of a run, and the places that it was written to."""

    out: Path | None
    checkpoints: Path | None

    def places(self) -> dict[str, Path]:
        """Return the paths that were written, by a description of each."""
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
    columns: Columns | None = None,
    format: str | None = None,
    on_empty: OnEmptyInData = "error",
    overwrite: bool = False,
    checkpoints: Path | str | None = None,
    resume: bool = False,
    resume_step: int | None = None,
    console: Console | None = None,
    **choices: Any,
) -> TrainResult:
    """Train a model for a task, from scratch or from another model, and keep the best one.

    Args:
        task: a name in `encodax.tasks.TASKS`, such as `classification`.
        train: training data: a file (JSON Lines, JSON, CSV, TSV, CoNLL, Parquet, text; plain or
            gzip) or records. A file need not fit in memory.
        eval: evaluation data, which choose the best model; the same kinds.
        out: model directory to write; None to write nothing.
        model: model (or its directory) to start from; None for a new one.
        teacher: model whose output is learned (`distillation` only).
        columns: names of the columns of tables without a header; or, for any files, fields with
            their names in the files: `{"text": "content"}`.
        format: format of the files, if their names do not show it.
        on_empty: treatment of records with an empty text: `error` refuses them, `skip` leaves them
            out.
        overwrite: whether `out` may exist.
        checkpoints: directory for the checkpoints, from which a run can resume; `OUT.checkpoints`
            by default.
        resume: resume from the newest checkpoint, bit for bit as if the run had never stopped.
            Everything that the steps depend on must be given as before; `steps` may be larger if
            the learning rate of the steps already done does not depend on it.
        resume_step: resume from the checkpoint of this step instead.
        console: console for the progress display; None for none.
        **choices: fields of `TrainSettings` (`steps`, `learning_rate`, `seed`, ...), of
            `LossOptions` (`label_smoothing`, `mask_rate`, ...) and, for a new model, of `NewModel`
            (`layers`, `width`, `tokenizer`, ...).

    Returns:
        The best model, its metrics on the evaluation data, and figures of the run.

    Raises:
        EncodaxError: a file, a record or an option cannot be used; a path to write to is also read,
            or is being written to by another process; losses are not finite; or a checkpoint is
            damaged, or belongs to another run.
        encodax.training.Stopped: SIGTERM, SIGHUP or SIGINT has arrived, and the run is saved.
    """
    place = None if out is None else Path(out)
    kept = _checkpoints(place, checkpoints)
    for path in (place, kept):
        if path is not None:
            outputs.check_name(path)
    read = {"model": _places_of(model), "teacher": _places_of(teacher)}
    overlap.check_apart(
        {"out": place, "checkpoints": kept},
        {**read, "train": paths_of(train, format), "eval": paths_of(eval, format)},
    )
    if place is not None:
        outputs.check_writable(place)
    if kept is not None:
        outputs.check_writable(kept, checkpoint_folder.OTHER_FOLDER_HINT)
    written = [path for path in (place, kept) if path is not None and distributed.is_first()]
    with locks.held(*written):
        return _train(
            task, place, kept, train=train, eval=eval, model=model, teacher=teacher,
            columns=columns, format=format, on_empty=on_empty, overwrite=overwrite, resume=resume,
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
    goes_on = resume or resume_step is not None
    _check_places(place, checkpoints, overwrite=overwrite, goes_on=goes_on)
    job = prepare(task, out=place, overwrite=overwrite or goes_on, **choices)
    output = RunOutput(
        out=place,
        checkpoints=checkpoints,
        resume=goes_on,
        resume_step=resume_step,
        facts=job.facts,
        best_model=None
        if place is None
        else BestModelDirectory(
            place,
            functools.partial(job.save, place),
            functools.partial(type(job.model).load, place),
        ),
    )
    if job.run.settings.average and output.checkpoints is None:
        raise EncodaxError("average needs checkpoints: give a place for them (out, --out)")
    _make_room(output)
    fitted = fit(
        job.run,
        job.train,
        evaluator(job.model, job.eval, job.loss_options, job.teacher),
        log=functools.partial(
            RunLog,
            place if distributed.is_first() else None,
            about=about(job) if distributed.is_first() else None,
            console=console,
        ),
        output=output,
    )
    own = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
    return TrainResult(**own, out=place, checkpoints=output.checkpoints)


def _places_of(model: Any) -> list[Path]:
    """Return the directories that a model is read from; none for one in memory or on the Hub."""
    is_read = isinstance(model, str | Path) and os.path.isdir(model)
    return peft.directories_of(Path(model)) if is_read else []


def _checkpoints(out: Path | None, given: Path | str | None) -> Path | None:
    if given is not None:
        return Path(given)
    return None if out is None else outputs.sibling_path(out, ".checkpoints")


def _check_places(
    out: Path | None, checkpoints: Path | None, *, overwrite: bool, goes_on: bool
) -> None:
    """Refuse directories that exist already, or in which foreign files could be lost.

    Raises:
        EncodaxError: says why; or there is no checkpoint to resume from.
    """
    if goes_on and (checkpoints is None or not checkpoints.is_dir()):
        raise EncodaxError(f"{checkpoints or 'the run'}: there is no checkpoint to resume from")
    if out is not None:
        outputs.check_can_write(
            out, overwrite=overwrite or goes_on, replaces=(*WRITTEN, BAD_BATCH_FILE)
        )
        for folder in (EVENTS_FOLDER, PROFILE_FOLDER):
            outputs.check_folder(out / folder)
    if checkpoints is not None:
        if not goes_on:
            outputs.check_can_write(checkpoints, overwrite=overwrite)
        if distributed.is_first():
            checkpoint_folder.check(checkpoints, goes_on=goes_on)


def _make_room(output: RunOutput) -> None:
    """Create the directory of a run, and remove an older run's checkpoints if a new run starts.

    Raises:
        EncodaxError: the directory cannot be created, or a checkpoint cannot be removed.
    """
    try:
        if output.out is not None:
            output.out.resolve().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EncodaxError(f"{output.out} cannot be made: {error.strerror}") from error
    if output.checkpoints is not None and not output.resume and distributed.is_first():
        checkpoint_folder.clear(output.checkpoints)
