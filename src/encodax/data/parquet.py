"""Records from Parquet files, through pyarrow: a batch or a row group at a time.

Rows are read a column at a time, and a column when a value of it is first asked for: what is in
columns that nobody wants takes no time, and cannot be wrong. Classes that the `datasets` library
has written as numbers have their names, which stand in the file.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from encodax.data.formats import LONGEST_LINE
from encodax.errors import EncodaxError

BATCH_ROWS = 1024
"""Rows that are read together, in order."""
KEPT_BYTES = 1 << 28
"""Columns of row groups that are kept for records in any order."""
UNLABELLED = -1
"""The class that `datasets` gives what has none."""
Classes = tuple[str, ...] | dict[str, "Classes"]
"""Names by number, or those of the fields of an object; lists of such are like one of them."""


class ClassName(str):
    """The name of a class, with the number that it has in the file."""

    number: int

    @classmethod
    def of(cls, name: str, number: int) -> ClassName:
        """A name that knows its number."""
        found = cls(name)
        found.number = number
        return found


class Row(Mapping[str, Any]):
    """What is in a row, by the name of the column; each value is made when it is asked for."""

    def __init__(self, names: Sequence[str], value: Callable[[str], Any]):
        """Take the names of the file's columns, and what gives the value in one of them."""
        self._names, self._value = names, value

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._value(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        return f"Row({', '.join(self._names)})"


def records(path: str) -> Iterator[tuple[Row, str]]:
    """What is in each row, and where it stands, such as `train.parquet, row 3`.

    Raises:
        EncodaxError: the file cannot be read, or pyarrow is not installed.
    """
    with _opened(path) as file:
        names, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
        classes = _classes_of_file(file)
        cursors: dict[str, _Cursor] = {}
        for start in range(0, rows, BATCH_ROWS):
            stop = min(start + BATCH_ROWS, rows)
            batch = _Batch(path, file, classes, cursors, start, stop)
            try:
                for index in range(start, stop):
                    yield batch.row(names, index), where(path, index)
                batch.take_along()
            finally:
                batch.leave()


class _Cursor:
    """One column of an open file, read once from its beginning on."""

    def __init__(self, path: str, file: Any, name: str):
        _check_size(path, file, name)
        self._path, self._name = path, name
        self._values = (
            value
            for batch in file.iter_batches(BATCH_ROWS, columns=[name])
            for value in batch.column(name)
        )
        self._at = 0

    def between(self, start: int, stop: int) -> list[Any]:
        """The values of these rows, which come after those that were given before."""
        with _told(self._path):
            found = list(itertools.islice(self._values, start - self._at, stop - self._at))
        self._at = stop
        if len(found) < stop - start:
            raise EncodaxError(f"{self._path}: the column {self._name!r} has too few values")
        return found


class _Batch:
    """Rows that are read together: the columns of them that were asked for.

    While it is the one that is gone through, columns come from cursors. A row that is kept, and
    asked later for a column that nobody had wanted, reads the file again.
    """

    def __init__(
        self,
        path: str,
        file: Any,
        classes: Mapping[str, Classes],
        cursors: dict[str, _Cursor],
        start: int,
        stop: int,
    ) -> None:
        self._path, self._file, self._cursors = path, file, cursors
        self._classes = classes
        self._start, self._stop = start, stop
        self._columns: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def row(self, names: Sequence[str], index: int) -> Row:
        return Row(names, lambda name: self._value(name, index))

    def take_along(self) -> None:
        """Read what is known to be wanted: cursors go on to the next rows."""
        with self._lock:
            for name in self._cursors:
                self._column(name)

    def leave(self) -> None:
        """Others are gone through now, or none."""
        with self._lock:
            self._file = None

    def _value(self, name: str, index: int) -> Any:
        with self._lock:
            value = self._column(name)[index - self._start]
        return plain(value, name, where(self._path, index), self._classes.get(name))

    def _column(self, name: str) -> list[Any]:
        if name not in self._columns:
            if self._file is None:
                with _opened(self._path) as file:
                    values = _Cursor(self._path, file, name).between(self._start, self._stop)
            else:
                if name not in self._cursors:
                    self._cursors[name] = _Cursor(self._path, self._file, name)
                values = self._cursors[name].between(self._start, self._stop)
            self._columns[name] = values
        return self._columns[name]


def plain(value: Any, name: str, where: str, classes: Classes | None = None) -> Any:
    """A value of Arrow as one of Python, and classes by their names.

    Raises:
        EncodaxError: Python has none for it, such as nanoseconds; or it is a class without a name,
            or a text that is too long.
    """
    content = value.as_buffer() if hasattr(value, "as_buffer") else None
    if content is not None and content.size > LONGEST_LINE:
        raise _too_long(where, name)
    try:
        found = value.as_py()
    except Exception as error:  # of any kind: each type has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncodaxError(
            f"{where}: {name!r}, a column of type {value.type}, cannot be read: {reason}; write it "
            "as strings or numbers"
        ) from error

    return found if classes is None else _named(found, classes, f"{where}: {name!r}")


