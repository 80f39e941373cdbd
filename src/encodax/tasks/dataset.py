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
    """Examples with their tokens and targets, index by index."""

    task: Task
    examples: Sequence[Example]
    encodings: Sequence[Encoding]
    targets: Sequence[Targets]

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
        encodings, cut = model.encode(
            [example.text for example in examples],
            truncate=truncate,
            names=[example.where for example in examples],
        )
        if cut:
            logger.warning("%d texts were cut to %d tokens", cut, model.max_length)
        targets = [
            task.targets(example, encoding, model.config.labels)
            for example, encoding in zip(examples, encodings, strict=True)
        ]
        return cls(task, examples, encodings, targets)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(encoding) for encoding in self.encodings]

    def batch(self, rows: Sequence[Row], shape: BatchShape) -> tuple[PackedBatch, Targets]:
        """The batch that holds these rows of examples, and the targets in the same places."""
        batch = assemble(
            self.encodings,
            rows,
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
