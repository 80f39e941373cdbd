"""Partitions of a Parquet corpus; each is embedded and written atomically.

A partition is a block of rows of one input file, and one output file with a name derived from it.
So a repeated attempt writes the same file. Its footer holds its origin: a digest of the model's
files, the options, and a digest of its rows. This module is independent of Ray.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
import json
import logging
import os
import platform
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow
import pyarrow.parquet
from pyarrow import fs

from encodax.errors import EncodaxError
from encodax.inference.embedder import Embedder
from encodax.model_files import hub, peft
from encodax.models.base import CUT_MESSAGE
from encodax.storage import json_files, outputs, reading
from encodax.tasks.empty import EmptyTextRule
from encodax.tasks.task import Example

logger = logging.getLogger(__name__)

VECTOR = "vector"
MANIFEST = "_encodax.json"  # readers of Parquet folders skip names that begin with _ or .
CHOICES = ("column", "prompt", "precision", "partition_rows")
"""Fields of a job that must not change while an output is written over several runs."""
ORIGIN_KEY = b"encodax"
"""Key in a footer for the origin of the file."""
ORIGIN_FIELDS = ("digest", "column", "prompt", "precision", "rows")
"""Keys of the origin; `precision` is the actual one, not the one asked for."""
MAX_FAILED_ATTEMPTS = 5
"""Number of attempts at one partition that may kill their process before it is given up."""
ROWS = 4096
"""Number of rows that are read and written together, which bounds the memory of an actor."""
READERS = 16
"""Number of footers that are read in parallel: on an object store each read has a latency."""
USER_ERRORS = (EncodaxError, OSError, pyarrow.ArrowException)


@dataclass(frozen=True)
class CorpusJob:
    """Model, input, output and options of a run; it is sent to the actors."""

    model: str
    digest: str
    source: str
    """Folder that the names of input files are relative to: an absolute path or a URI."""
    out: str
    column: str
    prompt: str | None
    truncate: bool
    precision: str | None
    revision: str | None
    partition_rows: int
    on_empty: str = "error"
    """Rule for empty texts; other texts have the same vector under every rule."""


@dataclass(frozen=True)
class Partition:
    """Rows of an input file, and the output file for them."""

    name: str
    source: str
    """Name of the input file, relative to the folder of the job."""
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return self.stop - self.start

    def row(self, index: int) -> str:
        """Return the name of a row in errors; rows of a file are counted from 0."""
        return f"{self.source}, row {self.start + index}"


@dataclass(frozen=True)
class PartitionResult:
    """Result of one partition."""

    name: str
    rows: int
    cut: int
    """Number of texts that were truncated."""
    node: str
    pid: int
    """Process that wrote the partition, on the machine `node`."""
    error: str
    """Error that the user can fix, if the partition was not written; else empty."""


def check_on_empty(rule: str) -> EmptyTextRule:
    """Return the rule for empty texts; each row has a vector, so `skip` is not allowed.

    Raises:
        EncodaxError: there is no such rule.
    """
    return EmptyTextRule(rule, ("error", "keep"))


# Input.


def place(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        EncodaxError: it is a URI that pyarrow does not support.
    """
    if "://" not in address:
        return fs.LocalFileSystem(), os.path.abspath(address)
    try:
        system, path = fs.FileSystem.from_uri(address)
    except (pyarrow.ArrowException, ValueError) as error:
        raise EncodaxError(f"{address}: {error}") from error
    return system, path.rstrip("/")


def find(source: str) -> tuple[str, list[str]]:
    """Find the Parquet files of a folder and its subfolders, of a glob, or one file, by name.

    Returns:
        The folder that the names are relative to, and the names.

    Raises:
        EncodaxError: there are no such files.
    """
    system, path = place(source)
    kind = system.get_file_info(path).type
    if kind == fs.FileType.File:
        folder, found = source.rpartition("/")[0] or ".", [path]
    elif kind == fs.FileType.Directory:
        folder, found = source, _listed(system, path)
    else:
        fixed = re.split(r"[*?\[]", source)[0].rpartition("/")[0]
        folder = fixed or ("/" if source.startswith("/") else ".")
        found = [os.path.abspath(name) for name in glob.glob(source, recursive=True)]
    root = place(folder)[1]
    names = sorted(os.path.relpath(name, root) for name in found)
    names = [name for name in names if name.endswith(".parquet") and not _hidden(name)]
    if not names:
        raise EncodaxError(f"{source}: there is no .parquet file")
    return (folder if "://" in folder else root), names


