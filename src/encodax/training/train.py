"""`encodax.train`: from files to a model directory."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, overload

import jax
from rich.console import Console

from encodax import atomic
from encodax.config import ModelConfig
from encodax.data import sources
from encodax.data.records import Paths, open_records
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.families import bert
from encodax.inference.evaluation import evaluator
from encodax.model import Model
from encodax.run_files import METRICS_FILE, REPORT_FILE
from encodax.tasks import task_named
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example, Objective, Task, check_objective
from encodax.tokenizer import Tokenizer
from encodax.training import distributed
from encodax.training.about import about
from encodax.training.events import EVENTS_FOLDER
from encodax.training.loop import Fitted, Keeping, fit
from encodax.training.profiler import PROFILE_FOLDER
from encodax.training.progress import RunLog
from encodax.training.run import Run, make_run
from encodax.training.settings import NewModel, TrainSettings

Data = Paths | Iterable[dict[str, Any]]
"""Files to read, or records in memory."""

FINE_TUNING_RATE = 5e-5
"""Learning rate when a trained model is trained on, unless another is given."""

OF_NO_BIT = ("mesh", "save_every", "keep", "bad_steps", "profile_steps")
"""Choices that may differ when a run goes on: they change no step."""


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
    model: Path | str | Model | None = None,
    teacher: Path | str | Model | None = None,
    columns: Sequence[str] | None = None,
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
        overwrite: whether `out` may exist.
        checkpoints: where a run is saved that it can go on from; `OUT.checkpoints` when not given.
        resume: go on from the newest checkpoint, to the bit as if the run had never stopped; all
            else is to be given again as it was.
        resume_step: go on from the checkpoint of this step instead.
        console: where progress is shown; None for nowhere.
        **choices: fields of `TrainSettings` (`steps`, `learning_rate`, `seed`, ...), of `Objective`
            (`label_smoothing`, `mask_rate`, ...) and, from scratch, of `NewModel` (`layers`,
            `width`, `tokenizer`, ...).

    Returns:
        The best model, its metrics on the evaluation data, and figures of the run.

    Raises:
        EncodaxError: a file, a record or a choice that cannot be used; losses that are not finite;
            or a checkpoint that is damaged, or of another run.
        encodax.training.Stopped: SIGTERM has come, and the run is saved.
    """
    job = prepare(
        task, train=train, eval=eval, model=model, teacher=teacher, columns=columns,
        out=out, overwrite=overwrite or resume or resume_step is not None, **choices,
    )  # fmt: skip
    place = None if out is None else Path(out)
    keeping = Keeping(
        out=place,
        checkpoints=_checkpoints(place, checkpoints),
        resume=resume or resume_step is not None,
        resume_step=resume_step,
        fingerprint=job.fingerprint,
        keep=job.keep(place),
        kept=None if place is None else functools.partial(Model.load, place),
    )
    _make_room(keeping)
    fitted = fit(
        job.run,
        job.train,
        evaluator(job.model, job.eval, job.objective, job.teacher),
        log=functools.partial(
            RunLog,
            place if distributed.is_first() else None,
            about=about(job.run),
            console=console,
        ),
        keeping=keeping,
    )
    own = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
    return TrainResult(**own, out=place, checkpoints=keeping.checkpoints)


@dataclass(frozen=True)
class Job:
    """All that a run begins with, ready and checked."""

    task: Task
    model: Model
    teacher: Model | None
    train: Dataset
    eval: Dataset
    objective: Objective
    run: Run

    @property
    def fingerprint(self) -> str:
        """Short, and the same where a run can go on: of the data, the choices and the model."""
        settings = {k: v for k, v in asdict(self.run.settings).items() if k not in OF_NO_BIT}
        shapes = str(jax.tree.map(lambda leaf: leaf.shape, self.run.trained))
        told = [self.task.NAME, settings, asdict(self.objective), shapes, self.train.digest]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def keep(self, out: Path | None) -> Any:
        """What is done with a new best model."""
        if out is None:
            return lambda best, trained: None
        return lambda best, trained: best.save(out, overwrite=True)


def prepare(
    task: str,
    *,
    train: Data,
    eval: Data,
    model: Path | str | Model | None = None,
    teacher: Path | str | Model | None = None,
    columns: Sequence[str] | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    **choices: Any,
) -> Job:
    """Read, check and lay out all that a run begins with; arguments as `train` has them."""
    chosen = task_named(task)
    settings, shape, objective = _settings(choices, from_scratch=model is None)
    check_objective(chosen, objective)
    if out is not None:
        atomic.check_free(Path(out), overwrite=overwrite)
    learned = _examples(chosen, train, columns)
    judged = _examples(chosen, eval, columns)
    labels = chosen.labels(learned)
    taught = _loaded(teacher)
    if (taught is not None) != (chosen.NAME == "distillation"):
        raise EncodaxError(
            "distillation wants a teacher" if taught is None else f"{task} takes no teacher"
        )
    if model is None:
        start = new_model(chosen, learned, labels, shape, settings.seed)
    else:
        start = _with_head(_loaded(model), chosen, labels, settings.seed)
    data = Dataset.prepare(chosen, start, learned, truncate=settings.truncate)
    measured = Dataset.prepare(chosen, start, judged, truncate=settings.truncate)
    run = make_run(
        start, data, settings, objective=objective, trained=start.params, frozen={}, teacher=taught
    )
    return Job(chosen, start, taught, data, measured, objective, run)


