"""What a model gives on packed rows, beside what a reference gave for the same texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from encodax.config import ModelConfig
from encodax.data import packing
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Encoding, Text
from encodax.types.batches import ModelOutput, PackedBatch, Params
from interop.samples import ROW_TOKENS

TOLERANCE = 1e-5
HIDDEN = frozenset({"hidden"})
SLOTS = 8
"""Of a packed row."""


@dataclass(frozen=True)
class Result:
    """What became of a cell."""

    difference: float | None = None
    """The largest; None where nothing was compared."""
    problem: str | None = None
    """Why it fails."""
    reason: str | None = None
    """Why nothing was compared, or not all."""

    @property
    def is_wrong(self) -> bool:
        """Whether it fails; a difference that is not finite does."""
        if self.difference is None:
            return self.problem is not None
        return self.problem is not None or not self.difference <= TOLERANCE

    def __str__(self) -> str:
        if self.problem is not None:
            return "FAIL"
        if self.difference is None:
            return "n/a"
        wrong = "FAIL " if self.is_wrong else ""
        return f"{wrong}{self.difference:.1e}" + "*" * (self.reason is not None)


def rank(result: Result) -> tuple[bool, float]:
    """The worse a result, the higher."""
    return result.is_wrong, result.difference or 0.0


RUNNERS: dict[ModelConfig, Callable[[Params, PackedBatch], ModelOutput]] = {}


def run(model: Model, encodings: Sequence[Encoding]) -> list[dict[str, np.ndarray]]:
    """What a model gives for each sequence, from packed rows: hidden (L + 1, T, D) and output."""
    rows = packing.best_fit([len(encoding) for encoding in encodings], ROW_TOKENS, SLOTS)
    batch = packing.assemble(
        [[encodings[index] for index in row] for row in rows],
        row_count=len(encodings),
        row_tokens=ROW_TOKENS,
        slots=SLOTS,
    )
    runner = jax.jit(lambda params, batch: model.apply(params, batch, record=HIDDEN))
    output = RUNNERS.setdefault(model.config, runner)(model.params, batch)
    stages = np.stack([*output.records["hidden"][:-1], output.hidden])  # (L + 1, B, T, D)
    answers: dict[int, dict[str, np.ndarray]] = {}
    for index, b, n, here in packing.slots_of(rows, batch):
        answers[index] = {"hidden": stages[:, b, here]}
        if output.vectors is not None:
            answers[index]["output"] = np.asarray(output.vectors)[b, n]
        elif output.logits is not None and model.config.head is not None:
            place = n if model.config.head.pooling else here
            answers[index]["output"] = np.asarray(output.logits)[b, place]
    return [answers[index] for index in range(len(encodings))]


def deviation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to what is expected beyond 1."""
    if ours.shape != theirs.shape:
        return float("inf")
    worst = float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max())
    return worst if np.isfinite(worst) else float("inf")


def of_case(stored: Mapping[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    """The arrays of one text, whose names begin with its own."""
    start = f"{case}/"
    return {name.removeprefix(start): stored[name] for name in stored if name.startswith(start)}


def compared(model: Model, texts: Sequence[Text], place: Path) -> Result:
    """A model, and what the reference gave for the same texts."""
    encodings, _ = model.encode(texts)
    worst = 0.0
    with np.load(place) as stored:
        for index, (encoding, ours) in enumerate(
            zip(encodings, run(model, encodings), strict=True)
        ):
            theirs = of_case(stored, str(index))
            if theirs["ids"].tolist() != encoding.token_ids.tolist():
                return Result(problem=f"other token ids of {texts[index]!r}")
            keys = ours.keys() & theirs.keys()
            worst = max([worst, *(deviation(ours[key], theirs[key]) for key in keys)])
    return Result(worst)
