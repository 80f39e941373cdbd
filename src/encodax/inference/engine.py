"""Engine: runs a model over a stream of sequences, packed, in order, compiled beforehand."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Literal, TypedDict, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from encodax.config import HeadConfig, InferenceConfig
from encodax.data.batches import BatchShape
from encodax.data.packing import slots_of
from encodax.data.stream import (
    Live,
    Packer,
    PendingSequence,
    Shapes,
    Window,
    tokenize_until_error,
    windows,
)
from encodax.inference.loading import Loading
from encodax.inference.precision import Precision
from encodax.inference.runtime import Runtime, check_finite, empty_batch
from encodax.inference.scores import NO_USAGE, activation_of
from encodax.models.encoder_model import Model
from encodax.nn import functional
from encodax.process import forks
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch, Params

MAX_BATCHES_IN_FLIGHT = 2
"""Number of batches that a device is given before the answers of the first are fetched."""

Item = TypeVar("Item")
Level = Literal["sequence", "token"]
OutputFunction = Callable[[ModelOutput], Any]
"""Function that takes arrays, (B, N, ...) or (B, T, ...), from the model's output."""
Tokenize = Callable[[list[Item]], tuple[Sequence[Sequence[Encoding]], int]]
"""Tokenization of a window: the token sequences of each item (none or several), and the number of
items that were cut."""


def head_output(
    head: HeadConfig, usage: InferenceConfig = NO_USAGE
) -> tuple[OutputFunction, Level]:
    """Return the function that reads a head's answer, and the level of that answer.

    The answer is a vector, or scores: logits after the activation of `scores.activation_of`.
    """
    if head.kind == "embedding":
        return (lambda output: output.vectors), "sequence"
    activation = functional.SCORE_ACTIVATIONS[activation_of(head, usage)]

    def read(output: ModelOutput) -> Array:
        assert output.logits is not None
        return activation(output.logits.astype(jnp.float32))

    return read, "sequence" if head.kind == "sequence" else "token"


class EngineOptions(TypedDict, total=False):
    """Options for running a model, which every predictor takes."""

    precision: Precision | None
    """Number format of products; None for float32 on CPU, and bfloat16 on accelerators."""
    devices: Sequence[jax.Device] | None
    """Devices to run on, each with its share of the rows; None for all local devices."""
    batch_tokens: int | None
    """Tokens in a full batch of one device; None for a number that suits the device."""


@dataclass(eq=False)
class _Request(Generic[Item]):
    """Item with its sequences, until all are answered."""

    item: Item
    jobs: list[PendingSequence]


@dataclass(frozen=True)
class _PackedWindow(Generic[Item]):
    """Window of the stream, tokenized and packed."""

    requests: list[_Request[Item]]
    batches: list[tuple[list[list[PendingSequence]], PackedBatch]]
    cut: int
    is_last: bool
    """Whether no window follows, or none has arrived yet."""
    error: BaseException | None
    """Error of the source, or of the first item that could not be tokenized: it follows the answers
    to the items before it."""


