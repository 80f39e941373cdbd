"""Runs a model over any number of sequences, packed, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from encodax.config import HeadConfig
from encodax.data.batches import row_tokens_for
from encodax.data.packing import assemble, best_fit, slots_of
from encodax.errors import EncodaxError
from encodax.model import Model
from encodax.tokenizer import Encoding
from encodax.types import ModelOutput, PackedBatch, Params

ROW_TOKENS = (32, 128, 512, 2048, 8192)
"""Lengths of rows: few, so that few shapes are ever compiled."""
BATCH_TOKENS = 1024
"""Tokens in a full batch: on CPU about where more gains nothing."""
SHORTEST_USUAL = 8
"""A row has a slot for every so many tokens."""

Level = Literal["sequence", "token"]
Read = Callable[[ModelOutput], Any]
"""What is wanted of the model's output: an array, or several, (B, N, ...) or (B, T, ...)."""


def answer_of(head: HeadConfig) -> tuple[Read, Level]:
    """What a head's answer is read from, and whether it is one a sequence or one a token.

    Scores become probabilities: of one class, or of each class alone where several may be right.
    A quantity, and the ends of a span, stay as they are; a vector too.
    """
    if head.kind == "embedding":
        return (lambda output: output.vectors), "sequence"
    readings: dict[str, Callable[[Array], Array]] = {
        "single_label": jax.nn.softmax,
        "multi_label": jax.nn.sigmoid,
        "regression": lambda logits: logits,
    }
    reading = readings["regression" if head.kind == "span" else head.problem]

    def read(output: ModelOutput) -> Array:
        assert output.logits is not None
        return reading(output.logits.astype(jnp.float32))

    return read, "sequence" if head.kind == "sequence" else "token"


class OfModel:
    """Something that is made of a model."""

    def __init__(self, model: Model):
        self.model = model

    @classmethod
    def load(
        cls,
        path_or_id: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        **options: Any,
    ) -> Self:
        """Make it of a model directory, or of a model of the hub, as `Model.load` reads them.

        Args:
            path_or_id: a directory, or an id.
            revision: a branch, tag or commit of the hub's repository.
            token: for a private one.
            **options: what the class takes beside a model.
        """
        return cls(Model.load(path_or_id, revision=revision, token=token), **options)


class Engine:
    """What a model says of each sequence of a stream."""

    def __init__(self, model: Model, read: Read, level: Level):
        """Compile nothing yet.

        Args:
            model: gives the function; parameters may be given to `run`.
            read: what is wanted of the output; it runs on the device.
            level: whether that is one a sequence or one a token.
        """
        self._model = model
        self._level = level

        def answer(params: Params, batch: PackedBatch) -> Any:
            return read(model.apply(params, batch))

        self._answer: Callable[..., Any] = jax.jit(answer)

    def run(self, encodings: Sequence[Encoding], params: Params | None = None) -> list[Any]:
        """What was wanted of each sequence, (...) or (tokens, ...) in NumPy, in order.

        Raises:
            EncodaxError: a number is not finite: the parameters are broken.
        """
        params = self._model.params if params is None else params
        results: list[Any] = [None] * len(encodings)
        groups = _by_row_length([len(encoding) for encoding in encodings])
        for row_tokens, members in groups.items():
            group = [encodings[index] for index in members]
            for rows, batch in _batches(group, row_tokens):
                self._model.check(batch)
                answers = jax.device_get(self._answer(params, batch))  # (B, N or T, ...)
                if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(answers)):
                    raise EncodaxError(
                        "the model's scores are not finite: its parameters are broken"
                    )
                for index, b, n, tokens in slots_of(rows, batch):
                    place = n if self._level == "sequence" else tokens
                    results[members[index]] = jax.tree.map(lambda a: a[b, place], answers)  # noqa: B023
        return results


def _by_row_length(lengths: Sequence[int]) -> dict[int, list[int]]:
    """Which sequences go into rows of which length.

    What is short in all takes the shortest row that holds it: for the speed of one
    text alone. Otherwise short rows waste their ends, and 128 is the shortest.
    """
    shortest = 32 if sum(lengths) <= 32 else 128
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        fitting = (row for row in ROW_TOKENS if max(length, shortest) <= row)
        row_tokens = next(fitting, None) or row_tokens_for([length], smallest=1)
        groups.setdefault(row_tokens, []).append(index)
    return groups


def _batches(
    encodings: Sequence[Encoding], row_tokens: int
) -> Iterator[tuple[list[list[int]], PackedBatch]]:
    """Packed batches of two heights: full ones, and single rows for a handful of texts."""
    full = max(1, BATCH_TOKENS // row_tokens)
    slots = max(1, row_tokens // SHORTEST_USUAL)
    rows = best_fit([len(encoding) for encoding in encodings], row_tokens, slots)
    while rows:
        row_count = 1 if len(rows) == 1 else full
        taken, rows = rows[:row_count], rows[row_count:]
        yield (
            taken,
            assemble(encodings, taken, row_count=row_count, row_tokens=row_tokens, slots=slots),
        )