def _listed(system: fs.FileSystem, path: str) -> list[str]:
    selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
    return [info.path for info in system.get_file_info(selector) if info.type == fs.FileType.File]


def _of_output(system: fs.FileSystem, path: str) -> list[str]:
    """Return the files of an output; files behind links in it belong to others."""
    if not isinstance(system, fs.LocalFileSystem):
        return _listed(system, path)
    return [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def measure(folder: str, names: list[str], column: str) -> dict[str, int]:
    """Return the number of rows of each input file, from its footer.

    Raises:
        EncodaxError: a file is not Parquet, has no such column of texts, or has vectors already.
    """
    system, root = place(folder)

    def of(name: str) -> int:
        path = f"{root}/{name}"
        try:
            with system.open_input_file(path) as stream:
                file = pyarrow.parquet.ParquetFile(stream)
                check_schema(name, file.schema_arrow, column)
                return int(file.metadata.num_rows)
        except pyarrow.ArrowException as error:
            raise EncodaxError(f"{name} cannot be read as Parquet: {error}") from error

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(names, pool.map(of, names), strict=True))


def check_schema(name: str, schema: pyarrow.Schema, column: str) -> None:
    """Refuse a file without texts in the column, or with a column of the name of the vectors.

    Raises:
        EncodaxError: the file has such a fault.
    """
    if schema.names.count(column) != 1:
        known = ", ".join(schema.names)
        raise EncodaxError(f"{name}: there is not exactly one column {column!r}; columns: {known}")
    kind = schema.field(column).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if kind not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
        raise EncodaxError(f"{name}: column {column!r} holds {kind}, not texts")
    if VECTOR in schema.names:
        raise EncodaxError(f"{name}: there is already a column {VECTOR!r}: rename it")


def partitions_of(files: Mapping[str, int], rows: int) -> list[Partition]:
    """Return blocks of `rows` rows of each file; the last block of a file may have fewer."""
    return [
        Partition(f"{name.removesuffix('.parquet')}-{number:05}.parquet", name, start, stop)
        for name, count in files.items()
        for number, start in enumerate(range(0, count, rows))
        for stop in [min(start + rows, count)]
    ]


# Output, and the settings it was begun with.


Result = TypeVar("Result")


def digest(directory: Path) -> str:
    """Return the SHA-256 of a model's files, which determine its vectors, and of an adapter's base.

    Raises:
        EncodaxError: a file cannot be read, or the base of an adapter is missing.
    """
    whole = hashlib.sha256()
    for folder in peft.directories_of(directory):
        found = {path for pattern in hub.FILES for path in folder.rglob(pattern)}
        for path in sorted(path for path in found if path.is_file()):
            try:
                with path.open("rb") as stream:
                    own = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error
            whole.update(f"{path.relative_to(folder).as_posix()} {own}\n".encode())
        whole.update(b"\n")
    return whole.hexdigest()


def read_undisturbed(directory: Path, read: Callable[[], Result]) -> Result:
    """Read a model while nothing replaces its directory or that of its base."""
    for folder in peft.directories_of(directory):
        read = functools.partial(reading.read_consistently, folder, read)
    return read()


