"""A Parquet corpus in partitions, each of which is embedded and written whole or not at all.

A partition is a block of rows of one input file, and one output file whose name follows from it. So
whoever writes it a second time writes the same. In its footer stands what it was made of: the
model's files, the choices, and a digest of its rows. Nothing here knows of Ray.
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
from encodax.storage import json_files, outputs, reading
from encodax.tasks.empty import Empties
from encodax.tasks.task import Example

logger = logging.getLogger(__name__)

VECTOR = "vector"
MANIFEST = "_encodax.json"  # readers of Parquet folders pass over what begins with _ or .
CHOICES = ("column", "prompt", "precision", "partition_rows")
"""Fields of a job that an output is begun with, and gone on with."""
MARK = b"encodax"
"""Key of a footer: what the file was made of."""
MARKED = ("digest", "column", "prompt", "precision", "rows")
"""What stands there; the precision is what it was, and not what was asked for."""
DEATHS = 5
"""Attempts at one partition that may end with their process, before it is given up."""
ROWS = 4096
"""Rows that are read and written together: bounds the memory of an actor."""
READERS = 16
"""Footers that are read at once: on an object store each is a wait."""
MENDABLE = (EncodaxError, OSError, pyarrow.ArrowException)


@dataclass(frozen=True)
class CorpusJob:
    """What is embedded, with what, and where to; it travels to the actors."""

    model: str
    digest: str
    source: str
    """The folder that the names of input files start from: an absolute path or a URI."""
    out: str
    column: str
    prompt: str | None
    truncate: bool
    precision: str | None
    revision: str | None
    partition_rows: int
    on_empty: str = "error"
    """What becomes of empty texts; a text that is none has the same vector with either."""


@dataclass(frozen=True)
class Partition:
    """Rows of an input file, and the output file they make."""

    name: str
    source: str
    """The input file, from the folder of the job."""
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many vectors it has."""
        return self.stop - self.start

    def row(self, index: int) -> str:
        """What a row of it is called in an error; rows of a file are counted from 0."""
        return f"{self.source}, row {self.start + index}"


@dataclass(frozen=True)
class Written:
    """What became of a partition."""

    name: str
    rows: int
    cut: int
    """Texts that were longer than the model takes."""
    node: str
    pid: int
    """The process that wrote it, and its machine."""
    error: str
    """What the caller can mend, where it was not written."""


def check_on_empty(rule: str) -> Empties:
    """What becomes of empty texts; each row has a vector, so that none is left out.

    Raises:
        EncodaxError: there is no such rule.
    """
    return Empties(rule, ("error", "keep"))


# The input.


