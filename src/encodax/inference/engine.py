"""Runs a model over any number of sequences, packed, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data.batches import row_tokens_for
from encodax.data.packing import assemble, best_fit, slots_of
from encodax.errors import EncodaxError
from encodax.model import Model
from encodax.tokenizer import Encoding
from encodax.types import PackedBatch, Params

ROW_TOKENS = (32, 128, 512, 2048, 8192)
"""Lengths of rows: few, so that few shapes are ever compiled."""
BATCH_TOKENS = 1024
"""Tokens in a full batch: on CPU about where more gains nothing."""
SHORTEST_USUAL = 8
"""A row has a slot for every so many tokens."""


class Engine:
    """Class probabilities for a stream of sequences."""

    def __init__(self, model: Model, level: Literal["sequence", "token"]):
        """Compile nothing yet.

        Args:
            model: gives the function; parameters may be given to `run`.
            level: whether the head answers for each sequence or for each token.
        """
        self._model = model
        self._level = level

        def scores(params: Params, batch: PackedBatch) -> Float[Array, "B _ C"]:
            logits = model.apply(params, batch).logits
            assert logits is not None
            return jax.nn.softmax(logits.astype(jnp.float32))

        self._scores: Callable[..., Array] = jax.jit(scores)

    def run(
        self, encodings: Sequence[Encoding], params: Params | None = None
    ) -> list[Float[np.ndarray, "*tokens C"]]:
        """The probabilities of each sequence, (C,) or (tokens, C), in order.

        Raises:
            EncodaxError: a probability is not finite: the parameters are broken.
        """
        params = self._model.params if params is None else params
        results: list[np.ndarray] = [np.empty(0)] * len(encodings)
        groups = _by_row_length([len(encoding) for encoding in encodings])
        for row_tokens, members in groups.items():
            group = [encodings[index] for index in members]
            for rows, batch in _batches(group, row_tokens):
                self._model.check(batch)
                scores = np.asarray(self._scores(params, batch))  # (B, N or T, C)
                for index, b, n, tokens in slots_of(rows, batch):
                    place = n if self._level == "sequence" else tokens
                    results[members[index]] = scores[b, place]
        if not all(np.isfinite(result).all() for result in results):
            raise EncodaxError("the model's scores are not finite: its parameters are broken")
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
