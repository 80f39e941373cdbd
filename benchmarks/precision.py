"""What each precision costs and gains: `python -m benchmarks.precision --data FOLDER`.

FOLDER holds `sts`, `sst2`, `wangqa` and `lines` as `sts.py` and `parts.py` read them. Speed,
cosine with float32 and Spearman's correlation are of all-MiniLM-L6-v2 over the sentences of STS,
the precisions taking turns. For the other sets the same model is fine-tuned once, in float32, by
`encodax.train`, with the settings of `fine_tuning.py`; it is kept in `runs/precision`, and taken
from there the next time. Every precision measures that one model.

The tables go to `docs/precision.md`, between two marks: what is written outside of these stays.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

import encodax
from benchmarks.harness.children import ROOT
from benchmarks.harness.machine import OtherWork, description, told
from benchmarks.harness.pages import write_measured
from benchmarks.harness.ratios import Ratio
from benchmarks.harness.tables import errors, in_markdown
from benchmarks.harness.timing import in_turn, seconds_of
from benchmarks.parts import PARTS
from benchmarks.speed.workloads import sts_sentences
from benchmarks.sts import PUBLISHED, judged_texts, model_directory, spearman
from encodax.data.sources import records_of
from encodax.inference.precision import Precision
from encodax.inference.predictors import Predictor

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
TRAINED = ("sst2", "wangqa", "lines")
SHOWN = {"accuracy": "accuracy", "f1": "F1"}
"""Metrics that the table has."""
SPEED = ("precision", "sentences/s", "times as fast", "least cosine", "mean")
TITLE = "What each precision costs and gains"

Row = Sequence[str]


def main() -> None:
    """Measure, print the tables, write the page."""
    options = arguments()
    others = OtherWork()
    speed, correlation = embedding_rows(options.data, options.sentences, options.rounds)
    rows = [*correlation]
    for name in options.tasks:
        rows += task_rows(name, options.data, options.models)
    measured = "\n\n".join(
        (
            introduction(options, others.share()),
            in_markdown(SPEED, speed),
            "The change is from float32.",
            in_markdown(("data", "metric", *PRECISIONS), rows),
        )
    )
    page = ROOT / "docs" / "precision.md" if options.page is None else options.page
    write_measured(page, TITLE, "python -m benchmarks.precision --data FOLDER", measured)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=TRAINED, choices=TRAINED)
    parser.add_argument("--models", type=Path, default=ROOT / "runs" / "precision")
    parser.add_argument("--sentences", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="file to write, docs/precision.md if not given")
    return parser.parse_args()


# The embedder


def embedding_rows(data: Path, count: int, rounds: int) -> tuple[list[Row], list[Row]]:
    """Speed and cosine, a precision a row; Spearman's correlation, a year a row."""
    sentences = sts_sentences(data)[:count]
    embedders = {
        precision: encodax.Embedder.load(model_directory(), precision=precision)
        for precision in PRECISIONS
    }
    vectors = {name: embedder.encode(sentences) for name, embedder in embedders.items()}
    sides = {
        name: functools.partial(seconds_of, embedder.encode, sentences)
        for name, embedder in embedders.items()
    }
    seconds = in_turn(rounds, sides, lambda turn: errors.print(f"speed: round {turn} of {rounds}"))
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    speed = []
    for name in PRECISIONS:
        cosines = np.sum(vectors[name] * vectors["float32"], axis=1)
        ratio = str(Ratio.of(seconds["float32"], seconds[name]))
        shown = f"{cosines.min():.5f}", f"{cosines.mean():.6f}"
        speed.append((name, f"{len(sentences) / middle[name]:,.0f}", ratio, *shown))
    return speed, [correlation_row(embedders, data, year) for year in PUBLISHED]


def correlation_row(embedders: dict[str, encodax.Embedder], data: Path, year: str) -> Row:
    """Spearman x 100 of the cosine with the judged scores of a year."""
    scores, texts = judged_texts(data / "sts" / year)
    found = {name: spearman(scores, embedder.encode(texts)) for name, embedder in embedders.items()}
    errors.print(f"STS {year}: {json.dumps(found)}")
    return (f"STS {year}", "Spearman", *changes(found))


# The other tasks


def task_rows(name: str, data: Path, models: Path) -> Iterator[Row]:
    """A metric a row, of one fine-tuned model at each precision."""
    part = PARTS[name]
    _, test = part.read(data)
    model = tuned(name, data, models / name)
    found = {}
    for precision in PRECISIONS:
        predictor = Predictor.load(model, precision=precision)
        found[precision] = predictor.evaluate(records_of(test), truncate=True)
        errors.print(f"{part.title}: {precision}: {json.dumps(found[precision])}")
    for metric, title in SHOWN.items():
        if metric in found["float32"]:
            values = {precision: metrics[metric] for precision, metrics in found.items()}
            yield (part.title, title, *changes(values))


def tuned(name: str, data: Path, folder: Path) -> Path:
    """The model fine-tuned for a task, trained unless it is there."""
    if not folder.exists():
        part = PARTS[name]
        train, test = part.read(data)
        errors.print(f"{part.title}: training in float32 ({part.epochs} epochs)")
        encodax.train(
            part.task,
            train=train,
            eval=test,
            out=folder,
            model=model_directory(),
            epochs=part.epochs,
            batch_size=part.batch_size,
            learning_rate=part.learning_rate,
            schedule="linear",
            warmup=0.0,
            evaluate_every=1_000_000,  # the last step's model is kept, not the best on the test
            truncate=True,
            console=errors,
        )
    return folder


# The page


def changes(values: dict[str, float]) -> Iterator[str]:
    """A figure x 100 for each precision, with its change from float32."""
    for name, value in values.items():
        change = "" if name == "float32" else f" ({100 * (value - values['float32']):+.2f})"
        yield f"{100 * value:.2f}{change}"


def introduction(options: argparse.Namespace, others: float | None) -> str:
    """On what it was measured."""
    machine = description()
    return (
        f"Measured on {time.strftime('%Y-%m-%d')} on {machine['cores']} cores of "
        f"{machine['processor']}.{told(others)} Speed and cosine: all-MiniLM-L6-v2 over "
        f"{options.sentences:,} sentences of STS, medians of {options.rounds} rounds in turn. The "
        "other tasks: the same model, fine-tuned once in float32."
    )


if __name__ == "__main__":
    main()
