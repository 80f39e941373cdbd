"""Packing of a stream of sequences into full batches, one window of texts at a time."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from encodax.data.batches import BatchShape
from encodax.data.packing import assemble, best_fit_of_lengths
from encodax.errors import EncodaxError
from encodax.text.tokenizer import Encoding
from encodax.types.batches import PackedBatch

ROW_TOKENS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
"""Lengths of rows in tokens: few, so that few shapes are ever compiled."""
USUAL_ROW = 64
"""Shortest row where there are enough tokens to fill it; fewer take the shortest that fits."""
TOKENS_PER_SLOT = 4
"""Number of tokens of a row for each slot."""
WINDOW_ITEMS = 1024
"""Largest number of texts in a window ..."""
WINDOW_SIZE = 262_144
"""... and of characters in a window: the first limit reached bounds the memory."""

MAX_WAIT = 0.1
"""Default number of seconds that a text of a live source waits for others."""

Item = TypeVar("Item")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Live:
    """Settings for a live source, which may be silent for a while, as a pipe is."""

    max_wait: float = MAX_WAIT
    """Number of seconds that an item waits for others to share its batch."""
    on_pause: Callable[[], object] = _nothing
    """Function called whenever all items so far are answered and no more are available yet."""

    def __post_init__(self) -> None:
        if not self.max_wait >= 0:
            raise EncodaxError(f"max_wait = {self.max_wait} is not a number of seconds >= 0")

    @classmethod
    def of(cls, max_wait: float | None) -> Live | None:
        """Return settings for `max_wait` seconds; None where a source is read in whole windows."""
        return None if max_wait is None else cls(max_wait)


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Items of a stream that are read together."""

    items: list[Item]
    is_end: bool = False
    """Whether the source ended after these items, ..."""
    error: BaseException | None = None
    """... and the error with which it ended, if any."""
    is_pause: bool = False
    """Whether no more items came in time: waiting sequences are then answered without them."""

    @property
    def is_last(self) -> bool:
        """Whether no window comes after it, or not yet."""
        return self.is_end or self.is_pause


def windows(
    source: Iterable[Item], size_of: Callable[[Item], int], live: Live | None = None
) -> Generator[Window[Item]]:
    """Yield the windows of a stream; the last one holds the source's error, if any.

    Args:
        source: items; it may never end.
        size_of: function that returns the size of an item.
        live: settings to read the source on a separate thread, so that a window need not wait for
            it; None to read it on this thread, in whole windows.
    """
    return _whole_windows(source, size_of) if live is None else _live_windows(source, size_of, live)


def _whole_windows(
    source: Iterable[Item], size_of: Callable[[Item], int]
) -> Generator[Window[Item]]:
    items: list[Item] = []
    size = 0
    try:
        for item in source:
            items.append(item)
            size += size_of(item)
            if _is_full(items, size):
                yield Window(items)
                items, size = [], 0
    except Exception as error:
        yield Window(items, is_end=True, error=error)
    else:
        yield Window(items, is_end=True)


def _live_windows(
    source: Iterable[Item], size_of: Callable[[Item], int], live: Live
) -> Generator[Window[Item]]:
    reader = _Reader(source, size_of)
    is_answered = True
    try:
        while True:
            window = reader.window(live.max_wait, None if is_answered else live.max_wait)
            yield window
            if window.is_end:
                return
            is_answered = window.is_pause
            if is_answered:
                live.on_pause()
    finally:
        reader.close()


def _is_full(items: Sequence[Any], size: int) -> bool:
    return len(items) >= WINDOW_ITEMS or size >= WINDOW_SIZE


