"""Preparation of a run: read files, check texts, sort options, lay out the plan."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import jax

from encodax.data.formats import Columns
from encodax.errors import EncodaxError
from encodax.model_files import hub, model_card, peft
from encodax.model_files.run_files import METRICS_FILE, RUN_FILE
from encodax.model_files.saved_model import MODEL_FILES
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.options.training import NewModel, TrainSettings
from encodax.process import forks
from encodax.storage import outputs
from encodax.tasks import class_weights, distillation, task_named
from encodax.tasks.dataset import Dataset
from encodax.tasks.empty import OnEmptyInData
from encodax.tasks.task import AnyModel, Example, LossOptions, Task, check_loss_options
from encodax.training.batches.examples import Data, Examples, check_reading_options, examples_of
from encodax.training.setup import fingerprint
from encodax.training.setup.origins import StartModel, data_of, fact_of_data, facts_of_models
from encodax.training.setup.run import Run, make_run
from encodax.training.setup.start import half_of, new_model, with_head
from encodax.training.step.lora import save_adapter
from encodax.training.step.partition import trainable
from encodax.types.batches import Params

logger = logging.getLogger(__name__)

FINE_TUNING_RATE = 5e-5
"""Default learning rate for fine-tuning a trained model."""

WRITTEN = (*MODEL_FILES, METRICS_FILE, RUN_FILE)
"""Files that a run replaces in its directory."""


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that a run starts with, checked and ready."""

    task: Task
    model: AnyModel
    teacher: Model | None
    train: Dataset
    eval: Dataset
    loss_options: LossOptions
    run: Run
    learned: Examples
    judged: Examples
    shape: NewModel | None
    """Shape of a new model; None otherwise."""
    begin: StartModel | None
    """Model that the run starts from; None for a new one."""
    taught_by: StartModel | None

    @property
    def base(self) -> str | None:
        """Name of the model that the run starts from: its directory, or its id on the Hub."""
        return None if self.begin is None else self.begin.name

    @functools.cached_property
    def facts(self) -> fingerprint.Facts:
        """Facts that the steps of the run depend on, data and models included."""
        tokens = hashlib.sha256((self.train.digest + self.eval.digest).encode()).hexdigest()
        contents = {
            "training data (--train)": fact_of_data(self.learned),
            "evaluation data (--eval)": fact_of_data(self.judged),
            **facts_of_models({"--model": self.begin, "--teacher": self.taught_by}),
            fingerprint.TOKENS: fingerprint.content(tokens),
        }
        return fingerprint.facts_of(
            self.task.name, self.run, self.loss_options, self.shape, contents
        )

    @functools.cached_property
    def provenance(self) -> dict[str, Any]:
        """Origin of data and models.

        Raises:
            EncodaxError: a file of the data has changed.
        """
        begins = {"base": self.begin, "teacher": self.taught_by}
        return {
            "data": {"train": data_of(self.learned), "eval": data_of(self.judged)},
            **{name: own.to_json() for name, own in begins.items() if own is not None},
        }

    def save(self, out: Path, best: AnyModel, trained: Params) -> None:
        """Write a new best model, or the adapter that turns its base model into it."""
        settings = self.run.settings
        if settings.lora is None or settings.merge:
            best.save(out, overwrite=True)
            model_card.write_origin(out / model_card.CARD_FILE, self.provenance)
        else:
            assert self.base is not None and isinstance(best, Model)
            save_adapter(out, best, trained, settings.lora, self.base, overwrite=True)


def prepare(
    task: str,
    *,
    train: Data,
    eval: Data,
    model: Path | str | AnyModel | None = None,
    teacher: Path | str | Model | None = None,
    columns: Columns | None = None,
    format: str | None = None,
    on_empty: OnEmptyInData = "error",
    out: Path | str | None = None,
    overwrite: bool = False,
    **choices: Any,
) -> TrainingSetup:
    """Read, check and lay out everything that a run starts with; for the arguments, see `train`."""
    forks.check()
    chosen: Task = task_named(task)
    settings, shape, options = _settings(chosen, choices, from_scratch=model is None)
    check_loss_options(chosen, options)
    class_weights.read(options.class_weights)  # raises its errors before anything loads
    if chosen.is_seq2seq:
        _check_seq2seq(settings)
    if out is not None:
        outputs.check_can_write(Path(out), overwrite=overwrite, replaces=WRITTEN)
    check_reading_options(train, eval, columns, format)
    learned = examples_of(chosen, train, columns, on_empty, format)
    judged = examples_of(chosen, eval, columns, on_empty, format)
    check_metric(chosen, judged, options, settings.metric)
    kind = Seq2SeqModel if chosen.is_seq2seq else Model
    begin = None if model is None else StartModel.of(kind, model)
    taught_by = None if teacher is None else StartModel.of(Model, teacher)
    _check_teacher(chosen, taught_by)
    known = _known_labels(begin, chosen)
    if chosen.for_records is not None:
        records = itertools.chain(learned.records, judged.records)
        chosen = chosen.for_records(records, known, options)
        learned, judged = learned.read_by(chosen), judged.read_by(chosen)
    labels = chosen.labels_for(chosen.labels(learned), known)
    start = _start(chosen, begin, taught_by, learned, labels, shape, settings.seed)
    options = chosen.loss_options_for(options, learned, start, settings.batch_size)
    chosen.check_evaluation(judged)
    data = Dataset.prepare(chosen, start, learned, truncate=settings.truncate)
    measured = Dataset.prepare(chosen, start, judged, truncate=settings.truncate)
    key = jax.random.key(settings.seed)
    trained, frozen = trainable(start.params, key=key, lora=settings.lora, freeze=settings.freeze)
    if settings.lora is not None and out is not None and not settings.merge:
        _check_adapter(begin, start, trained)
    taught: Any = None if taught_by is None else taught_by.model
    run = make_run(
        start, data, settings,
        loss_options=options, trained=trained, frozen=frozen, teacher=taught,
    )  # fmt: skip
    return TrainingSetup(
        chosen, start, taught, data, measured, options, run,
        learned=learned, judged=judged, shape=None if begin or taught_by else shape,
        begin=begin, taught_by=taught_by,
    )  # fmt: skip


