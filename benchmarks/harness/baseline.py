"""A classic baseline: TF-IDF of words and pairs of words with logistic regression."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def predicted(
    texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], **choices: Any
) -> tuple[Any, float]:
    """The labels of what is asked, and the seconds that took; choices are of the regression."""
    start = time.perf_counter()
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pipeline = make_pipeline(vectors, LogisticRegression(C=10.0, **choices))
    pipeline.fit(texts, labels)
    found = pipeline.predict(asked)
    return found, time.perf_counter() - start
