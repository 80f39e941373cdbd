"""Examples of a data set, from files or from memory, parsed when they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

from encodax.data import sources
from encodax.data.aligned import Aligned
from encodax.data.formats import Columns
from encodax.data.records import Paths, expanded, open_records
from encodax.errors import EncodaxError
from encodax.tasks.empty import OnEmptyInData
from encodax.tasks.examples import Examples, Part, examples_of_records
from encodax.tasks.task import Task

__all__ = ["Data", "Examples", "Part", "check_reading_options", "examples_of", "paths_of"]

Data = Paths | Part | Aligned | Iterable[dict[str, Any]]
"""Files to read, or records in memory."""


def examples_of(
    task: Task,
    data: Data,
    columns: Columns | None = None,
    on_empty: OnEmptyInData = "error",
    format: str | None = None,
) -> Examples:
    """Return the examples of files or of records in memory, after parsing each once.

    So an invalid record is reported before anything starts, the first one first.

    Args:
        task: task, which defines the meaning of records.
        data: files to read, or records in memory.
        columns: names of the columns of tables without a header, or fields with their names in the
            files.
        on_empty: treatment of records with an empty text: `error` refuses them, `skip` leaves them
            out.
        format: format of the files, if their names do not show it.

    Raises:
        EncodaxError: there is no record, or one is invalid.
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
    found = examples_of_records(task, records, on_empty)
    if not len(found):
        raise EncodaxError(f"{name}: the data set is empty: each of its texts is")
    return found


def check_reading_options(
    train: Data, eval: Data, columns: Columns | None, format: str | None
) -> None:
    """Refuse options for reading records if all data are aligned lines.

    Raises:
        EncodaxError: names the option to leave out.
    """
    if not (isinstance(train, Aligned) and isinstance(eval, Aligned)):
        return
    for name, value in (("columns", columns), ("format", None if format == "txt" else format)):
        if value is not None:
            raise EncodaxError(
                f"{name}: --train-target and --eval-target (Aligned) are for files of lines: leave "
                f"out --{name}"
            )


def paths_of(data: Data, format: str | None = None) -> list[str]:
    """Return the files that data are read from, and the named folders; none for data in memory.

    Args:
        data: files to read, or records in memory.
        format: format of the files, if their names do not show it.

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
