"""A rare class through the command line, beside a classic baseline.

    python -m benchmarks.imbalance --data FOLDER --model DIR [--share 0.05] [--examples 2000]

FOLDER holds `train.tsv` and `dev.tsv` with the columns text and label (0, 1) and no header, as the
Stanford Sentiment Treebank with two classes is often published; DIR is a model to begin from. Of
the label 1 as many are kept as make up the share: in what is learned from, in what the best model
is chosen by (`dev.tsv`), and in the test, of the rest of `train.tsv`. `encodax train` runs with its
defaults and `--class-weights balanced`, once a seed; TF-IDF with logistic regression (scikit-learn,
words and pairs of words, balanced classes) reads the same files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score

from benchmarks.harness.baseline import predicted
from benchmarks.harness.children import encodax
from encodax.data.sources import read

COLUMNS = "text,label"
Texts = list[tuple[str, str]]


def main() -> None:
    """Train both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", default="10")
    options = parser.parse_args()

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, rest = imbalanced(
            pairs_of(options.data / "train.tsv"), options.share, options.examples
        )
        dev, _ = imbalanced(pairs_of(options.data / "dev.tsv"), options.share)
        test, _ = imbalanced(rest, options.share)
        for part, pairs in (("train", train), ("dev", dev), ("test", test)):
            write(folder / f"{part}.tsv", pairs)
            rare = sum(label == "1" for _, label in pairs)
            console.print(f"{part}: {len(pairs)} examples, {rare} of the rare class")
        table = Table("model", "macro F1 on test", "F1 of the rare class", "seconds to train")
        runs = []
        for seed in options.seeds:
            runs.append(encoder(folder, options.model, seed, options.epochs))
            console.print(f"seed {seed}: macro F1 {runs[-1][0]:.3f}")
        macro, rare_f1, seconds = np.transpose(runs)
        table.add_row(
            f"fine-tuned, mean of {len(runs)} seeds",
            f"{macro.mean():.3f} ({macro.min():.3f} .. {macro.max():.3f})",
            f"{rare_f1.mean():.3f}",
            f"{np.median(seconds):.0f}",
        )
        macro_f1, of_rare, taken = baseline(train, test)
        table.add_row(
            "TF-IDF and logistic regression", f"{macro_f1:.3f}", f"{of_rare:.3f}", f"{taken:.1f}"
        )
    Console().print(table)


def imbalanced(pairs: Texts, share: float, most: int | None = None) -> tuple[Texts, Texts]:
    """As many examples as can be, that share of them with the label 1; and the others."""
    order = np.random.default_rng(0).permutation(len(pairs)).tolist()
    by_label: dict[str, list[int]] = {"0": [], "1": []}
    for index in order:
        by_label[pairs[index][1]].append(index)
    total = min(int(len(by_label["0"]) / (1 - share)), int(len(by_label["1"]) / share))
    total = total if most is None else min(total, most)
    rare = round(total * share)
    chosen = {*by_label["0"][: total - rare], *by_label["1"][:rare]}
    return [pairs[i] for i in order if i in chosen], [pairs[i] for i in order if i not in chosen]


def encoder(folder: Path, model: str, seed: int, epochs: str) -> tuple[float, float, float]:
    """Macro F1, F1 of the rare class, and seconds of `encodax train`."""
    out = folder / f"model-{seed}"
    start = time.perf_counter()
    encodax(
        "train", "classification", "--train", folder / "train.tsv", "--eval", folder / "dev.tsv",
        "--columns", COLUMNS, "--model", model, "--class-weights", "balanced", "--epochs", epochs,
        "--seed", seed, "--out", out,
    )  # fmt: skip
    taken = time.perf_counter() - start
    found = encodax("evaluate", out, "--data", folder / "test.tsv", "--columns", COLUMNS)
    return found["f1"], found["classes"]["1"]["f1"], taken


def baseline(train: Texts, test: Texts) -> tuple[float, float, float]:
    """The same of TF-IDF with logistic regression."""
    asked, right = zip(*test, strict=True)
    choices = {"class_weight": "balanced", "max_iter": 1_000}
    found, taken = predicted(*zip(*train, strict=True), asked, **choices)
    macro = f1_score(right, found, average="macro")
    return float(macro), float(f1_score(right, found, pos_label="1")), taken


def pairs_of(path: Path) -> Texts:
    """Texts and labels of a file."""
    records = (record.fields for record in read(path, columns=COLUMNS.split(",")))
    return [(fields["text"], fields["label"]) for fields in records]


def write(path: Path, pairs: Texts) -> None:
    """The same as a file."""
    path.write_text("".join(f"{text}\t{label}\n" for text, label in pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