def _loaded(model: Path | str | Model | None) -> Any:
    return model if isinstance(model, Model) or model is None else Model.load(model)


def _checkpoints(out: Path | None, given: Path | str | None) -> Path | None:
    if given is not None:
        return Path(given)
    return None if out is None else out.with_name(out.name + ".checkpoints")


def _make_room(keeping: Keeping) -> None:
    """Make the directories of a run; an older run's checkpoints go where a new one begins.

    Raises:
        EncodaxError: there is nothing to go on from, or they cannot be made.
    """
    place = keeping.checkpoints
    if keeping.resume and (place is None or not place.is_dir()):
        raise EncodaxError(f"{place or 'the run'}: there is no checkpoint to go on from")
    try:
        if keeping.out is not None:
            keeping.out.mkdir(parents=True, exist_ok=True)
        if place is not None and not keeping.resume and distributed.is_first():
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise EncodaxError(f"{keeping.out} cannot be made: {error.strerror}") from error


Choice = TypeVar("Choice")


def _settings(
    choices: dict[str, Any], *, from_scratch: bool
) -> tuple[TrainSettings, NewModel, Objective]:
    """Sort the choices into those of the run, of a new model, and of the loss."""
    given = {name: value for name, value in choices.items() if value is not None}
    kinds = (TrainSettings, NewModel, Objective)
    names: dict[type, set[str]] = {kind: {field.name for field in fields(kind)} for kind in kinds}
    if unknown := given.keys() - set().union(*names.values()):
        known = ", ".join(sorted(set().union(*names.values())))
        raise EncodaxError(f"no choice named {', '.join(sorted(unknown))}; known: {known}")
    for_model = sorted(given.keys() & names[NewModel])
    if for_model and not from_scratch:
        raise EncodaxError(
            f"{', '.join(for_model)}: the shape is that of the model one begins from"
        )
    defaults = {} if from_scratch else {"learning_rate": FINE_TUNING_RATE}

    def of(kind: type[Choice], defaults: dict[str, Any]) -> Choice:
        return kind(**{**defaults, **{k: v for k, v in given.items() if k in names[kind]}})

    return of(TrainSettings, defaults), of(NewModel, {}), of(Objective, {})


class _Examples(Sequence[Example]):
    """Examples that are read and understood when they are asked for."""

    def __init__(self, task: Task, records: Sequence[Record]):
        self._task, self._records = task, records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._task.parse(self._records[index], labelled=True)

    def __iter__(self) -> Iterator[Example]:
        return (self._task.parse(record, labelled=True) for record in self._records)


def _are_paths(data: Data) -> TypeGuard[Paths]:
    if isinstance(data, str | Path):
        return True
    return isinstance(data, Sequence) and all(isinstance(item, str | Path) for item in data)


def _named(data: Paths) -> str:
    return str(data) if isinstance(data, str | Path) else ", ".join(map(str, data))


def _examples(task: Task, data: Data, columns: Sequence[str] | None) -> Sequence[Example]:
    records: Sequence[Record]
    if _are_paths(data):
        name, records = _named(data), open_records(data, columns=columns)
    else:
        in_memory: Any = data
        name, records = "the data", list(sources.records_of(in_memory))
    if not len(records):
        raise EncodaxError(f"{name}: the data set is empty")
    return _Examples(task, records)


def new_model(
    task: Task,
    examples: Sequence[Example],
    labels: tuple[str, ...],
    shape: NewModel,
    seed: int,
) -> Model:
    """A model from scratch, with a tokenizer trained on the examples' texts."""
    texts = (
        text
        for example in examples
        for text in ((example.text,) if isinstance(example.text, str) else example.text)
    )
    tokenizer = Tokenizer.train(
        texts, shape.tokenizer, vocabulary_size=shape.vocabulary_size, lowercase=shape.lowercase
    )
    config = ModelConfig(
        shape.encoder(tokenizer.vocabulary_size),
        labels=labels,
        pad_id=tokenizer.pad_id,
    )
    head = bert.FAMILY.new_head(config, task.HEAD, len(labels))
    config = replace(config, head=replace(head, problem=task.PROBLEM))
    return Model.create(config, tokenizer, seed=seed)


def _with_head(model: Model, task: Task, labels: tuple[str, ...], seed: int) -> Model:
    """The model itself where its head answers these labels, else its encoder with a new head."""
    head, known = model.config.head, model.config.labels
    if head is not None and (head.kind, head.problem) == (task.HEAD, task.PROBLEM):
        is_one_score = task.PROBLEM == "regression"  # published ones call it LABEL_0
        if len(known) == 1 if is_one_score else set(labels) <= set(known):
            return model
    return model.with_head(task.HEAD, labels=labels, problem=task.PROBLEM, seed=seed)
