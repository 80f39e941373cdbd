"""Sequence to sequence on the same dates: a decoder writes the ISO date, character by character.

The tagger of act one finds characters, and rules turn them into a date. Here the model learns only
from pairs of texts, in one of the languages and in ISO 8601: the digits of other scripts, the names
of months and the order of fields are learned together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from encodax.demo.baseline import Measurement
from encodax.demo.dates import DatedText, exact_match
from encodax.inference.translator import Translator
from encodax.inspection.inspector import Inspector
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.training.loop.fit import FitResult
from encodax.training.train import train
from encodax.types.inspection import AttentionMaps

STEPS = 1_500
CHOICES: dict[str, Any] = {
    "tokenizer": "char",
    "layers": 2,
    "width": 96,
    "heads": 4,
    "max_positions": 64,  # the longest of all dates has 48 characters, and the end token
    "dropout_rate": 0.0,  # data are plentiful, and time is short
    "batch_tokens": 1_024,
    "learning_rate": 2e-3,
    "warmup": 0.05,
    "schedule": "cosine",
    "weight_decay": 0.01,
    "label_smoothing": 0.0,
}
"""Arguments of `encodax.train`, apart from steps and seed."""


@dataclass(frozen=True)
class DecoderResult:
    """Dates written by the decoder."""

    fitted: FitResult
    answers: list[str]
    measurement: Measurement
    looks: AttentionMaps
    """Attention to the characters of a date, for each character that was written."""


def train_writer(
    train_on: Sequence[DatedText],
    validate_on: Sequence[DatedText],
    *,
    seed: int,
    steps: int = STEPS,
    out: Path | None = None,
    console: Console | None = None,
) -> FitResult:
    """Train a new Transformer to write ISO dates."""
    return train(
        "translation",
        train=_records(train_on),
        eval=_records(validate_on),
        out=out,
        console=console,
        seed=seed,
        steps=steps,
        **CHOICES,
    )


def _records(dated: Sequence[DatedText]) -> list[dict[str, str]]:
    return [{"source": written.text, "target": written.iso} for written in dated]


def write(fitted: FitResult, dated: Sequence[DatedText], shown: str) -> DecoderResult:
    """Write the ISO dates of texts by greedy search. The time excludes compilation.

    Args:
        fitted: the trained Transformer.
        dated: evaluation dates.
        shown: text whose attention is kept.
    """
    assert isinstance(fitted.model, Seq2SeqModel)
    translator = Translator(fitted.model, batch_size=128)
    texts = [written.text for written in dated]
    longest = max(len(written.iso) for written in dated) + 1  # the end token included
    translator.translate(texts[:1000], beams=1, max_tokens=longest)
    began = time.perf_counter()
    found = translator.translate(texts, beams=1, max_tokens=longest)
    seconds = time.perf_counter() - began
    answers = [translation.text for translation in found]
    match = exact_match(answers, dated)
    measurement = Measurement(match, len(texts), seconds)
    looks, *_ = Inspector(fitted.model, steps=0).inspect(shown).attention
    return DecoderResult(fitted, answers, measurement, looks)