def _named(value: Any, classes: Classes, what: str) -> Any:
    """A value with the names of its classes for their numbers."""
    if isinstance(value, list):
        return [_named(item, classes, what) for item in value]
    if isinstance(classes, dict):
        own = value if isinstance(value, dict) else {}
        named = {k: _named(v, classes[k], what) if k in classes else v for k, v in own.items()}
        return named if own else value
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if 0 <= value < len(classes):
        return ClassName.of(classes[value], value)
    if value == UNLABELLED:
        raise EncodaxError(
            f"{what} is -1, as `datasets` has it where there is no label (most test sets are so): "
            "take a split with labels, or leave the row out"
        )
    raise EncodaxError(f"{what} is {value}, and the file names the classes 0 to {len(classes) - 1}")


def _classes_of_file(file: Any) -> dict[str, Classes]:
    """The names of classes in each column of an open file that has any."""
    metadata = file.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = _classes_of(features)
    return found if isinstance(found, dict) else {}


def _classes_of(feature: Any) -> Classes | None:
    """The names of classes in what `datasets` says of a column, however deep in lists they are."""
    if isinstance(feature, list) and len(feature) == 1:
        return _classes_of(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        is_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if names and is_named else None
    if isinstance(feature.get("_type"), str):
        return _classes_of(feature.get("feature"))
    found = {name: _classes_of(inner) for name, inner in feature.items()}
    return {name: classes for name, classes in found.items() if classes is not None} or None


def _check_size(path: str, file: Any, name: str) -> None:
    """Refuse a column before it is unpacked, where by the footer some cell has to be too long."""
    facts = file.metadata
    leaves = [
        index
        for index in range(len(file.schema))
        if file.schema.column(index).path.split(".")[0] == name
    ]
    for group in range(facts.num_row_groups):
        rows = facts.row_group(group)
        size = sum(rows.column(leaf).total_uncompressed_size for leaf in leaves)
        if size > LONGEST_LINE * max(rows.num_rows, 1):
            raise _too_long(path, name)


def _too_long(where: str, name: str) -> EncodaxError:
    limit = f"{LONGEST_LINE >> 20} MiB"
    return EncodaxError(f"{where}: a cell of {name!r} is longer than {limit}; cut it into several")


def where(path: str, index: int) -> str:
    """Where a row stands; people count from 1."""
    return f"{path}, row {index + 1}"


@dataclass(frozen=True)
class Footer:
    """What a file says of its rows."""

    names: list[str]
    """Of the columns."""
    groups: list[int]
    """How many rows each row group has."""
    classes: dict[str, Classes]
    """The names of classes, of the columns that have any."""


def footer(path: str) -> Footer:
    """What a file says of its rows.

    Raises:
        EncodaxError: the file cannot be read, or pyarrow is not installed.
    """
    with _opened(path) as file:
        facts = file.metadata
        groups = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
        return Footer(list(file.schema_arrow.names), groups, _classes_of_file(file))


class RowGroups:
    """The row groups that were asked for last, of each the columns that were; thread-safe.

    Up to `KEPT_BYTES`, and at least one group.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RowGroups], tuple[()]]:
        return RowGroups, ()

    def value(self, path: str, group: int, name: str, index: int) -> Any:
        """What is in that column of a row group, in that row, as Arrow has it.

        Raises:
            EncodaxError: the file cannot be read.
        """
        with self._lock:  # so that a column is read once, whoever else wants it
            columns = self._kept.setdefault((path, group), {})
            self._kept.move_to_end((path, group))
            if name not in columns:
                with _opened(path) as file:
                    _check_size(path, file, name)
                    columns[name] = file.read_row_group(group, columns=[name]).column(name)
                while len(self._kept) > 1 and self._bytes() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            return columns[name][index]

    def _bytes(self) -> int:
        return sum(int(column.nbytes) for own in self._kept.values() for column in own.values())


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise EncodaxError(
            f"{path}: reading Parquet needs pyarrow: pip install 'encodax[parquet]'"
        ) from error
    with _told(path), pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise EncodaxError(f"{path}: two columns have one name: {', '.join(names)}")
        yield file


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What pyarrow raises, as errors that name the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncodaxError(f"{path}: cannot be read as Parquet: {reason}") from error