def plan(job: CorpusJob, names: list[str]) -> tuple[CorpusJob, list[Partition], list[Partition]]:
    """Return all partitions of the input files, and those to be written.

    To be written are those that are missing, and those whose rows have changed since they were
    written; this reads the input.

    Returns:
        The job, with the precision of existing files; all partitions; and those to be written.

    Raises:
        EncodaxError: a file cannot be embedded, or the output was begun with other options.
    """
    try:
        planned = partitions_of(measure(job.source, names, job.column), job.partition_rows)
        marks = check_output(job, planned)
        changed = {part.name for part in changed_since(job, planned, marks)}
        write_manifest(job)
    except OSError as error:
        raise EncodaxError(str(error)) from error
    if changed:
        logger.warning("%d output files are written again: their rows have changed", len(changed))
    for mark in marks.values():  # all have the same precision
        job = replace(job, precision=mark["precision"])
    todo = [part for part in planned if part.name not in marks or part.name in changed]
    return job, planned, todo


def write_manifest(job: CorpusJob) -> None:
    """Write the settings of an output to its manifest, unless they are there."""
    system, out = place(job.out)
    path = f"{out}/{MANIFEST}"
    if system.get_file_info(path).type == fs.FileType.File and _parquets(job):
        return
    system.create_dir(out, recursive=True)
    content = {key: getattr(job, key) for key in ("model", "digest", *CHOICES)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    _write_whole(system, path, lambda stream: stream.write(text.encode()))


def check_output(job: CorpusJob, planned: Iterable[Partition]) -> dict[str, dict[str, Any]]:
    """Return the origin of each existing partition with the right number of rows.

    `truncate` may differ from the previous run: it does not change the vector of a text that fits.
    Before the first partition is written, all options may change.

    Raises:
        EncodaxError: the output holds other files, or vectors with other options, or of rows that
            the input lacks.
    """
    there = _parquets(job)
    if not there:
        return {}
    manifest = _manifest(job)
    if manifest is not None:
        _compare(job, manifest, ("digest", *CHOICES))
    rows = {part.name: part.rows for part in planned}
    with ThreadPoolExecutor(READERS) as pool:
        footers = dict(zip(there, pool.map(functools.partial(_footer, job), there), strict=True))
    marks = {}
    for name, footer in footers.items():
        count, mark = footer or (0, None)
        if mark is None and (footer is not None or name not in rows or manifest is None):
            raise EncodaxError(
                f"{job.out} holds other Parquet files; choose another output ({name} does not say "
                "what it was made from)"
            )
        if mark is None:  # a broken file, from a disk that lost its last writes
            continue
        if name not in rows:
            raise EncodaxError(
                f"{name} in {job.out} belongs to rows that the input no longer has: remove that "
                "file, or choose another output"
            )
        _compare(job, mark, ORIGIN_FIELDS[:-2])
        if count == rows[name]:
            marks[name] = mark
    _check_precision(job, {str(mark["precision"]) for mark in marks.values()})
    return marks


def _check_precision(job: CorpusJob, made: set[str]) -> None:
    """Refuse to mix vectors of two precisions.

    Raises:
        EncodaxError: there are two precisions; the error names them.
    """
    if len(made) > 1:
        raise EncodaxError(
            f"{job.out} has vectors made in {' and in '.join(sorted(made))}; choose another output"
        )
    if job.precision is not None and made - {job.precision}:
        raise EncodaxError(
            f"{job.out} was made in {made.pop()}, not {job.precision!r}; continue with the same, "
            "or choose another output"
        )


def _parquets(job: CorpusJob) -> list[str]:
    """Return the names of the Parquet files of the output."""
    system, out = place(job.out)
    names = sorted(os.path.relpath(path, out) for path in _of_output(system, out))
    return [name for name in names if name.endswith(".parquet") and not _hidden(name)]


def _manifest(job: CorpusJob) -> dict[str, Any] | None:
    """Return the content of the output's manifest; None if there is none."""
    system, out = place(job.out)
    path = f"{out}/{MANIFEST}"
    if system.get_file_info(path).type == fs.FileType.NotFound:
        return None
    way_out = "remove it: each output file says itself what it was made from"
    try:
        with system.open_input_file(path) as stream:
            found: dict[str, Any] = json_files.parse(stream.read(), Path(path))
    except (EncodaxError, OSError) as error:
        raise EncodaxError(f"{error}; {way_out}") from error
    for key in ("model", "digest", *CHOICES):
        if key not in found:
            raise EncodaxError(f"{path}: the key {key!r} is missing; {way_out}")
    return found


def _footer(job: CorpusJob, name: str) -> tuple[int, dict[str, Any] | None] | None:
    """Return the number of rows of an output file, and its origin; None if the file is broken."""
    system, out = place(job.out)
    try:
        with system.open_input_file(f"{out}/{name}") as stream:
            metadata = pyarrow.parquet.read_metadata(stream)
    except pyarrow.ArrowException:
        return None
    try:
        mark = json_files.parse((metadata.metadata or {}).get(ORIGIN_KEY, b""), Path(name))
    except EncodaxError:
        return metadata.num_rows, None
    return metadata.num_rows, mark if all(key in mark for key in ORIGIN_FIELDS) else None


def _compare(job: CorpusJob, old: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse to continue an output that was begun with other options.

    Raises:
        EncodaxError: an option differs; the error names the first one.
    """
    for key in keys:
        now = getattr(job, key)
        if old[key] == now and type(old[key]) is type(now):
            continue
        if key == "digest":
            was = f" ({old['model']}, not that of {job.model})" if "model" in old else ""
            raise EncodaxError(
                f"{job.out} has vectors of another model{was}; choose another output"
            )
        raise EncodaxError(
            f"{job.out} was started with {key} {old[key]!r}, not {now!r}; continue with the same, "
            "or choose another output"
        )


# Rows, and their changes.


class Rows:
    """SHA-256 of rows, with names and types of their columns, independent of their storage."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Add the next rows; all batches but the last must have the same size."""
        columns = [_alone(column) for column in batch.columns]
        plain = pyarrow.RecordBatch.from_arrays(columns, batch.schema.names)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, plain.schema) as writer:
            writer.write_batch(plain)
        self._sha.update(sink.getvalue())

    def digest(self) -> str:
        """Return the hash of all rows added."""
        return self._sha.hexdigest()


def _alone(column: pyarrow.Array) -> pyarrow.Array:
    """Return a copy of the values, independent of the array that they are a slice of."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return column.take(pyarrow.array(np.arange(len(column))))
    except pyarrow.ArrowNotImplementedError:  # for views
        return pyarrow.array(column.to_pylist(), column.type)


def changed_since(
    job: CorpusJob, planned: Iterable[Partition], marks: Mapping[str, Mapping[str, Any]]
) -> list[Partition]:
    """Return the partitions whose rows differ from those they were made of."""
    of_file = {
        source: list(own) for source, own in itertools.groupby(planned, lambda part: part.source)
    }

    def changed(parts: list[Partition]) -> list[Partition]:
        last = max((n for n, part in enumerate(parts) if part.name in marks), default=-1)
        parts = parts[: last + 1]
        found = _digests(job, parts) if parts else []
        return [
            part
            for part, rows in zip(parts, found, strict=True)
            if part.name in marks and marks[part.name]["rows"] != rows
        ]

    with ThreadPoolExecutor(READERS) as pool:
        return [part for own in pool.map(changed, of_file.values()) for part in own]


def _digests(job: CorpusJob, parts: list[Partition]) -> list[str]:
    """Return the digests of the first partitions of one file, which is read once."""
    system, source = place(job.source)
    found = [Rows() for _ in parts]
    with system.open_input_file(f"{source}/{parts[0].source}") as file:
        reader = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20)
        blocks = cut(reader.iter_batches(ROWS), (n for part in parts for n in blocks_of(part.rows)))
        for rows, part in zip(found, parts, strict=True):
            for block in itertools.islice(blocks, len(blocks_of(part.rows))):
                rows.add(block)
    return [rows.digest() for rows in found]


def blocks_of(rows: int) -> list[int]:
    """Return the sizes of the batches that are read, hashed and written: `ROWS`, and the rest."""
    return [min(ROWS, rows - start) for start in range(0, rows, ROWS)]


def cut(
    batches: Iterator[pyarrow.RecordBatch], sizes: Iterable[int]
) -> Iterator[pyarrow.RecordBatch]:
    """Yield rows in batches of the given sizes, independent of the input batches."""
    left: pyarrow.Table | None = None
    for size in sizes:
        while left is None or len(left) < size:
            batch = next(batches, None)
            if batch is None:
                break
            more = pyarrow.Table.from_batches([batch])
            left = more if left is None else pyarrow.concat_tables([left, more])
        if left is not None:
            yield from left.slice(0, size).combine_chunks().to_batches()
            left = left.slice(size)


@contextmanager
def clean_up_temporary_files(job: CorpusJob) -> Iterator[None]:
    """Remove, before and after the run, temporary files of killed attempts."""
    _sweep(job)
    try:
        yield
    finally:
        _sweep(job)


def _sweep(job: CorpusJob) -> None:
    system, out = place(job.out)
    for path in _of_output(system, out):
        whole = outputs.finished_name(path.rpartition("/")[2])
        if whole is not None and (whole.endswith(".parquet") or whole == MANIFEST):
            system.delete_file(path)  # other files belong to others


def _write_whole(system: fs.FileSystem, path: str, write: Callable[[Any], object]) -> None:
    """Write to a temporary file and rename it, so that `path` is never an incomplete file.

    The temporary name is unique: an actor that Ray considers lost may still be writing.
    """
    folder, _, name = path.rpartition("/")
    partial = f"{folder}/{outputs.unfinished_name(name)}"
    try:
        with system.open_output_stream(partial) as stream:
            write(stream)
        system.move(partial, path)
    except BaseException:
        if system.get_file_info(partial).type == fs.FileType.File:
            system.delete_file(partial)
        raise


# Actors.


class Writer:
    """Actor that embeds and writes the partitions of a job, one at a time."""

    def __init__(self, job: CorpusJob):
        """Load nothing yet, so that an error of the model is a result, not a dead actor."""
        self.job = job

    @functools.cached_property
    def embedder(self) -> Embedder:
        """Embedder, loaded once in each process.

        Raises:
            EncodaxError: the model's files differ from those where the job was begun.
        """
        job = self.job
        directory = hub.directory_of(job.model, revision=job.revision)

        def load() -> Embedder:
            if digest(directory) != job.digest:
                raise EncodaxError(
                    f"{job.model} has other files on {platform.node()} than where the job was "
                    "started; give its --revision, or copy one directory to every machine"
                )
            return Embedder.load(directory, precision=job.precision)

        return read_undisturbed(directory, load)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the partition that a row of Ray Data names, and return its result as a row."""
        partition, error = Partition(**row), ""
        with _Cuts() as cuts:
            try:
                self.write(partition)
            except USER_ERRORS as problem:
                error = str(problem) or type(problem).__name__
        name, rows = partition.name, partition.rows
        return asdict(PartitionResult(name, rows, cuts.count, platform.node(), os.getpid(), error))

    def write(self, partition: Partition) -> None:
        """Embed a partition and write its file.

        Raises:
            EncodaxError: a text is null, empty or too long (the error names file and row); the
                input has changed; or too many attempts have died.
        """
        system, out = place(self.job.out)
        path = f"{out}/{partition.name}"
        folder, _, name = path.rpartition("/")
        system.create_dir(folder, recursive=True)
        # Ray retries forever, even if memory is too small. A killed attempt leaves its temporary
        # file.
        there = (other.rpartition("/")[2] for other in _of_output(system, folder))
        if sum(outputs.is_unfinished(other, name) for other in there) >= MAX_FAILED_ATTEMPTS:
            raise EncodaxError(
                f"{partition.source}, rows {partition.start} to {partition.stop}: "
                f"{MAX_FAILED_ATTEMPTS} processes died on them; is there too little memory?"
            )
        _write_whole(system, path, lambda stream: self._embed(partition, stream))

    def _embed(self, partition: Partition, stream: Any) -> None:
        system, source = place(self.job.source)
        kind = pyarrow.list_(pyarrow.float32(), self.embedder.width)
        waiting: deque[pyarrow.RecordBatch] = deque()  # read, and not yet written
        found: list[np.ndarray] = []  # vectors of the first rows in `waiting`
        rows, made_of = 0, Rows()
        with system.open_input_file(f"{source}/{partition.source}") as file:
            reader = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20)
            schema = reader.schema_arrow.append(pyarrow.field(VECTOR, kind))
            texts = self._texts(reader, partition, waiting)
            with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
                for vector in self._vectors(texts, partition):
                    found.append(vector)
                    if len(found) == len(waiting[0]):
                        block = waiting.popleft()
                        made_of.add(block)
                        columns = [*block.columns, _column(found)]
                        writer.write_batch(pyarrow.record_batch(columns, schema))
                        rows += len(found)
                        found.clear()
                mark = {key: getattr(self.job, key) for key in ORIGIN_FIELDS[:-2]}
                mark |= {"precision": self.embedder.precision, "rows": made_of.digest()}
                writer.add_key_value_metadata({ORIGIN_KEY: json.dumps(mark)})
        if rows != partition.rows:
            raise EncodaxError(
                f"{partition.source} changed while it was read; start again when nothing writes it"
            )

    def _vectors(self, texts: Iterator[str], partition: Partition) -> Iterator[np.ndarray]:
        """Yield a vector for each text; an error names the row."""
        prompt = self.job.prompt
        if prompt is None:
            before = self.embedder.prompt_of("document")
        else:
            before = self.embedder.model.config.usage.prompt(prompt)
        examples = (Example(text, None, partition.row(i)) for i, text in enumerate(texts))
        answers = self.embedder.answers(
            examples,
            before,
            truncate=self.job.truncate,
            empties=check_on_empty(self.job.on_empty),
        )
        return (vector for _, vector in answers)

    def _texts(
        self,
        reader: pyarrow.parquet.ParquetFile,
        partition: Partition,
        waiting: deque[pyarrow.RecordBatch],
    ) -> Iterator[str]:
        """Yield the texts of a partition; append their rows to `waiting`."""
        number = itertools.count()
        for batch in _batches(reader, partition):
            waiting.append(batch)
            for text in batch.column(self.job.column):
                index = next(number)
                try:
                    found = text.as_py()
                except UnicodeDecodeError as error:
                    raise EncodaxError(f"{partition.row(index)}: the text is not UTF-8") from error
                if found is None and self.job.on_empty == "error":
                    message = "the text is null; --on-empty keep (on_empty=) gives it zeros"
                    raise EncodaxError(f"{partition.row(index)}: {message}")
                yield found or ""


