"""Examples of records, parsed once where they fit in memory, and otherwise on each access."""

from __future__ import annotations

import functools
import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from encodax.data.aligned import Aligned
from encodax.data.records import Records
from encodax.data.sources import Record
from encodax.tasks.empty import IN_DATA, EmptyTextRule, OnEmptyInData
from encodax.tasks.task import Example, Task

KEPT_BYTES = 32 << 20
"""Maximum bytes of parsed examples kept in memory; others are parsed when needed."""
BYTES_OF_ONE = 500
"""Bytes of an example as Python objects, without its characters."""


class Part(Sequence[Record]):
    """Subset of the records of files."""

    def __init__(self, records: Sequence[Record], places: Sequence[int] | np.ndarray):
        """Select records by their indices."""
        self.whole, self._places = records, places

    @property
    def paths(self) -> list[str]:
        """Paths of the files and folders that the records are read from."""
        return getattr(self.whole, "paths", [])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Return the selected record at this index."""
        if isinstance(index, slice):
            return [self.whole[int(place)] for place in self._places[index]]
        return self.whole[int(self._places[index])]


class Examples(Sequence[Example]):
    """Examples of records: those that are not kept are parsed again at each access."""

    def __init__(
        self,
        task: Task,
        records: Any,
        change: Callable[[Example], Example] | None = None,
        sha256: str = "",
        kept: Sequence[Example] = (),
    ):
        """Wrap records without parsing them.

        Args:
            task: task that parses the records.
            records: a sequence of records. It has no precise type, as type checking would read one.
            change: function applied to each example, such as adding a prompt.
            sha256: hash of the content of the records.
            kept: examples of the first records, as the task parses them.
        """
        self._task, self._records, self._change, self.sha256 = task, records, change, sha256
        self._kept = kept

    @property
    def records(self) -> Iterator[Record]:
        """Records of the examples."""
        yield from self._records

    @property
    def files(self) -> list[Records]:
        """Files that the records are read from; empty if they are in memory."""
        source = self._records
        while isinstance(source, Part):
            source = source.whole
        if isinstance(source, Aligned):
            return list(source.sides)
        return [source] if isinstance(source, Records) else []

    def read_by(self, task: Task) -> Examples:
        """Return the same records, parsed by another task."""
        return Examples(task, self._records, self._change, self.sha256)

    def changed(self, change: Callable[[Example], Example]) -> Examples:
        """Return the same examples with a change applied to each."""
        return Examples(self._task, self._records, change, self.sha256, self._kept)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Return the example at this index.

        Raises:
            EncodaxError: its record is invalid for the task, or cannot be read.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index < len(self._kept):
            return self._changed(self._kept[index])
        return self._changed(self._task.parse(self._records[index], labelled=True))

    def __iter__(self) -> Iterator[Example]:
        rest = itertools.islice(self._records, len(self._kept), None)
        parsed = (self._task.parse(record, labelled=True) for record in rest)
        return map(self._changed, itertools.chain(self._kept, parsed))

    def _changed(self, example: Example) -> Example:
        return example if self._change is None else self._change(example)


def examples_of_records(task: Task, records: Any, on_empty: OnEmptyInData = "error") -> Examples:
    """Return the examples of a sequence of records, after parsing all of them once.

    So an invalid record is reported before any work begins.

    Args:
        task: task that parses the records.
        records: a sequence of records. It has no precise type, as type checking would read one.
        on_empty: rule for records with an empty text: `error` refuses them, and `skip` leaves
            them out.

    Raises:
        EncodaxError: a record is invalid, or its text is empty and `on_empty` is `error`.
    """
    parse = functools.partial(task.parse, labelled=True)
    filled, digest = array("q"), hashlib.sha256()
    kept: list[Example] = []
    room = KEPT_BYTES
    for number, example in EmptyTextRule(on_empty, IN_DATA).non_empty(parse, records):
        filled.append(number)
        content = _content(example)
        digest.update(content)
        room -= BYTES_OF_ONE + len(content)
        if room >= 0:
            kept.append(example)
    chosen = Part(records, filled) if len(filled) < len(records) else records
    return Examples(task, chosen, sha256=digest.hexdigest(), kept=kept)


def _content(example: Example) -> bytes:
    """Return the content of an example without its source, as bytes."""
    return repr((example.text, example.others, example.words, example.target)).encode(
        errors="surrogatepass"
    )


def at_hand(records: Any) -> Any:
    """Return records that can be iterated again: a sequence as it is, anything else as a list.

    `records` has no precise type, as type checking would read one.
    """
    return records if isinstance(records, Sequence) else list(records)
