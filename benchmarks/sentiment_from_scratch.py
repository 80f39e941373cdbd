"""A real classification set through the command line, beside a classic baseline.

    python -m benchmarks.sentiment_from_scratch --data FOLDER [--seeds 0 1 2]

FOLDER holds `train.tsv` and `dev.tsv` with the columns text and label and no header, as the
Stanford Sentiment Treebank with two classes is often published. An encoder is trained from
scratch by `encodax train`, once a seed; TF-IDF with logistic regression (scikit-learn, words and
pairs of words) reads the same files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score

from benchmarks.harness.baseline import predicted
from benchmarks.harness.children import encodax
from encodax.data.sources import read

COLUMNS = "text,label"


def main() -> None:
    """Train both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    table = Table("model", "accuracy on dev", "seconds to train")
    runs = [encoder(options.data, seed, options.epochs) for seed in options.seeds]
    accuracies, seconds = (np.asarray(values) for values in zip(*runs, strict=True))
    table.add_row(
        f"encoder from scratch, median of {len(runs)} seeds",
        f"{np.median(accuracies):.1%} ({accuracies.min():.1%} .. {accuracies.max():.1%})",
        f"{np.median(seconds):.0f}",
    )
    accuracy, taken = baseline(options.data)
    table.add_row("TF-IDF and logistic regression", f"{accuracy:.1%}", f"{taken:.1f}")
    Console().print(table)


def encoder(data: Path, seed: int, epochs: int) -> tuple[float, float]:
    """Accuracy and seconds of `encodax train`."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        files = ["--train", data / "train.tsv", "--eval", data / "dev.tsv", "--columns", COLUMNS]
        choices = ["--epochs", epochs, "--seed", seed, "--out", Path(folder) / "model"]
        found = encodax("train", "classification", *files, *choices)
        return found["accuracy"], time.perf_counter() - start


def baseline(data: Path) -> tuple[float, float]:
    """Accuracy and seconds of TF-IDF with logistic regression."""
    train, dev = (columns_of(data / name) for name in ("train.tsv", "dev.tsv"))
    found, taken = predicted(*train, dev[0])
    return accuracy_score(dev[1], found), taken


def columns_of(path: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a file."""
    records = [record.fields for record in read(path, columns=COLUMNS.split(","))]
    return [fields["text"] for fields in records], [fields["label"] for fields in records]


if __name__ == "__main__":
    main()