class Engine(forks.NotPicklable):
    """Engine that answers each sequence of a stream with the model's output.

    Texts are read one window at a time. A window is tokenized and packed on a thread while the
    device runs the one before it. Answers come in the order of the texts.

    Rows have few lengths, and batches few heights (`Shapes`), so that after `warm_up` nothing is
    compiled again. Threads may share an engine.
    """

    def __init__(
        self,
        model: Model,
        output_function: OutputFunction,
        level: Level,
        *,
        precision: Precision | None = None,
        devices: Sequence[jax.Device] | None = None,
        batch_tokens: int | None = None,
    ):
        """Set up the engine; nothing is compiled yet.

        Args:
            model: model to run; `run` may be given other parameters.
            output_function: function that takes what is wanted from the model's output; it runs on
                the device.
            level: level of what it takes: one for each sequence, or one for each token.
            precision: see `EngineOptions`.
            devices: see `EngineOptions`.
            batch_tokens: see `EngineOptions`.

        Raises:
            EncodaxError: there is no such precision.
        """
        forks.check()
        self._model = model
        self._level = level
        self._runtime = Runtime(devices, precision)
        self._shapes = Shapes(self._runtime.batch_tokens(batch_tokens), self._runtime.device_count)
        self._params = self._runtime.place(model.params)

        def answer(params: Params, batch: PackedBatch) -> Any:
            return output_function(model.apply(params, batch, head_only=True))

        self._answer = jax.jit(
            answer,
            in_shardings=(self._runtime.replicated, self._runtime.by_row),
            out_shardings=self._runtime.by_row,
        )
        self._executables: dict[BatchShape, Callable[..., Any]] = {}
        self._compiling = threading.Lock()

    @property
    def precision(self) -> Precision:
        """Number format of products."""
        return self._runtime.precision

    def warm_up(self, longest: int | None = None) -> None:
        """Compile for every shape, so that no text waits for it.

        Args:
            longest: most tokens of a sequence; None for the model's limit.
        """
        for shape in self._shapes.all(longest or self._model.longest_sequence):
            self._executable(self._params, shape)

    def run(self, encodings: Iterable[Encoding], params: Params | None = None) -> list[Any]:
        """Return each sequence's output in order: NumPy arrays, (...) or (tokens, ...).

        Args:
            encodings: the sequences.
            params: parameters in float32; None for the model's own.

        Raises:
            EncodaxError: a number is not finite: the parameters are broken.
        """

        def as_they_are(window: list[Encoding]) -> tuple[list[list[Encoding]], int]:
            return [[encoding] for encoding in window], 0

        answers = self.stream(encodings, as_they_are, len, params=self.device_params(params))
        return [answer for _, _, (answer,) in answers]

    def device_params(self, params: Params | None) -> Params | None:
        """Convert parameters in float32 to what `stream` takes; None for the model's own."""
        return None if params is None else self._runtime.place(params)

    def stream(
        self,
        items: Iterable[Item],
        tokenize: Tokenize[Item],
        size_of: Callable[[Item], int],
        *,
        params: Params | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Item, list[Encoding], list[Any]]]:
        """Yield each item with its sequences and the output of each, in order.

        Args:
            items: the source; it may be endless.
            tokenize: tokenizes a window of items; on another thread if there is more than one
                window.
            size_of: size of an item, which counts towards the size of a window.
            params: parameters as `device_params` returns them; None for the model's own.
            live: settings for a source that may pause: its items are read on a separate thread and
                wait at most `live.max_wait` seconds for others. None reads them on the caller's
                thread, in whole windows.

        Raises:
            EncodaxError: a number is not finite: the parameters are broken.
        """
        running: _RunningBatches[Item] = _RunningBatches(
            self, self._params if params is None else params
        )
        cut = 0
        with contextlib.closing(self._packed_windows(items, tokenize, size_of, live)) as prepared:
            for window in prepared:
                cut += window.cut
                running.requests += window.requests
                for rows, batch in window.batches:
                    running.dispatch(rows, batch)
                    yield from running.answered()
                yield from running.answered(wait=window.is_last)
                if window.error is not None:
                    raise window.error
        self._model.log_cut(cut)

    def _packed_windows(
        self,
        items: Iterable[Item],
        tokenize: Tokenize[Item],
        size_of: Callable[[Item], int],
        live: Live | None,
    ) -> Generator[_PackedWindow[Item]]:
        """Yield the windows of a stream, packed; each is packed while the one before it runs."""
        packer = Packer(self._shapes)

        def prepare(window: Window[Item]) -> _PackedWindow[Item]:
            items, sequences, cut, failed = tokenize_until_error(window.items, tokenize)
            error = failed or window.error
            requests = [
                _Request(item, [PendingSequence(encoding) for encoding in own])
                for item, own in zip(items, sequences, strict=True)
            ]
            jobs = [job for request in requests for job in request.jobs]
            is_last = window.is_last or error is not None
            batches = packer.add(jobs, is_last=is_last)
            for _, batch in batches:
                self._model.check(batch)
            return _PackedWindow(requests, batches, cut, is_last, error)

        forks.check()
        ahead: Future[_PackedWindow[Item]] | None = None
        with (
            contextlib.closing(windows(items, size_of, live)) as pieces,
            ThreadPoolExecutor(1, "encodax-tokenize") as host,
        ):
            for window in pieces:
                forks.check()  # a forked process does not have the thread
                if ahead is None and window.is_last:  # nothing runs at the same time: no thread
                    yield prepare(window)
                    continue
                ready, ahead = ahead, host.submit(prepare, window)
                if ready is not None:
                    yield ready.result()
                if window.is_last:
                    yield ahead.result()
                    ahead = None

    def dispatch(self, params: Params, batch: PackedBatch) -> Any:
        """Start to run a batch; return its output, which is still being computed."""
        row_count, row_tokens = batch.token_ids.shape
        shape = BatchShape(row_count, row_tokens, batch.starts.shape[1])
        return self._executable(params, shape)(params, batch)

    def _executable(self, params: Params, shape: BatchShape) -> Callable[..., Any]:
        forks.check()
        if shape not in self._executables:
            with self._compiling:
                if shape not in self._executables:
                    batch = empty_batch(shape.row_count, shape.row_tokens, shape.slots)
                    self._executables[shape] = self._runtime.compile(self._answer, params, batch)
        return self._executables[shape]

    def collect(self, rows: list[list[PendingSequence]], batch: PackedBatch, answers: Any) -> None:
        """Wait for the answers of a batch, (B, N or T, ...), and give each sequence its part."""
        leaves: list[np.ndarray]
        form: Any
        leaves, form = jax.tree.flatten(jax.device_get(answers))
        check_finite(leaves)
        for job, b, n, tokens in slots_of(rows, batch):
            place = n if self._level == "sequence" else tokens
            job.result = form.unflatten([leaf[b, place].copy() for leaf in leaves])
            job.is_done = True