class _Cuts(logging.Handler):
    """Counter of the texts that the engine logs as truncated, while in use as a context."""

    count = 0

    def __enter__(self) -> _Cuts:
        logging.getLogger("encodax").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("encodax").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == CUT_MESSAGE and isinstance(record.args, tuple):
            self.count += int(record.args[0])  # type: ignore[call-overload]


def _column(vectors: list[np.ndarray]) -> pyarrow.Array:
    return pyarrow.FixedSizeListArray.from_arrays(np.concatenate(vectors), len(vectors[0]))


def _batches(
    reader: pyarrow.parquet.ParquetFile, partition: Partition
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a partition, in blocks.

    Rows before the partition in its row group must be decoded, which costs little compared to
    embedding; other row groups are not read.
    """
    groups: list[int] = []
    at, end = 0, 0
    for index in range(reader.num_row_groups):
        begin, end = end, end + reader.metadata.row_group(index).num_rows
        if begin < partition.stop and partition.start < end:
            at = begin if not groups else at
            groups.append(index)

    def own() -> Iterator[pyarrow.RecordBatch]:
        passed = at
        for batch in reader.iter_batches(ROWS, row_groups=groups):
            start, stop = max(partition.start - passed, 0), min(partition.stop - passed, len(batch))
            if start < stop:
                yield batch.slice(start, stop - start)
            passed += len(batch)

    return cut(own(), blocks_of(partition.rows))
