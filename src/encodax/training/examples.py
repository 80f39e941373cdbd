"""The examples of a data set, from files or from memory: understood when they are asked for."""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard, overload

from encodax.data import sources
from encodax.data.aligned import Aligned
from encodax.data.formats import Columns
from encodax.data.records import Paths, Records, expanded, open_records
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks.empty import IN_DATA, Empties, OnEmptyInData
from encodax.tasks.task import Example, Task


class Part(Sequence[Record]):
    """Some of the records of files."""

    def __init__(self, records: Sequence[Record], places: Sequence[int]):
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
            return [self.whole[place] for place in self._places[index]]
        return self.whole[self._places[index]]


Data = Paths | Part | Aligned | Iterable[dict[str, Any]]
"""Files to read, or records in memory."""


class Examples(Sequence[Example]):
    """The examples of records, each made anew when it is asked for."""

    def __init__(self, task: Task, records: Any, sha256: str = ""):
        """Understand none yet.

        Args:
            task: gives the records a meaning.
            records: a sequence of them. It is not said so, as checking would read one.
            sha256: of what they hold, wherever they stand.
        """
        self._task, self._records, self.sha256 = task, records, sha256

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
        return Examples(task, self._records, self.sha256)

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
        return self._task.parse(self._records[index], labelled=True)

    def __iter__(self) -> Iterator[Example]:
        return (self._task.parse(record, labelled=True) for record in self._records)


def examples_of(
    task: Task,
    data: Data,
    columns: Columns | None = None,
    on_empty: OnEmptyInData = "error",
    format: str | None = None,
) -> Examples:
    """The examples of files or of records in memory; all of them have been understood once.

    So whatever cannot be is told before anything begins, the first of it first.

    Args:
        task: gives the records a meaning.
        data: files to read, or records in memory.
        columns: names of the columns of tables without a header, or fields with the names that
            they have there.
        on_empty: what becomes of records of an empty text: `error` refuses them, and `skip` leaves
            them out.
        format: of files, where their names do not tell.

    Raises:
        EncodaxError: there is none, or one cannot be understood.
    """
    records: Any
    if _are_paths(data):
        name = str(data) if isinstance(data, str | Path) else ", ".join(map(str, data))
        records = open_records(data, columns=columns, format=format)
    else:
        given: Any = data
        name = "the data"
        records = data if isinstance(data, Part | Aligned) else list(sources.records_of(given))
    if not len(records):
        raise EncodaxError(f"{name}: the data set is empty")
    parse = functools.partial(task.parse, labelled=True)
    filled, digest = array("q"), hashlib.sha256()
    for number, example in Empties(on_empty, IN_DATA).filled(parse, records):
        filled.append(number)
        digest.update(_content(example))
    if not filled:
        raise EncodaxError(f"{name}: the data set is empty: each text is")
    if len(filled) < len(records):
        records = Part(records, filled)
    return Examples(task, records, digest.hexdigest())


def _content(example: Example) -> bytes:
    """All that an example says, but for where it stands."""
    return repr((example.text, example.others, example.words, example.target)).encode(
        errors="surrogatepass"
    )


def paths_of(data: Data, format: str | None = None) -> list[str]:
    """The files that data are read from, and the folders that were named; none of data in memory.

    Args:
        data: files to read, or records in memory.
        format: of files, where their names do not tell.

    Raises:
        EncodaxError: there is no such file.
    """
    if _are_paths(data):
        given = [data] if isinstance(data, str | Path) else data
        return [*map(str, given), *expanded(data, format=format)]
    return data.paths if isinstance(data, Part | Aligned) else []


def _are_paths(data: Data) -> TypeGuard[Paths]:
    if isinstance(data, str | Path):
        return True
    if not isinstance(data, list | tuple):
        return False
    return len(data) > 0 and all(isinstance(item, str | Path) for item in data)
