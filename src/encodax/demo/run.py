"""Demo in two acts, with a report.

Act one trains an encoder to read dates, and compares it with a library of rules. Act two, in
`answers`, runs the same encoder code with published weights.

A date is read in two steps: the encoder tags the characters of the day, the month (one tag for each
month) and the year, and `dates.read_date` turns the tags into a date.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from encodax.demo import answers, page
from encodax.demo import seq2seq as writer
from encodax.demo.baseline import Measurement, measure_dateparser
from encodax.demo.dates import LANGUAGES, DatedText, exact_match, read_date, sample
from encodax.demo.progress import watch
from encodax.errors import EncodaxError
from encodax.inference.predictors import TokenClassifier
from encodax.model_files.saved_model import MODEL_FILES
from encodax.models.encoder_model import Model
from encodax.process.terminal import Terminal
from encodax.storage import locks, outputs
from encodax.training.loop import checkpoint_folder
from encodax.training.loop.preemption import Stopped
from encodax.training.loop.tensorboard import EVENTS_FOLDER
from encodax.training.train import TrainResult, train
from encodax.types.batches import Span

OUT = Path("runs/demo")
MODEL_DIRECTORY = "model"
WRITER_DIRECTORY = "writer"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
PASSAGES_FILE = "passages.jsonl"

STEPS = 3_600
TRAIN_SIZE = 100_000
"""Number of training dates: about as many as the steps take, so that few are seen twice."""
VALIDATION_SIZE = 1_000
"""Number of dates that select the best step's parameters; the settings below were also chosen by
them."""
EVALUATION_SIZE = 10_000

EVALUATION_SEED = 20_310_805
"""Seed of the evaluation dates, the same for all runs, so that results can be compared."""

CHOICES: dict[str, Any] = {
    "tokenizer": "char",
    "layers": 2,
    "width": 96,
    "heads": 4,
    "max_positions": 64,  # the longest of all dates has 48 characters, and two special tokens
    "dropout_rate": 0.0,  # data are plentiful, and time is short
    "batch_tokens": 512,
    "learning_rate": 2e-3,
    "warmup": 0.05,
    "schedule": "cosine",
    "weight_decay": 0.01,
}
"""Arguments of `encodax.train`, apart from steps and seed."""


@dataclass(frozen=True)
class Data:
    """Dates for each purpose. No text is in two of the lists."""

    train: list[DatedText]
    validation: list[DatedText]
    evaluation: list[DatedText]


@dataclass(frozen=True)
class EncoderResult:
    """Dates read by the encoder."""

    spans: list[tuple[Span, ...]]
    answers: list[str | None]
    measurement: Measurement


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo, and the paths of its files."""

    model: Path
    summary: Path
    report: Path
    encoder: Measurement
    dateparser: Measurement
    writer: Measurement
    """Measurement of the sequence-to-sequence model."""
    seconds_training: float
    outcome: answers.Outcome
    """Result of act two."""
    passages: Path | None
    """File of the passages that act two searched; None if it was left out."""


