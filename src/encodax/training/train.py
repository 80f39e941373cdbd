"""`encodax.train`: from files to a model directory."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from encodax import atomic
from encodax.config import ModelConfig
from encodax.data import sources
from encodax.errors import EncodaxError
from encodax.families import bert
from encodax.model import Model
from encodax.tasks import task_named
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example, Task
from encodax.tokenizer import Tokenizer
from encodax.training.loop import Fitted, fit
from encodax.training.progress import RunLog
from encodax.training.settings import NewModel, TrainSettings

Data = Path | str | Iterable[dict[str, Any]]
"""A file to read, or records in memory."""

FINE_TUNING_RATE = 5e-5
"""Learning rate when a trained model is trained on, unless another is given."""


@dataclass(frozen=True)
class TrainResult(Fitted):
    """What a run leaves, and where it was written."""

    out: Path | None


def train(
    task: str,
    *,
    train: Data,
    eval: Data,
    out: Path | str | None = None,
    model: Path | str | Model | None = None,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    **choices: Any,
) -> TrainResult:
    """Train a model for a task, from scratch or from another model, and keep the best.

    Args:
        task: `classification`, `token-classification` or `question-answering`.
        train: a file (JSON Lines, CSV, TSV; plain or gzip) or records to learn from.
        eval: the same, to choose the best model by.
        out: the model directory to write; None to write nothing.
        model: a model (or its directory) to begin from; None for one from scratch.
        columns: names of the columns of CSV or TSV files without a header.
        overwrite: whether `out` may exist.
        console: where progress is shown; None for nowhere.
        **choices: fields of `TrainSettings` (`steps`, `learning_rate`, `seed`, ...) and, from
            scratch, of `NewModel` (`layers`, `width`, `tokenizer`, ...).

    Returns:
        The best model, its metrics on the evaluation data, and figures of the run.

    Raises:
        EncodaxError: a file, a record or a choice that cannot be used; or a loss that is not
            finite.
    """
    settings, shape = _settings(choices, from_scratch=model is None)
    out = None if out is None else Path(out)
    if out is not None:
        atomic.check_free(out, overwrite=overwrite)
    chosen = task_named(task)
    learned = _examples(chosen, train, columns)
    judged = _examples(chosen, eval, columns)
    labels = chosen.labels(learned)
    if model is None:
        start = new_model(chosen, learned, labels, shape, settings.seed)
    else:
        start = model if isinstance(model, Model) else Model.load(model)
        start = _with_head(start, chosen, labels, settings.seed)
    train_data = Dataset.prepare(chosen, start, learned, truncate=settings.truncate)
    eval_data = Dataset.prepare(chosen, start, judged, truncate=settings.truncate)
    if out is not None:
        _make(out)
    fitted = fit(
        start,
        train_data,
        eval_data,
        settings,
        log=functools.partial(RunLog, out, console=console),
        keep=(lambda best: None) if out is None else functools.partial(_save, out),
    )
    return TrainResult(**{f.name: getattr(fitted, f.name) for f in fields(fitted)}, out=out)


def _save(out: Path, best: Model) -> None:
    best.save(out, overwrite=True)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EncodaxError(f"{out} cannot be made: {error.strerror}") from error


def _settings(choices: dict[str, Any], *, from_scratch: bool) -> tuple[TrainSettings, NewModel]:
    """Sort the choices into those of the run and those of a new model."""
    of_run = {field.name for field in fields(TrainSettings)}
    of_model = {field.name for field in fields(NewModel)}
    given = {name: value for name, value in choices.items() if value is not None}
    if unknown := given.keys() - of_run - of_model:
        known = ", ".join(sorted(of_run | of_model))
        raise EncodaxError(f"no choice named {', '.join(sorted(unknown))}; known: {known}")
    for_model = {name: value for name, value in given.items() if name in of_model}
    if for_model and not from_scratch:
        named = ", ".join(sorted(for_model))
        raise EncodaxError(f"{named}: the shape is that of the model one begins from")
    defaults = {} if from_scratch else {"learning_rate": FINE_TUNING_RATE}
    for_run = {name: value for name, value in given.items() if name in of_run}
    return TrainSettings(**{**defaults, **for_run}), NewModel(**for_model)


def _examples(task: Task, data: Data, columns: Sequence[str] | None) -> list[Example]:
    if isinstance(data, str | Path):
        name, records = str(data), sources.read(data, columns=columns)
    else:
        name, records = "the data", sources.records_of(data)
    examples = [task.parse(record, labelled=True) for record in records]
    if not examples:
        raise EncodaxError(f"{name}: the data set is empty")
    return examples


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
