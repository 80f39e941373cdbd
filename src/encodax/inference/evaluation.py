"""Evaluation of parameters on data, for every task.

For tasks with answers, the metrics compare the answers with the labels; the loss is added up over
packed batches without dropout. For tasks without answers, such sums are the only metrics, with
masks that are the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import jax
import numpy as np
from jaxtyping import Array, Float

from encodax.data.batches import BatchShape
from encodax.data.packing import Rows
from encodax.inference.engine import (
    Engine,
    head_output,
)
from encodax.inference.precision import Precision
from encodax.inference.predictors import Predictor, answer_dataset
from encodax.inference.runtime import Runtime, check_finite
from encodax.models.encoder_model import Model
from encodax.tasks import MEASURED_HEADS, embedding
from encodax.tasks.dataset import Dataset, perturbed_by_row
from encodax.tasks.decoding import DecodingOptions, decoding_of
from encodax.tasks.empty import OnEmptyInData
from encodax.tasks.examples import at_hand, examples_of_records
from encodax.tasks.task import (
    AnyModel,
    BatchMetrics,
    Example,
    LossOptions,
    Targets,
    Task,
    apply_options,
    side_by_side,
)
from encodax.types.batches import AnyBatch, ModelOutput, PackedBatch, Params

Evaluator = Callable[[Params | None], dict[str, float]]
"""Function from parameters (None for the model's own) to metrics by name."""
SEED = 0
"""Seed of the masks, the same for all parameters and all runs."""


def evaluator(
    model: AnyModel,
    data: Dataset,
    loss_options: LossOptions,
    teacher: Model | None = None,
    *,
    batch_tokens: int | None = None,
    precision: Precision | None = None,
) -> Evaluator:
    """Return the function that measures parameters on this data.

    Args:
        model: model that the parameters belong to.
        data: data to measure on, and its task.
        loss_options: options of the loss.
        teacher: model whose output the loss needs, if any.
        batch_tokens: tokens in a batch of one device, if batches have one shape; None for a number
            that suits the device. It changes the metrics by rounding only.
        precision: number format of products; see `EngineOptions`.
    """
    if data.task.batch_metrics is not None:
        return BatchEvaluator(
            model, data, loss_options, teacher, batch_tokens=batch_tokens, precision=precision
        )
    assert isinstance(model, Model)
    if data.task.compares_examples:
        return vector_evaluator(model, data, loss_options, precision)
    return answer_evaluator(model, data, loss_options, batch_tokens, precision)


def answer_evaluator(
    model: Model,
    data: Dataset,
    loss_options: LossOptions,
    batch_tokens: int | None,
    precision: Precision | None,
) -> Evaluator:
    """Return a function that measures the loss, and a predictor's answers with the task's metrics.

    Both see a chunk of the data that fits in memory, then the next: a text is tokenized once.
    """
    predictor: Predictor[object] = Predictor(
        model, precision=precision, tag_scheme=loss_options.tag_scheme
    )
    chunks = data.chunks()
    losses = BatchEvaluator(
        model, data, loss_options, batch_tokens=batch_tokens, precision=precision, chunks=chunks
    )

    def measure(params: Params | None) -> dict[str, float]:
        totals: dict[str, float] = {}
        placed = None if params is None else losses.place(params)  # once for all chunks

        def found() -> Iterator[tuple[Any, Example]]:
            for chunk in chunks:
                kept = data.with_kept(chunk)
                losses.add(totals, chunk, kept, placed)
                yield from predictor.answered(kept, placed, chunk)

        metrics = data.task.metrics(*side_by_side(found()))
        return {**metrics, **losses.summary(totals)}

    return measure


def vector_evaluator(
    model: Model, data: Dataset, loss_options: LossOptions, precision: Precision | None
) -> Evaluator:
    """Return a function that measures the cosines of vectors.

    Raises:
        EncodaxError: some examples have scores, and others none.
    """
    embedding.labels(data.examples)
    assert model.config.head is not None
    engine = Engine(model, *head_output(model.config.head), precision=precision)

    def measure(params: Params | None) -> dict[str, float]:
        loss = embedding.MeanLoss(loss_options)

        def found() -> Iterator[tuple[list[Any], Example]]:
            for example, encodings, vectors in answer_dataset(engine, data, params):
                anchor, *others = map(embedding.token_key, encodings)
                read = replace(example, text=anchor, others=tuple(others))
                loss.add(vectors, read)
                yield vectors, read

        metrics = embedding.metrics(*side_by_side(found()), loss_options.widths)
        return {**metrics, "loss": loss.value()}

    return measure


def evaluate(
    model: Model,
    records: Any,
    *,
    truncate: bool = False,
    precision: Precision | None = None,
    on_empty: OnEmptyInData = "error",
    **options: Unpack[DecodingOptions],
) -> dict[str, Any]:
    """Measure a model of any task on labelled records; return numbers by name.

    For tasks with classes, `classes` holds the numbers of each class.

    Args:
        model: the model.
        records: data to measure on, each a `Record`. Not annotated so: a type check would read one.
        truncate: cut texts that are longer than the model takes; the number of cut texts is logged.
        precision: number format of products; None for float32 on CPU, and bfloat16 on accelerators.
        on_empty: treatment of records with an empty text: `error` refuses them, `skip` leaves them
            out.
        **options: see `DecodingOptions`; `tag_scheme` also sets the scheme of the labels.

    Raises:
        EncodaxError: a record is not one of the task, the model has no head, or an option is for
            another task.
    """
    kind = None if model.config.head is None else model.config.head.kind
    task = MEASURED_HEADS.get(kind or "")
    if task is None:
        predictor: Predictor[object] = Predictor(model, precision=precision, **options)
        return predictor.evaluate(records, truncate=truncate, on_empty=on_empty)
    decoding_of(task, options)  # refuses options: these tasks have none
    examples = examples_of_records(task, at_hand(records), on_empty)
    task.check_evaluation(examples)
    data = Dataset.prepare(task, model, examples, truncate=truncate)
    return evaluator(model, data, LossOptions(), precision=precision)(None)


def loss_metrics(task: Task) -> BatchMetrics:
    """Return the mean of a task's loss as a metric."""

    def sums(
        output: ModelOutput, targets: Targets, batch: Any, loss_options: LossOptions
    ) -> dict[str, Float[Array, ""]]:
        total, weight = task.loss(output, targets, batch, loss_options)
        return {"loss": total, "weight": weight}

    return BatchMetrics(sums, lambda found: {"loss": found["loss"] / (found["weight"] or 1.0)})


class BatchEvaluator:
    """Evaluator that adds up a task's sums over all of the data, in batches of one shape.

    The sequences that share a row, and the masks, depend on the data alone: the numbers are the
    same for any devices, and for any number of rows in a batch.
    """

    def __init__(
        self,
        model: AnyModel,
        data: Dataset,
        loss_options: LossOptions,
        teacher: Model | None = None,
        *,
        batch_tokens: int | None = None,
        precision: Precision | None = None,
        chunks: Sequence[range] = (),
    ):
        """Lay out the batches; nothing is compiled yet.

        Args:
            model: as in `evaluator`.
            data: as in `evaluator`.
            loss_options: as in `evaluator`.
            teacher: as in `evaluator`.
            batch_tokens: as in `evaluator`.
            precision: as in `evaluator`.
            chunks: `data.chunks()`, for batches with sequences of one chunk each.
        """
        self._data, self._loss_options = data, loss_options
        measured = data.task.batch_metrics or loss_metrics(data.task)
        sums, self._summary = measured.sums, measured.summary
        self._runtime = Runtime(precision=precision)
        one_row = BatchShape.of(data.lengths, 1)
        rows_of_device = max(1, self._runtime.batch_tokens(batch_tokens) // one_row.longest_row)
        row_count = self._runtime.device_count * rows_of_device
        self._shape = replace(one_row, row_count=row_count)
        self._rows: dict[range, tuple[int, Rows]] = {}
        first = 0
        for chunk in chunks or [range(len(data))]:
            rows = self._shape.packed(data.lengths[chunk.start : chunk.stop])
            self._rows[chunk] = first, rows.named(np.asarray(chunk))
            first += len(rows)
        self._own = self._runtime.place(model.params)
        self._teacher = None if teacher is None else self._runtime.place(teacher.params)

        apply: Callable[..., ModelOutput] = model.apply  # the batch is of the kind that it takes

        def added(
            params: Params, taught: Params | None, batch: AnyBatch, targets: Targets
        ) -> dict[str, Array]:
            run = apply_options(data.task, targets)
            output = apply(params, batch, **run)
            if teacher is not None:
                assert taught is not None and isinstance(batch, PackedBatch)
                answer = teacher.apply(taught, batch, **run)
                targets = replace(targets, teacher=answer)
            return sums(output, targets, batch, loss_options)

        whole, by_row = self._runtime.replicated, self._runtime.by_row
        self._added = jax.jit(
            added, in_shardings=(whole, whole, by_row, by_row), out_shardings=whole
        )

    def __call__(self, params: Params | None = None) -> dict[str, float]:
        """Return the metrics of these parameters, or of the model's own.

        Raises:
            EncodaxError: a number is not finite: the parameters are broken.
        """
        totals: dict[str, float] = {}
        placed = None if params is None else self.place(params)
        for chunk in self._rows:
            self.add(totals, chunk, self._data, placed)
        return self.summary(totals)

    def place(self, params: Params) -> Params:
        """Put parameters on the devices, in the number format, as `add` takes them."""
        return self._runtime.place(params)

    def add(
        self, totals: dict[str, float], chunk: range, data: Dataset, params: Params | None = None
    ) -> None:
        """Add the sums of a chunk to the totals.

        Args:
            totals: sums by name, which are changed.
            chunk: one of the chunks.
            data: the data set, with its sequences in memory or not.
            params: parameters to measure, as `place` returns them; None for the model's own.
        """
        params = self._own if params is None else params
        with self._runtime.computing():
            for batch, targets in self.batches(chunk, data):
                found = jax.device_get(self._added(params, self._teacher, batch, targets))
                for name, value in found.items():
                    totals[name] = totals.get(name, 0.0) + float(value)

    def summary(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of sums over all of the data.

        Raises:
            EncodaxError: a sum is not finite: the parameters are broken.
        """
        check_finite(totals)
        return self._summary(totals)

    def batches(self, chunk: range, data: Dataset) -> Iterator[tuple[AnyBatch, Targets]]:
        """Yield a chunk of the data in batches, the same each time; arguments as in `add`."""
        height, (first, rows) = self._shape.row_count, self._rows[chunk]
        for start in range(0, len(rows), height):
            batch, targets = data.batch(rows[start : start + height], self._shape)
            seeds = [(SEED, first + place) for place in range(start, start + height)]
            yield perturbed_by_row(data, batch, targets, self._loss_options, seeds)