class _RunningBatches(Generic[Item]):
    """Requests of a stream that are not answered yet, and the batches that are running for them."""

    def __init__(self, engine: Engine, params: Params):
        self._engine, self._params = engine, params
        self.requests: deque[_Request[Item]] = deque()
        self._batches: deque[tuple[list[list[PendingSequence]], PackedBatch, Any]] = deque()

    def dispatch(self, rows: list[list[PendingSequence]], batch: PackedBatch) -> None:
        """Start to run a batch with these rows."""
        self._batches.append((rows, batch, self._engine.dispatch(self._params, batch)))

    def answered(self, *, wait: bool = False) -> Iterator[tuple[Item, list[Encoding], list[Any]]]:
        """Yield and remove the first requests that are answered.

        Args:
            wait: wait for all batches; otherwise only until the device has room for another batch.
        """
        while self._batches and (
            wait or len(self._batches) >= MAX_BATCHES_IN_FLIGHT or _is_ready(self._batches[0][2])
        ):
            self._engine.collect(*self._batches.popleft())
            yield from self._first_done()
        yield from self._first_done()  # items without a sequence need no batch

    def _first_done(self) -> Iterator[tuple[Item, list[Encoding], list[Any]]]:
        while self.requests and all(job.is_done for job in self.requests[0].jobs):
            request = self.requests.popleft()
            yield (
                request.item,
                [job.encoding for job in request.jobs],
                [job.result for job in request.jobs],
            )


class EngineBacked(Loading, forks.NotPicklable):
    """Base of classes that run a model with an engine."""

    ENCODER_ONLY: ClassVar[bool] = False
    """Whether a head that is not for embeddings is ignored at loading."""

    def __init__(self, model: Model, engine: Engine):
        self.model = model
        self._engine = engine

    @classmethod
    def _loader(cls) -> Callable[..., Model]:
        return partial(Model.load, encoder_only=cls.ENCODER_ONLY)

    @property
    def precision(self) -> Precision:
        """Number format of products."""
        return self._engine.precision

    def warm_up(self, longest: int | None = None) -> None:
        """Compile for every batch shape, so that no text waits for it.

        Args:
            longest: most tokens of a text; None for the model's limit.
        """
        self._engine.warm_up(longest)


def _is_ready(answers: Any) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(answers))
