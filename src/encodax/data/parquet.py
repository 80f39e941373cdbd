"""Records from Parquet files, through pyarrow: one batch or one row group at a time.

Rows are read by column, and a column when one of its values is first accessed: unused columns take
no time, and their errors do not matter. Classes that the `datasets` library stores as numbers get
their names, which are in the file.
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
"""Number of rows that are read together, in order."""
KEPT_BYTES = 1 << 28
"""Bytes of row groups' columns that are kept for access in any order."""
UNLABELLED = -1
"""Class number in `datasets` of rows without a label."""
Classes = tuple[str, ...] | dict[str, "Classes"]
"""Class names by number, or those of an object's fields; a list has those of its items."""


class ClassName(str):
    """Name of a class, with its number in the file."""

    number: int

    @classmethod
    def of(cls, name: str, number: int) -> ClassName:
        """Return the name with its number."""
        found = cls(name)
        found.number = number
        return found


class Row(Mapping[str, Any]):
    """Fields of a row, by the name of the column; each value is made when it is accessed."""

    def __init__(self, names: Sequence[str], value: Callable[[str], Any]):
        """Set the names of the file's columns, and the function that returns a column's value."""
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
    """Yield the fields of each row, and its place, such as `train.parquet, row 3`.

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
    """Cursor over one column of an open file, which is read once from its beginning."""

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
        """Return the values of these rows, which must come after those returned before."""
        with _pyarrow_errors(self._path):
            found = list(itertools.islice(self._values, start - self._at, stop - self._at))
        self._at = stop
        if len(found) < stop - start:
            raise EncodaxError(
                f"{self._path}: the column {self._name!r} has too few values; is the file damaged? "
                "fetch it again"
            )
        return found


class _Batch:
    """Rows that are read together: those of their columns that were accessed.

    While it is the current batch, columns come from cursors. For a row that is kept, and accessed
    later in a column that was not read, the file is read again.
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
        """Read the columns in use: cursors advance to the next rows."""
        with self._lock:
            for name in self._cursors:
                self._column(name)

    def leave(self) -> None:
        """Release the file: this is no longer the current batch."""
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
    """Return a value of Arrow as one of Python, with classes by their names.

    Raises:
        EncodaxError: Python has no such value, such as nanoseconds; or it is a class without a
            name, or a text that is too long.
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
    """Return a value with class names in place of class numbers."""
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
            f"{what} is -1, which in `datasets` means no label (as in most test sets): use a split "
            "with labels, or leave the row out"
        )
    raise EncodaxError(f"{what} is {value}, and the file names the classes 0 to {len(classes) - 1}")


def _classes_of_file(file: Any) -> dict[str, Classes]:
    """Return the class names in each column of an open file that has any."""
    metadata = file.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = _classes_of(features)
    return found if isinstance(found, dict) else {}


def _classes_of(feature: Any) -> Classes | None:
    """Return the class names in a feature of `datasets`, however deeply nested in lists."""
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
    """Refuse a column before it is decompressed, where by the footer some cell must be too long."""
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
    """Return the place of a row for messages; rows are counted from 1."""
    return f"{path}, row {index + 1}"


@dataclass(frozen=True)
class Footer:
    """Rows and columns of a file."""

    names: list[str]
    """Names of the columns."""
    groups: list[int]
    """Number of rows in each row group."""
    classes: dict[str, Classes]
    """Class names of the columns that have any."""


def footer(path: str) -> Footer:
    """Return the rows and columns of a file.

    Raises:
        EncodaxError: the file cannot be read, or pyarrow is not installed.
    """
    with _opened(path) as file:
        facts = file.metadata
        groups = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
        return Footer(list(file.schema_arrow.names), groups, _classes_of_file(file))


class RowGroups:
    """Cache of the most recently accessed row groups, with their columns in use; thread-safe.

    It keeps up to `KEPT_BYTES`, and at least one group.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RowGroups], tuple[()]]:
        return RowGroups, ()

    def value(self, path: str, group: int, name: str, index: int) -> Any:
        """Return the Arrow value of a column in a row of a row group.

        Raises:
            EncodaxError: the file cannot be read.
        """
        with self._lock:  # so that a column is read only once
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
    with _pyarrow_errors(path), pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise EncodaxError(f"{path}: two columns have the same name: {', '.join(names)}")
        yield file


@contextmanager
def _pyarrow_errors(path: str) -> Iterator[None]:
    """Turn errors of pyarrow into errors that name the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncodaxError(f"{path}: cannot be read as Parquet: {reason}") from error
