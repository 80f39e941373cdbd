"""Spans as transformers' TokenClassificationPipeline gives them: `interop/pipelines.py`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from encodax.tasks.token_classification import decode
from encodax.text.tokenizer import Tokenizer

GOLDEN = json.loads(Path(__file__).with_name("pipelines.json").read_text(encoding="utf-8"))
CASES = [
    (case, way, spans)
    for case in GOLDEN["cases"]
    for way, spans in case["spans"].items()
]  # fmt: skip
"""Those whose answers are the same; why others differ is told by that command."""


@functools.cache
def tokenizer(name: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(GOLDEN["tokenizers"][name])))


@pytest.mark.parametrize("name", GOLDEN["tokenizers"])
def test_spans_are_those_of_the_pipeline(name: str) -> None:
    cases = [each for each in CASES if each[0]["tokenizer"] == name]
    assert {way for _, way, _ in cases} == {"none", "simple", "first", "average", "max"}
    for case, way, spans in cases:
        (encoding,) = tokenizer(name).encode([case["text"]])
        assert encoding.token_ids.tolist() == case["ids"]
        scores = np.asarray(case["scores"], np.float32)
        found: Any = decode(scores, encoding, tuple(GOLDEN["labels"]), way, case["text"])
        assert [[s.start, s.end, s.label, pytest.approx(s.score, abs=1e-4)] for s in found] == [
            [start, end, label.removeprefix("B-").removeprefix("I-"), score]
            for start, end, label, score in spans
        ]
