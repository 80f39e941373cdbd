"""A class for each job: texts in, answers out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.inference.engine import Engine
from encodax.model import Model
from encodax.tasks import classification, task_of, token_classification
from encodax.tasks.classification import Classification
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example
from encodax.tokenizer import Text
from encodax.types import Params, Span

logger = logging.getLogger(__name__)

WINDOW = 4096
"""Texts that are packed together: bounds the memory, and the wait for the first answer."""

Answer = TypeVar("Answer")


class Predictor(Generic[Answer]):
    """Answers of whatever task the model's head is for."""

    TASK: ClassVar[str | None] = None
    """The task that a subclass is for; None for any."""

    def __init__(self, model: Model):
        """Take a model with a head.

        Raises:
            EncodaxError: the model has no head, or one for another task.
        """
        self.model = model
        self.task = task_of(model.config)
        if self.TASK not in (None, self.task.NAME):
            raise EncodaxError(f"the model is one for {self.task.NAME}, not {self.TASK}")
        self._engine = Engine(model, self.task.HEAD)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a model directory."""
        return cls(Model.load(path))

    def predict(self, texts: Sequence[Text], *, truncate: bool = False) -> list[Answer]:
        """Answers for texts (or pairs), in order.

        Args:
            texts: a list of texts, or of pairs.
            truncate: cut what is longer than the model takes; how many were cut is logged.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`.
        """
        if isinstance(texts, str):
            raise EncodaxError("predict wants a list of texts, not one string")
        examples = (Example(text, None, f"text {index}") for index, text in enumerate(texts))
        return [answer for _, answer in self.answers(examples, truncate=truncate)]

    def answers(
        self, examples: Iterable[Example], *, truncate: bool = False
    ) -> Iterator[tuple[Example, Answer]]:
        """Each example with its answer, in order; the source is read a window at a time."""
        source, cut = iter(examples), 0
        while window := list(itertools.islice(source, WINDOW)):
            encodings, cut_here = self.model.encode(
                [example.text for example in window],
                truncate=truncate,
                names=[example.where for example in window],
            )
            cut += cut_here
            scores = self._engine.run(encodings)
            for example, encoding, its_scores in zip(window, encodings, scores, strict=True):
                yield example, self.task.decode(its_scores, encoding, self.model.config.labels)
        if cut:
            logger.warning("%d texts were cut to %d tokens", cut, self.model.max_length)

    def evaluate(self, records: Iterable[Record], *, truncate: bool = False) -> dict[str, float]:
        """The task's metrics over labelled records.

        Raises:
            EncodaxError: a record is not one of the task, or its label is not known.
        """
        examples = [self.task.parse(record, labelled=True) for record in records]
        return self.measure(Dataset.prepare(self.task, self.model, examples, truncate=truncate))

    def measure(self, data: Dataset, params: Params | None = None) -> dict[str, float]:
        """The task's metrics over prepared data, with the model's parameters or others."""
        labels = self.model.config.labels
        scores = self._engine.run(data.encodings, params)
        answers: list[Any] = [
            self.task.decode(its_scores, encoding, labels)
            for its_scores, encoding in zip(scores, data.encodings, strict=True)
        ]
        return self.task.metrics(answers, data.examples)


class Classifier(Predictor[Classification]):
    """One label for each text, or pair of texts."""

    TASK = classification.NAME


class TokenClassifier(Predictor[tuple[Span, ...]]):
    """Labelled spans of each text, in its own offsets."""

    TASK = token_classification.NAME
