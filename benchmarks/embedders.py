"""Training of embedders on real texts: fine-tuning, Matryoshka widths, and a student of 3 layers.

    python -m benchmarks.embedders --data FOLDER [--only tuned nested student]

FOLDER is that of `benchmarks/sts.py`, with `wikitext2/valid.txt.gz`, `multi30k/train.en.gz` and
`sst2/train.tsv` for the student. All begin from all-MiniLM-L6-v2 and are measured on STS 2015,
which none has seen: Spearman's correlation x 100, all pairs together. `tuned` and `nested` learn
the judged pairs of STS 2014 (a tenth of them says which model is best), `nested` also for the
leading halves and quarters of its vectors; `student` learns the teacher's vectors and states, of
texts without any label. The exit code is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import encodax
from benchmarks.sts import judged_texts, model_directory, spearman
from encodax.models.encoder_model import Model
from encodax.tasks.distillation import student_of

TUNING: dict[str, Any] = {
    "batch_size": 32, "epochs": 1, "learning_rate": 2e-5, "schedule": "linear", "seed": 0,
    "truncate": True,
}  # fmt: skip
WIDTHS = (192, 96)
LAYERS = (0, 2, 5)
STUDENT_TEXTS = 16_000
STUDYING: dict[str, Any] = {
    "batch_tokens": 4_096, "epochs": 2, "learning_rate": 5e-4, "schedule": "cosine", "seed": 0,
    "truncate": True,
}  # fmt: skip


def main() -> None:
    """Train, print, and exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=list(RUNS))
    options = parser.parse_args()
    table = Table("", "STS 2015 before", "after", "target", "seconds")
    missed = False
    for name in options.only:
        began = time.monotonic()
        row, is_met = RUNS[name](options.data)
        missed |= not is_met
        table.add_row(name, *row, f"{time.monotonic() - began:.0f}")
    Console(width=120).print(table)
    sys.exit(missed)


Outcome = tuple[tuple[str, str, str], bool]


def tuned(data: Path) -> Outcome:
    """Fine-tuning raises what is measured, or costs at most 0.3."""
    before = quality(Model.load(model_directory()), data)
    after = quality(fine_tuned(data, "tuned"), data)
    target = f">= {before - 0.3:.2f}"
    return (f"{before:.2f}", f"{after:.2f}", target), after >= before - 0.3


def nested(data: Path) -> Outcome:
    """A quarter of the features keeps 95 % of what the whole has."""
    start = Model.load(model_directory())
    before = [quality(start, data, width) for width in (None, *WIDTHS)]
    model = fine_tuned(data, "nested", widths=WIDTHS)
    after = [quality(model, data, width) for width in (None, *WIDTHS)]
    kept = after[-1] / after[0]
    shown = (" / ".join(f"{value:.2f}" for value in each) for each in (before, after))
    return (*shown, f"a quarter keeps {kept:.1%}, >= 95 %"), kept >= 0.95


def student(data: Path) -> Outcome:
    """Three layers keep 97 % of what six have."""
    teacher = Model.load(model_directory())
    start = student_of(teacher, LAYERS)
    texts = plain_texts(data)
    result = encodax.train(
        "distillation", train=texts[200:], eval=texts[:200], model=start, teacher=teacher,
        console=Console(stderr=True), **STUDYING,
    )  # fmt: skip
    whole, before, after = (quality(model, data) for model in (teacher, start, result.model))
    kept = after / whole
    told = f"keeps {kept:.1%} of {whole:.2f}, >= 97 %"
    return (f"{before:.2f}", f"{after:.2f}", told), kept >= 0.97


RUNS = {"tuned": tuned, "nested": nested, "student": student}


def fine_tuned(data: Path, name: str, **choices: Any) -> Model:
    """all-MiniLM-L6-v2 trained on the judged pairs of STS 2014."""
    pairs = judged_pairs(data / "sts" / "2014")
    random.Random(0).shuffle(pairs)
    tenth = len(pairs) // 10
    result = encodax.train(
        "embedding", train=pairs[tenth:], eval=pairs[:tenth], model=model_directory(),
        console=Console(stderr=True), **TUNING, **choices,
    )  # fmt: skip
    return result.model


def judged_pairs(folder: Path) -> list[dict[str, Any]]:
    """The pairs of a year that have a score."""
    scores, texts = judged_texts(folder)
    half = len(scores)
    return [
        {"text": first, "text_pair": second, "score": score}
        for score, first, second in zip(scores, texts[:half], texts[half:], strict=True)
    ]


def plain_texts(data: Path) -> list[dict[str, str]]:
    """Sentences of several sources, shuffled; none of STS 2015."""
    found: list[str] = []
    with gzip.open(data / "wikitext2" / "valid.txt.gz", "rt", encoding="utf-8") as lines:
        found += [piece for line in lines for piece in line.split(" . ")]
    with gzip.open(data / "multi30k" / "train.en.gz", "rt", encoding="utf-8") as lines:
        found += lines
    with (data / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as lines:
        found += [row[0] for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    _, pairs = judged_texts(data / "sts" / "2014")
    own = list(dict.fromkeys(text.strip() for text in found if len(text.split()) > 4))
    random.Random(0).shuffle(own)
    chosen = [*dict.fromkeys(pairs), *own][:STUDENT_TEXTS]
    random.Random(1).shuffle(chosen)
    return [{"text": text} for text in chosen]


def quality(model: Model, data: Path, width: int | None = None) -> float:
    """Spearman x 100 on STS 2015, of the leading features alone where a width is given."""
    scores, texts = judged_texts(data / "sts" / "2015")
    vectors = encodax.Embedder(model).encode(texts, truncate=True)[:, :width]
    return 100 * spearman(scores, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


if __name__ == "__main__":
    main()