class _Reader(Generic[Item]):
    """Reader of a source on a separate thread, one window and one item ahead."""

    def __init__(self, source: Iterable[Item], size_of: Callable[[Item], int]):
        """Start to read."""
        self._size_of = size_of
        self._changed = threading.Condition()
        self._items: list[Item] = []
        self._size = 0
        self._first_at = 0.0
        """Time when the first of the items came."""
        self._is_end = False
        self._error: BaseException | None = None
        self._is_closed = False
        # A daemon: nothing can wake it in a silent source, and the process may end.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._read, source),
            name="encodax-read",
            daemon=True,
        )
        self._thread.start()

    def window(self, max_wait: float, max_wait_for_first: float | None) -> Window[Item]:
        """Return items until a window is full, the source ends, or the time is up.

        Args:
            max_wait: seconds after the first item came.
            max_wait_for_first: seconds to wait for the first item; None for any time.
        """
        with self._changed:
            self._wait(max_wait_for_first, for_full=False)
            if self._items:
                self._wait(self._first_at + max_wait - time.monotonic(), for_full=True)
            is_full = _is_full(self._items, self._size)
            is_pause = not self._is_end and not is_full
            window = Window(self._items, self._is_end, self._error, is_pause)
            self._items, self._size = [], 0
            self._changed.notify()
        return window

    def close(self) -> None:
        """Stop reading; wait for the thread, unless it is waiting in the source."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():  # a garbage collection may run there
            self._thread.join(MAX_WAIT)

    def _wait(self, seconds: float | None, *, for_full: bool) -> None:
        """Wait for an item, or for a full window; or for the end of the source."""
        if seconds is not None:
            seconds = min(max(seconds, 0), threading.TIMEOUT_MAX)
        self._changed.wait_for(
            lambda: (
                self._is_end or (_is_full(self._items, self._size) if for_full else self._items)
            ),
            seconds,
        )

    def _read(self, source: Iterable[Item]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as error:  # raised again where the results are used
            self._error = error
        with self._changed:
            self._is_end = True
            self._changed.notify()

    def _put(self, item: Item) -> bool:
        """Add an item once there is space; return True while more items are needed."""
        size = self._size_of(item)
        with self._changed:
            while _is_full(self._items, self._size) and not self._is_closed:
                self._changed.wait()
            self._items.append(item)
            self._size += size
            if len(self._items) == 1:
                self._first_at = time.monotonic()
            if len(self._items) == 1 or _is_full(self._items, self._size):
                self._changed.notify()
            return not self._is_closed


Tokenized = TypeVar("Tokenized")


def tokenize_until_error(
    window: Sequence[Item], tokenize: Callable[[list[Item]], tuple[Sequence[Tokenized], int]]
) -> tuple[list[Item], list[Tokenized], int, Exception | None]:
    """Tokenize a window, up to the first item that fails.

    Args:
        window: the items.
        tokenize: function that returns a result for each item, and how many items were cut.

    Returns:
        The items before it, the result of each, how many of them were cut, and the error raised.
    """
    try:
        found, cut = tokenize(list(window))
    except Exception:  # by one of them: tokenize each separately
        found, cut = [], 0
    else:
        return list(window), list(found), cut, None
    each: list[Tokenized] = []
    for place, item in enumerate(window):
        try:
            found, cut_here = tokenize([item])
        except Exception as error:
            return list(window[:place]), each, cut, error
        each += found
        cut += cut_here
    return list(window), each, cut, None


@dataclass(eq=False)
class PendingSequence:
    """Sequence that is being processed by a model."""

    encoding: Encoding
    has_waited: bool = False
    """Whether an earlier window had no full batch for it."""
    result: Any = None
    is_done: bool = False


@dataclass(frozen=True)
class Shapes:
    """Shapes of all batches that a device is given."""

    batch_tokens: int
    """Number of tokens in a full batch of one device."""
    devices: int = 1
    """Number of devices; the number of rows is a multiple of it, an equal share for each."""

    def row_counts(self, row_tokens: int) -> list[int]:
        """Return B of batches of such rows, largest first: full, a quarter of that, and one row."""
        full = max(1, self.batch_tokens // row_tokens) if row_tokens >= USUAL_ROW else 1
        return [
            self.devices * count for count in sorted({full, max(1, full // 4), 1}, reverse=True)
        ]

    def all(self, longest: int) -> list[BatchShape]:
        """Return every shape that sequences of up to `longest` tokens can take."""
        return [
            BatchShape(row_count, row_tokens, slots_of_row(row_tokens))
            for row_tokens in ROW_TOKENS
            if row_tokens <= max(USUAL_ROW, row_that_holds(longest))
            for row_count in self.row_counts(row_tokens)
        ]


def slots_of_row(row_tokens: int) -> int:
    """Return N, the number of slots of a row."""
    return row_tokens // TOKENS_PER_SLOT


def row_that_holds(tokens: int) -> int:
    """Return the shortest row for a sequence; the longest of all where none is long enough."""
    return next((row for row in ROW_TOKENS if row >= tokens), ROW_TOKENS[-1])


class Packer:
    """Packer of successive windows; sequences that fill no batch wait for the next window, once."""

    def __init__(self, shapes: Shapes):
        """Start without waiting sequences."""
        self._shapes = shapes
        self._waiting: list[PendingSequence] = []

    def add(
        self, jobs: Sequence[PendingSequence], *, is_last: bool
    ) -> list[tuple[list[list[PendingSequence]], PackedBatch]]:
        """Return the batches that are ready, each with the jobs of its rows.

        Args:
            jobs: sequences of a window.
            is_last: whether no window comes after it, or not yet, so that nothing waits.
        """
        jobs = [*self._waiting, *jobs]
        lengths = [len(job.encoding) for job in jobs]
        smallest = min(USUAL_ROW, row_that_holds(sum(lengths))) if is_last else USUAL_ROW
        longest = max(smallest, row_that_holds(max(lengths, default=0)))
        kinds = [(row, slots_of_row(row)) for row in ROW_TOKENS if smallest <= row <= longest]
        by_length: dict[int, list[list[PendingSequence]]] = {}
        for row_tokens, row in best_fit_of_lengths(lengths, kinds):
            by_length.setdefault(row_tokens, []).append([jobs[index] for index in row])
        batches, self._waiting = [], []
        for row_tokens, rows in by_length.items():
            going, waiting = self._split(rows, row_tokens, is_last)
            batches += [
                (taken, _assembled(taken, row_count, row_tokens)) for row_count, taken in going
            ]
            self._waiting += [job for row in waiting for job in row]
        for job in self._waiting:
            job.has_waited = True
        return batches

    def _split(
        self, rows: list[list[PendingSequence]], row_tokens: int, is_last: bool
    ) -> tuple[list[tuple[int, list[list[PendingSequence]]]], list[list[PendingSequence]]]:
        """Split rows into batches, each with its B, and rows that fill no batch and may wait."""
        row_counts = self._shapes.row_counts(row_tokens)
        rows = sorted(rows, key=lambda row: not _is_overdue(row))
        going = []
        while rows and (is_last or len(rows) >= row_counts[0] or _is_overdue(rows[0])):
            fitting = (count for count in row_counts if count <= len(rows))
            count = next(fitting, row_counts[-1])
            going.append((count, rows[:count]))
            rows = rows[count:]
        return going, rows


def _assembled(rows: list[list[PendingSequence]], row_count: int, row_tokens: int) -> PackedBatch:
    return assemble(
        [[job.encoding for job in row] for row in rows],
        row_count=row_count,
        row_tokens=row_tokens,
        slots=slots_of_row(row_tokens),
    )


def _is_overdue(row: list[PendingSequence]) -> bool:
    return any(job.has_waited for job in row)
