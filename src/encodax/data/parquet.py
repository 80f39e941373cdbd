"""Records from Parquet files, through pyarrow: a batch or a row group at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from encodax.data.formats import Fields
from encodax.errors import EncodaxError

BATCH_ROWS = 1024
"""Rows that are read together, in order."""
KEPT_BYTES = 1 << 28
"""Row groups that are kept for records in any order."""


def records(path: str) -> Iterator[tuple[Fields, str]]:
    """What is in each row, and where it stands, such as `train.parquet, row 3`.

    Raises:
        EncodaxError: the file cannot be read, or pyarrow is not installed.
    """
    with _opened(path) as file:
        batches = file.iter_batches(BATCH_ROWS)
        rows = (fields for batch in batches for fields in batch.to_pylist())
        for index, fields in enumerate(rows):
            yield fields, where(path, index)


def where(path: str, index: int) -> str:
    """Where a row stands; people count from 1."""
    return f"{path}, row {index + 1}"


def rows_of_groups(path: str) -> list[int]:
    """How many rows each row group has, by the footer.

    Raises:
        EncodaxError: the file cannot be read, or pyarrow is not installed.
    """
    with _opened(path) as file:
        facts = file.metadata
        return [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]


class RowGroups:
    """The row groups that were asked for last, up to `KEPT_BYTES` and at least one; thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RowGroups], tuple[()]]:
        return RowGroups, ()

    def row(self, path: str, group: int, index: int) -> Fields:
        """What is in that row of that row group.

        Raises:
            EncodaxError: the file cannot be read.
        """
        table = self._table(path, group)
        names = table.column_names
        return {name: table.column(place)[index].as_py() for place, name in enumerate(names)}

    def _table(self, path: str, group: int) -> Any:
        with self._lock:  # so that a group is read once, whoever else wants it
            table = self._kept.get((path, group))
            if table is None:
                with _opened(path) as file:
                    table = file.read_row_group(group)
                self._kept[path, group] = table
                while len(self._kept) > 1 and self._bytes() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end((path, group))
            return table

    def _bytes(self) -> int:
        return sum(int(table.nbytes) for table in self._kept.values())


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EncodaxError(
            f"{path}: reading Parquet needs pyarrow: pip install 'encodax[parquet]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise EncodaxError(f"{path}: two columns have one name: {', '.join(names)}")
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncodaxError(f"{path}: cannot be read as Parquet: {reason}") from error