def run_demo(
    out: Path = OUT,
    *,
    seed: int = 0,
    overwrite: bool = False,
    console: Console | None = None,
    steps: int = STEPS,
    writer_steps: int = writer.STEPS,
    train_size: int = TRAIN_SIZE,
    validation_size: int = VALIDATION_SIZE,
    evaluation_size: int = EVALUATION_SIZE,
    dateparser_size: int | None = None,
    topics: Mapping[str, str] | None = None,
) -> DemoResult:
    """Train, evaluate, compare, answer, and write the results.

    These are `model/`, `writer/`, `summary.json`, `report.html`, and `passages.jsonl` unless the
    weights for act two are missing: then it is left out, and this is printed.

    Args:
        out: directory to write; it appears complete, after all work is done.
        seed: seed of the training data and of the training.
        overwrite: whether `out` may exist; its contents stay until the new ones replace them.
        console: console for progress and results; None for none.
        steps: number of training steps of the encoder.
        writer_steps: number of training steps of the sequence-to-sequence model.
        train_size: number of training dates.
        validation_size: number of dates that select the best parameters.
        evaluation_size: number of evaluation dates.
        dateparser_size: number of evaluation dates that `dateparser` reads, the first ones; all by
            default.
        topics: texts that act two answers from; Python's help by default.

    Raises:
        EncodaxError: `out` exists or cannot be written, or a size is not above 0.
    """
    dateparser_size = evaluation_size if dateparser_size is None else dateparser_size
    _check_above_0(
        steps=steps,
        writer_steps=writer_steps,
        train_size=train_size,
        validation_size=validation_size,
        evaluation_size=evaluation_size,
        dateparser_size=dateparser_size,
    )
    console = console or Terminal(quiet=True)
    results: list[DemoResult] = []

    def write(place: Path) -> None:
        model = answers.locate(console)
        data = draw(
            seed,
            train_size=train_size,
            validation_size=validation_size,
            evaluation_size=evaluation_size,
        )
        console.print(
            f"act one: {len(data.train):,} dates in {len(LANGUAGES)} languages to train on, "
            f"{len(data.evaluation):,} others to evaluate on",
            highlight=False,
        )
        trained = train_reader(
            data, seed=seed, steps=steps, out=place / MODEL_DIRECTORY, console=console
        )
        assert isinstance(trained.model, Model)
        reader = TokenClassifier(trained.model)
        reading = read(reader, data.evaluation)
        written = _written(data, seed, writer_steps, place / WRITER_DIRECTORY, console)
        without_language, with_language = _baseline(data.evaluation[:dateparser_size], console)
        outcome = answers.act_two(model, topics, console)
        passages = None
        if isinstance(outcome, answers.Answers):
            answers.write_passages(place / PASSAGES_FILE, outcome.passages)
            passages = out / PASSAGES_FILE
        summary = _summary(trained, reading.measurement, without_language, written, seed)
        _write_json(place / SUMMARY_FILE, {**summary, "act_two": outcome.summary()})
        material = page.ReportData(
            trained, data.evaluation, reading.spans, reading.answers,
            encoder=reading.measurement, dateparser=without_language,
            with_language=with_language, writing=written,
            choices={**CHOICES, "steps": steps, "seed": seed, "train_size": len(data.train)},
            outcome=outcome,
        )  # fmt: skip
        (place / REPORT_FILE).write_text(page.render(material), encoding="utf-8")
        results.append(
            DemoResult(
                out / MODEL_DIRECTORY, out / SUMMARY_FILE, out / REPORT_FILE,
                reading.measurement, without_language, written.measurement, trained.seconds,
                outcome, passages,
            )
        )  # fmt: skip

    outputs.check_can_write(out, overwrite=overwrite)
    outputs.check_writable(out)
    try:
        with locks.held(out):
            outputs.write_directory(out, write, overwrite=overwrite, replaces=_of_older(out))
    except Stopped as error:  # its checkpoints are removed with the incomplete directory
        message = f"stopped by {error.signal.name}: an incomplete demo is not kept"
        raise Stopped(message, error.signal) from None
    (result,) = results
    _show(result, console)
    return result


def _of_older(out: Path) -> list[str]:
    """Return the files that an older demo may have written, which must not stay among the new."""
    models = (MODEL_DIRECTORY, WRITER_DIRECTORY)
    checkpoints = [
        path.relative_to(out).as_posix()
        for model in models
        for checkpoint in checkpoint_folder.own(out / f"{model}.checkpoints")
        for path in checkpoint.rglob("*")
        if not path.is_dir()
    ]
    events = f"{EVENTS_FOLDER}/events.out.tfevents.*.encodax"
    of_models = [f"{model}/{name}" for model in models for name in (*MODEL_FILES, events)]
    marks = [f"{model}.checkpoints/{checkpoint_folder.MANIFEST}" for model in models]
    return [SUMMARY_FILE, REPORT_FILE, PASSAGES_FILE, *of_models, *marks, *checkpoints]


def _check_above_0(**sizes: int) -> None:
    for name, size in sizes.items():
        if size <= 0:
            raise EncodaxError(f"{name} = {size} is not above 0")


def draw(
    seed: int,
    *,
    train_size: int = TRAIN_SIZE,
    validation_size: int = VALIDATION_SIZE,
    evaluation_size: int = EVALUATION_SIZE,
) -> Data:
    """Draw dates for training, validation and evaluation; the last do not depend on the seed."""
    evaluation = sample(evaluation_size, seed=EVALUATION_SEED)
    seen = {written.text for written in evaluation}
    validation = sample(validation_size, seed=EVALUATION_SEED + 1, exclude=seen)
    seen |= {written.text for written in validation}
    return Data(sample(train_size, seed=seed, exclude=seen), validation, evaluation)


