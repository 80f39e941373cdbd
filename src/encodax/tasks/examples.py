"""The examples of records, understood when they are asked for: none is held."""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from encodax.data.aligned import Aligned
from encodax.data.records import Records
from encodax.data.sources import Record
from encodax.tasks.empty import IN_DATA, Empties, OnEmptyInData
from encodax.tasks.task import Example, Task


class Part(Sequence[Record]):
    """Some of the records of files."""

    def __init__(self, records: Sequence[Record], places: Sequence[int] | np.ndarray):
        """Choose them by their numbers."""
        self.whole, self._places = records, places

    @property
    def paths(self) -> list[str]:
        """The files they are read from, and the folders that were named."""
        return getattr(self.whole, "paths", [])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """The record of that number among the chosen ones."""
        if isinstance(index, slice):
            return [self.whole[int(place)] for place in self._places[index]]
        return self.whole[int(self._places[index])]


class Examples(Sequence[Example]):
    """The examples of records, each made anew when it is asked for."""

    def __init__(
        self,
        task: Task,
        records: Any,
        change: Callable[[Example], Example] | None = None,
        sha256: str = "",
    ):
        """Understand none yet.

        Args:
            task: gives the records a meaning.
            records: a sequence of them. It is not said so, as checking would read one.
            change: what is done with each example, such as a prompt before its text.
            sha256: of what the records hold, wherever they stand.
        """
        self._task, self._records, self._change, self.sha256 = task, records, change, sha256

    @property
    def records(self) -> Iterator[Record]:
        """What they are made of."""
        yield from self._records

    @property
    def files(self) -> list[Records]:
        """The files that they are read from; none where they are in memory."""
        source = self._records
        while isinstance(source, Part):
            source = source.whole
        if isinstance(source, Aligned):
            return list(source.sides)
        return [source] if isinstance(source, Records) else []

    def read_by(self, task: Task) -> Examples:
        """The same records, as another task understands them."""
        return Examples(task, self._records, self._change, self.sha256)

    def changed(self, change: Callable[[Example], Example]) -> Examples:
        """The same examples, each after this."""
        return Examples(self._task, self._records, change, self.sha256)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """The example of that number.

        Raises:
            EncodaxError: its record is none of the task, or cannot be read.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._of(self._records[index])

    def __iter__(self) -> Iterator[Example]:
        return map(self._of, self._records)

    def _of(self, record: Record) -> Example:
        example = self._task.parse(record, labelled=True)
        return example if self._change is None else self._change(example)


def examples_of_records(task: Task, records: Any, on_empty: OnEmptyInData = "error") -> Examples:
    """The examples of a sequence of records, all of which have been understood once.

    So whatever cannot be is told before anything begins, the first of it first.

    Args:
        task: gives the records a meaning.
        records: a sequence of them; it is not said so, as checking would read one.
        on_empty: what becomes of records of an empty text: `error` refuses them, and `skip` leaves
            them out.

    Raises:
        EncodaxError: one cannot be understood, or its text is empty and that is refused.
    """
    parse = functools.partial(task.parse, labelled=True)
    filled, digest = array("q"), hashlib.sha256()
    for number, example in Empties(on_empty, IN_DATA).filled(parse, records):
        filled.append(number)
        digest.update(_content(example))
    chosen = Part(records, filled) if len(filled) < len(records) else records
    return Examples(task, chosen, sha256=digest.hexdigest())


def _content(example: Example) -> bytes:
    """All that an example says, but for where it stands."""
    return repr((example.text, example.others, example.words, example.target)).encode(
        errors="surrogatepass"
    )


def at_hand(records: Any) -> Any:
    """Records that can be gone through again: as they are where they can, else in a list.

    What they are is not said, as checking would read one.
    """
    return records if isinstance(records, Sequence) else list(records)