def _check_teacher(task: Task, teacher: StartModel | None) -> None:
    if (teacher is not None) != task.takes_teacher:
        raise EncodaxError(
            f"{task.name} needs a teacher" if teacher is None else f"{task.name} takes no teacher"
        )


def _known_labels(begin: StartModel | None, task: Task) -> tuple[str, ...]:
    """Return the labels of the starting model; none if its head is of another kind."""
    model = None if begin is None else begin.model
    head = model.config.head if isinstance(model, Model) else None
    return model.labels if model is not None and head and head.kind == task.head else ()


def _start(
    task: Task,
    begin: StartModel | None,
    teacher: StartModel | None,
    examples: Examples,
    labels: tuple[str, ...],
    shape: NewModel,
    seed: int,
) -> Any:
    """Return the model as it is before the first step."""
    given: Any = None if begin is None else begin.model
    if teacher is not None:
        taught: Any = teacher.model
        start = given or distillation.student_of(taught, half_of(taught))
        distillation.check_student(start, taught)
        return start
    if given is None:
        return new_model(task, examples, labels, shape, seed)
    return given if task.is_seq2seq else with_head(given, task, labels, seed)


def _check_adapter(begin: StartModel | None, start: Model, trained: Params) -> None:
    """Refuse to save an adapter that nothing could be loaded with.

    Raises:
        EncodaxError: its base has no name, or it cannot be saved.
    """
    if begin is None or begin.name is None:
        raise EncodaxError(
            "an adapter needs a base model with a name: give a directory or an id (--model), or "
            "write a whole model (--merge)"
        )
    peft.check_base(hub.directory_of(begin.name))
    peft.check_savable(start.config, trained)


def _check_seq2seq(settings: TrainSettings) -> None:
    """Refuse settings that are for encoders only.

    Raises:
        EncodaxError: names the setting.
    """
    for name, is_given in (
        ("lora_rank", settings.lora is not None),
        ("layer_decay", settings.layer_decay != 1),
        ("scan", settings.scan),
    ):
        if is_given:
            raise EncodaxError(f"{name} is for encoders: leave it out for translation")


def check_metric(
    task: Task, examples: Sequence[Example], loss_options: LossOptions, metric: str | None
) -> None:
    """Refuse a metric that an evaluation of this task on these examples does not compute.

    Raises:
        EncodaxError: names the metrics that it computes.
    """
    names = task.metric_names
    if task.metric_names_for is not None:
        names = task.metric_names_for(examples, loss_options)
    if metric is not None and metric not in (known := (*names, "loss")):
        raise EncodaxError(
            f"metric {metric!r} is not one of those of {task.name}: {', '.join(known)}"
        )


Choice = TypeVar("Choice")


def _settings(
    task: Task, choices: dict[str, Any], *, from_scratch: bool
) -> tuple[TrainSettings, NewModel, LossOptions]:
    """Sort the options into those of the run, of a new model, and of the loss."""
    given = {name: value for name, value in choices.items() if value is not None}
    kinds = (TrainSettings, NewModel, LossOptions)
    names: dict[type, set[str]] = {kind: {field.name for field in fields(kind)} for kind in kinds}
    if unknown := given.keys() - set().union(*names.values()):
        known = ", ".join(sorted(set().union(*names.values())))
        raise EncodaxError(f"not an option: {', '.join(sorted(unknown))}; known: {known}")
    for_model = sorted(given.keys() & names[NewModel])
    if for_model and not from_scratch:
        raise EncodaxError(
            f"{', '.join(for_model)}: the shape is that of the given model; leave out options of a "
            "new one"
        )
    defaults = {} if from_scratch else {"learning_rate": FINE_TUNING_RATE}
    defaults |= task.train_defaults

    def of(kind: type[Choice]) -> Choice:
        return kind(**{k: v for k, v in {**defaults, **given}.items() if k in names[kind]})

    return of(TrainSettings), of(NewModel), of(LossOptions)
