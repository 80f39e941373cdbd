"""all-MiniLM-L6-v2 gives the numbers that its authors published, and the reference's vectors.

`minilm_vectors.npz` is written by `benchmarks/sts.py`; of the texts it holds a hash alone.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from encodax import Embedder

pytestmark = pytest.mark.usefixtures("optimized")  # thousands of texts

FIXTURE = Path(__file__).with_name("minilm_vectors.npz")


@pytest.fixture(scope="module")
def embedder(minilm: Path) -> Embedder:
    return Embedder.load(minilm)


@pytest.mark.parametrize(("year", "published"), [("2014", 75.59), ("2015", 85.39)])
def test_similarity_ranks_sentences_as_published(
    embedder: Embedder, shared_data: Path, year: str, published: float
) -> None:
    scores, first, second = [], [], []
    for path in sorted((shared_data / "sts" / year).glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for score, left, right in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if score:
                    scores.append(float(score))
                    first.append(left)
                    second.append(right)
    left, right = np.split(embedder.encode([*first, *second]), 2)
    correlation = spearmanr(scores, np.sum(left * right, axis=1)).statistic
    assert 100 * correlation == pytest.approx(published, abs=0.05)


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder, shared_data: Path) -> None:
    lines = (shared_data / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()
    with np.load(FIXTURE) as stored:
        wanted, fingerprint = stored["vectors"], str(stored["sha256"])
    texts = list(dict.fromkeys(line.split("\t")[0] for line in lines))[: len(wanted)]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest() == fingerprint
    assert np.abs(embedder.encode(texts) - wanted).max() <= 1e-5
