"""Labelled examples, tokenized and checked, ready to train on or to be measured on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encodax.data.batches import BatchShape
from encodax.data.packing import Row, assemble, slots_of
from encodax.errors import EncodaxError
from encodax.model import Model
from encodax.tasks.task import Example, Targets, Task
from encodax.tokenizer import Encoding
from encodax.types import PackedBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Examples, and the token sequences that they make, with their targets, index by index."""

    task: Task
    examples: Sequence[Example]
    encodings: Sequence[Encoding]
    targets: Sequence[Targets]
    owners: Sequence[int]
    """For each token sequence, the index of its example: a long text may make several."""

    @classmethod
    def prepare(
        cls, task: Task, model: Model, examples: Sequence[Example], *, truncate: bool = False
    ) -> Dataset:
        """Tokenize examples and find their targets.

        Raises:
            EncodaxError: there is no example, a text is empty or too long, or a label is unknown.
        """
        if not examples:
            raise EncodaxError("the data set is empty: it has no example")
        pieces, cut = task.encode(model, examples, truncate=truncate)
        if cut:
            logger.warning("%d texts were cut to %d tokens", cut, model.max_length)
        owners = [index for index, own in enumerate(pieces) for _ in own]
        encodings = [encoding for own in pieces for encoding in own]
        targets = [
            task.targets(examples[owner], encoding, model.config.labels)
            for owner, encoding in zip(owners, encodings, strict=True)
        ]
        return cls(task, examples, encodings, targets, owners)

    def __len__(self) -> int:
        return len(self.encodings)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(encoding) for encoding in self.encodings]

    def batch(self, rows: Sequence[Row], shape: BatchShape) -> tuple[PackedBatch, Targets]:
        """The batch that holds these rows of examples, and the targets in the same places."""
        batch = assemble(
            [[self.encodings[index] for index in row] for row in rows],
            row_count=shape.row_count,
            row_tokens=shape.row_tokens,
            slots=shape.slots,
        )
        width = shape.slots if self.task.HEAD == "sequence" else shape.row_tokens
        classes = np.zeros((shape.row_count, width), np.int32)
        weights = np.zeros((shape.row_count, width), np.float32)
        for index, b, n, tokens in slots_of(rows, batch):
            place = n if self.task.HEAD == "sequence" else tokens
            classes[b, place] = self.targets[index].classes
            weights[b, place] = self.targets[index].weights
        return batch, Targets(classes, weights)