def train_reader(
    data: Data,
    *,
    seed: int,
    steps: int = STEPS,
    out: Path | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a new encoder to tag day, month and year."""
    return train(
        "token-classification",
        train=_records(data.train),
        eval=_records(data.validation),
        out=out,
        console=console,
        seed=seed,
        steps=steps,
        **CHOICES,
    )


def _records(dated: Sequence[DatedText]) -> list[dict[str, Any]]:
    return [
        {"text": written.text, "spans": [asdict(span) for span in written.spans]}
        for written in dated
    ]


def read(reader: TokenClassifier, dated: Sequence[DatedText]) -> EncoderResult:
    """Read dates with the encoder. The time excludes compilation."""
    texts = [written.text for written in dated]
    reader.predict(texts[:1000])
    began = time.perf_counter()
    spans = reader.predict(texts)
    answers = [read_date(text, its_spans) for text, its_spans in zip(texts, spans, strict=True)]
    seconds = time.perf_counter() - began
    match = exact_match(answers, dated)
    return EncoderResult(spans, answers, Measurement(match, len(texts), seconds))


def _written(
    data: Data, seed: int, steps: int, out: Path, console: Console
) -> writer.DecoderResult:
    """Read the same dates with a sequence-to-sequence model."""
    console.print("act one once more: a decoder writes the ISO date", highlight=False)
    fitted = writer.train_writer(
        data.train, data.validation, seed=seed, steps=steps, out=out, console=console
    )
    return writer.write(fitted, data.evaluation, page.shown_in_maps(data.evaluation))


def _baseline(dated: Sequence[DatedText], console: Console) -> tuple[Measurement, Measurement]:
    """Measure `dateparser` on the same texts, without and with the language of each."""
    with watch("dateparser", console) as progress:
        without_language = measure_dateparser(dated, progress=progress)
    with watch("dateparser, told the language", console) as progress:
        with_language = measure_dateparser(dated, tell_language=True, progress=progress)
    return without_language, with_language


def _summary(
    trained: TrainResult,
    encoder: Measurement,
    dateparser: Measurement,
    written: writer.DecoderResult,
    seed: int,
) -> dict[str, Any]:
    """Return the content of `summary.json`; shares are from 0 to 1."""
    return {
        "exact_match": encoder.match.overall,
        "exact_match_dateparser": dateparser.match.overall,
        "exact_match_seq2seq": written.measurement.match.overall,
        "exact_match_by_language": encoder.match.by_language,
        "exact_match_by_language_dateparser": dateparser.match.by_language,
        "seconds_training": trained.seconds,
        "seconds_training_seq2seq": written.fitted.seconds,
        "tokens_per_second": trained.tokens_per_second,
        "strings_per_second": encoder.texts_per_second,
        "strings_per_second_dateparser": dateparser.texts_per_second,
        "strings_per_second_seq2seq": written.measurement.texts_per_second,
        "evaluation_size": encoder.count,
        "dateparser_size": dateparser.count,
        "languages": len(LANGUAGES),
        "seed": seed,
        "steps": trained.steps,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _show(result: DemoResult, console: Console) -> None:
    """Print the comparison, the answers, and the paths of the files."""
    table = Table()
    table.add_column("")
    for head in ("exact match", "dates", "dates per second"):
        table.add_column(head, justify="right")
    for name, measured in {
        "encoder": result.encoder,
        "seq2seq": result.writer,
        "dateparser": result.dateparser,
    }.items():
        table.add_row(
            name,
            f"{measured.match.overall:.2%}",
            f"{measured.count:,}",
            f"{measured.texts_per_second:,.0f}",
        )
    console.print(table)
    answers.show(result.outcome, console)
    for name, line in _places(result):
        console.print(f"{name:8}{line}", highlight=False, markup=False, soft_wrap=True)


def _places(result: DemoResult) -> Iterator[tuple[str, object]]:
    if isinstance(result.outcome, answers.Answers) and result.passages is not None:
        yield "ask", answers.command(result.outcome.model, result.passages)
    yield "model", result.model
    yield "writer", result.model.with_name(WRITER_DIRECTORY)
    yield "summary", result.summary
    yield "report", result.report