def place(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path there.

    Raises:
        EncodaxError: it is a URI that pyarrow does not know.
    """
    if "://" not in address:
        return fs.LocalFileSystem(), os.path.abspath(address)
    try:
        system, path = fs.FileSystem.from_uri(address)
    except (pyarrow.ArrowException, ValueError) as error:
        raise EncodaxError(f"{address}: {error}") from error
    return system, path.rstrip("/")


def find(source: str) -> tuple[str, list[str]]:
    """The Parquet files of a folder and its folders, of a glob, or one file, in order of names.

    Returns:
        The folder that the names start from, and the names.

    Raises:
        EncodaxError: there are none.
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
    """The files of an output; what is behind links in it is not ours."""
    if not isinstance(system, fs.LocalFileSystem):
        return _listed(system, path)
    return [f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def measure(folder: str, names: list[str], column: str) -> dict[str, int]:
    """Rows of each input file, by its footer.

    Raises:
        EncodaxError: a file is no Parquet, has no such column of texts, or has vectors already.
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
    """Refuse a file without texts in that column, or with a column where the vectors would be.

    Raises:
        EncodaxError: for the reason it says.
    """
    if schema.names.count(column) != 1:
        known = ", ".join(schema.names)
        raise EncodaxError(f"{name}: there is no one column {column!r} among: {known}")
    kind = schema.field(column).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if kind not in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
        raise EncodaxError(f"{name}: column {column!r} holds {kind}, not texts")
    if VECTOR in schema.names:
        raise EncodaxError(f"{name}: there is a column {VECTOR!r} already")


def partitions_of(files: Mapping[str, int], rows: int) -> list[Partition]:
    """Blocks of `rows` rows of each file; the last of a file may have fewer."""
    return [
        Partition(f"{name.removesuffix('.parquet')}-{number:05}.parquet", name, start, stop)
        for name, count in files.items()
        for number, start in enumerate(range(0, count, rows))
        for stop in [min(start + rows, count)]
    ]


# The output, and what it was begun with.


Result = TypeVar("Result")


def digest(directory: Path) -> str:
    """SHA-256 of the files of a model: what decides its vectors. Of an adapter, its base's too.

    Raises:
        EncodaxError: a file cannot be read, or the base of an adapter is not there.
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


def at_rest(directory: Path, read: Callable[[], Result]) -> Result:
    """Read a model while nothing replaces its directory, nor that of its base."""
    for folder in peft.directories_of(directory):
        read = functools.partial(reading.whole, folder, read)
    return read()


def plan(job: CorpusJob, names: list[str]) -> tuple[CorpusJob, list[Partition], list[Partition]]:
    """All partitions of the input files, and those that are to be written.

    That are those which are not there, and those whose rows have changed since they were written:
    the input is read for it.

    Returns:
        The job, in the precision that was gone on with; all partitions; and those to be written.

    Raises:
        EncodaxError: a file cannot be embedded, or the output was begun with other choices.
    """
    try:
        planned = partitions_of(measure(job.source, names, job.column), job.partition_rows)
        marks = check_output(job, planned)
        changed = {part.name for part in changed_since(job, planned, marks)}
        begin(job)
    except OSError as error:
        raise EncodaxError(str(error)) from error
    if changed:
        logger.warning("%d output files are written anew: their rows have changed", len(changed))
    for mark in marks.values():  # all in the same precision
        job = replace(job, precision=mark["precision"])
    todo = [part for part in planned if part.name not in marks or part.name in changed]
    return job, planned, todo


def begin(job: CorpusJob) -> None:
    """Write down what an output is made with, unless that was done."""
    system, out = place(job.out)
    path = f"{out}/{MANIFEST}"
    if system.get_file_info(path).type == fs.FileType.File and _parquets(job):
        return
    system.create_dir(out, recursive=True)
    content = {key: getattr(job, key) for key in ("model", "digest", *CHOICES)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    _write_whole(system, path, lambda stream: stream.write(text.encode()))


def check_output(job: CorpusJob, planned: Iterable[Partition]) -> dict[str, dict[str, Any]]:
    """What each partition that is there, with all its rows, was made of.

    `truncate` may differ from the run before: a text that fits has the same vector with it. While
    no partition is written, every choice is free.

    Raises:
        EncodaxError: the output holds something else, or vectors of other choices, or of rows that
            the input has no more.
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
                "what it was made of)"
            )
        if mark is None:  # of a disk that lost what was written last
            continue
        if name not in rows:
            raise EncodaxError(
                f"{name} in {job.out} is of rows that the input has no more: remove that file, or "
                "choose another output"
            )
        _compare(job, mark, MARKED[:-2])
        if count == rows[name]:
            marks[name] = mark
    _check_precision(job, {str(mark["precision"]) for mark in marks.values()})
    return marks


def _check_precision(job: CorpusJob, made: set[str]) -> None:
    """Refuse to mix vectors of two precisions.

    Raises:
        EncodaxError: names them.
    """
    if len(made) > 1:
        raise EncodaxError(
            f"{job.out} has vectors made in {' and in '.join(sorted(made))}; choose another output"
        )
    if job.precision is not None and made - {job.precision}:
        raise EncodaxError(
            f"{job.out} was made in {made.pop()}, not {job.precision!r}; go on with the same, or "
            "choose another output"
        )


def _parquets(job: CorpusJob) -> list[str]:
    """The names of the Parquet files of the output."""
    system, out = place(job.out)
    names = sorted(os.path.relpath(path, out) for path in _of_output(system, out))
    return [name for name in names if name.endswith(".parquet") and not _hidden(name)]


def _manifest(job: CorpusJob) -> dict[str, Any] | None:
    """What the output was begun with; None where that is not said."""
    system, out = place(job.out)
    path = f"{out}/{MANIFEST}"
    if system.get_file_info(path).type == fs.FileType.NotFound:
        return None
    way_out = "remove it, and each output file is asked what it was made of"
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
    """Rows of an output file, and what it says it was made of; None where it is broken."""
    system, out = place(job.out)
    try:
        with system.open_input_file(f"{out}/{name}") as stream:
            metadata = pyarrow.parquet.read_metadata(stream)
    except pyarrow.ArrowException:
        return None
    try:
        mark = json_files.parse((metadata.metadata or {}).get(MARK, b""), Path(name))
    except EncodaxError:
        return metadata.num_rows, None
    return metadata.num_rows, mark if all(key in mark for key in MARKED) else None


def _compare(job: CorpusJob, old: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse to go on with what was begun with other choices.

    Raises:
        EncodaxError: names the first.
    """
    for key in keys:
        now = getattr(job, key)
        if old[key] == now and type(old[key]) is type(now):
            continue
        if key == "digest":
            was = f" ({old['model']}, by its files not {job.model})" if "model" in old else ""
            raise EncodaxError(
                f"{job.out} has vectors of another model{was}; choose another output"
            )
        raise EncodaxError(
            f"{job.out} was begun with {key} {old[key]!r}, not {now!r}; "
            "go on with the same, or choose another output"
        )


# Rows, and whether they have changed.


class Rows:
    """SHA-256 of rows, with the names and types of their columns, however they are stored."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Rows that come next; always so many, but for the last."""
        columns = [_alone(column) for column in batch.columns]
        plain = pyarrow.RecordBatch.from_arrays(columns, batch.schema.names)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, plain.schema) as writer:
            writer.write_batch(plain)
        self._sha.update(sink.getvalue())

    def digest(self) -> str:
        """Of all that came."""
        return self._sha.hexdigest()


def _alone(column: pyarrow.Array) -> pyarrow.Array:
    """The same values, without others that they lie among."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return column.take(pyarrow.array(np.arange(len(column))))
    except pyarrow.ArrowNotImplementedError:  # of views
        return pyarrow.array(column.to_pylist(), column.type)


def changed_since(
    job: CorpusJob, planned: Iterable[Partition], marks: Mapping[str, Mapping[str, Any]]
) -> list[Partition]:
    """The partitions whose rows are others than those they were made of."""
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
    """The digests of the first partitions of one file, read once."""
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
    """Rows that are read, hashed and written together: `ROWS`, and what is left."""
    return [min(ROWS, rows - start) for start in range(0, rows, ROWS)]


def cut(
    batches: Iterator[pyarrow.RecordBatch], sizes: Iterable[int]
) -> Iterator[pyarrow.RecordBatch]:
    """Rows in batches of other sizes; how they came makes no difference."""
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
def swept(job: CorpusJob) -> Iterator[None]:
    """Remove, before and after, what attempts left that were killed."""
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
            system.delete_file(path)  # any other is not ours


def _write_whole(system: fs.FileSystem, path: str, write: Callable[[Any], object]) -> None:
    """Write beside the place and move it there: no name ever stands for half a file.

    The name of the half is its own each time: an actor that was given up for lost may write still.
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


# What an actor does.


class Writer:
    """Embeds the partitions of a job, one at a time; each actor is one."""

    def __init__(self, job: CorpusJob):
        """Load nothing yet, so that what is wrong with the model is an answer, not a death."""
        self.job = job

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The model, read once a process.

        Raises:
            EncodaxError: its files here are others than where the job was begun.
        """
        job = self.job
        directory = hub.directory_of(job.model, revision=job.revision)

        def load() -> Embedder:
            if digest(directory) != job.digest:
                raise EncodaxError(
                    f"{job.model} has other files on {platform.node()} than where this was begun; "
                    "give its --revision, or copy one directory to every machine"
                )
            return Embedder.load(directory, precision=job.precision)

        return at_rest(directory, load)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the partition that a row of Ray Data names; the row says what became of it."""
        partition, error = Partition(**row), ""
        with _Cuts() as cuts:
            try:
                self.write(partition)
            except MENDABLE as problem:
                error = str(problem) or type(problem).__name__
        name, rows = partition.name, partition.rows
        return asdict(Written(name, rows, cuts.count, platform.node(), os.getpid(), error))

    def write(self, partition: Partition) -> None:
        """Embed a partition and put its file there.

        Raises:
            EncodaxError: a text is null, empty or too long, named by file and row; the input has
                changed; or too many attempts at it have died.
        """
        system, out = place(self.job.out)
        path = f"{out}/{partition.name}"
        folder, _, name = path.rpartition("/")
        system.create_dir(folder, recursive=True)
        # Ray tries for ever, and memory that is too small stays so. A killed attempt left its file.
        there = (other.rpartition("/")[2] for other in _of_output(system, folder))
        if sum(outputs.is_unfinished(other, name) for other in there) >= DEATHS:
            raise EncodaxError(
                f"{partition.source}, rows {partition.start} to {partition.stop}: {DEATHS} "
                "processes died of it; is there too little memory?"
            )
        _write_whole(system, path, lambda stream: self._embed(partition, stream))

    def _embed(self, partition: Partition, stream: Any) -> None:
        system, source = place(self.job.source)
        kind = pyarrow.list_(pyarrow.float32(), self.embedder.width)
        waiting: deque[pyarrow.RecordBatch] = deque()  # read, and not yet written
        found: list[np.ndarray] = []  # vectors of the first of them
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
                mark = {key: getattr(self.job, key) for key in MARKED[:-2]}
                mark |= {"precision": self.embedder.precision, "rows": made_of.digest()}
                writer.add_key_value_metadata({MARK: json.dumps(mark)})
        if rows != partition.rows:
            raise EncodaxError(f"{partition.source} has changed while it was read")

    def _vectors(self, texts: Iterator[str], partition: Partition) -> Iterator[np.ndarray]:
        """One for each text; an error names the row."""
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
        """The texts of a partition; the rows they stand in go to `waiting`."""
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
                    told = "the text is null; --on-empty keep (on_empty=) gives it zeros"
                    raise EncodaxError(f"{partition.row(index)}: {told}")
                yield found or ""


class _Cuts(logging.Handler):
    """Counts the texts that the engine says it has cut, as long as it is entered."""

    count = 0

    def __enter__(self) -> _Cuts:
        logging.getLogger("encodax").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("encodax").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if " were cut to " in record.msg and isinstance(record.args, tuple):
            self.count += int(record.args[0])  # type: ignore[call-overload]


def _column(vectors: list[np.ndarray]) -> pyarrow.Array:
    return pyarrow.FixedSizeListArray.from_arrays(np.concatenate(vectors), len(vectors[0]))


def _batches(
    reader: pyarrow.parquet.ParquetFile, partition: Partition
) -> Iterator[pyarrow.RecordBatch]:
    """The rows of a partition, in blocks.

    Rows that stand before it in its row group have to be decoded, which takes little beside
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
