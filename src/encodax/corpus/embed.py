"""Embed a corpus too large for one machine: from Parquet to Parquet, on Ray Data.

The rows of the Ray dataset are the missing partitions, not the texts. One actor for each device
takes a partition, reads it a few rows at a time, and writes its file atomically
(`partitions.Writer`). Ray schedules the work and restarts dead actors; a repeated attempt gives a
file of the same name and content. `Dataset.write_parquet` is unsuitable: its blocks and names
differ from run to run, so a killed run could not be resumed, nor distinguished from a complete one.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encodax.errors import EncodaxError
from encodax.inference.progress import with_progress
from encodax.model_files import hub
from encodax.storage import locks, overlap

if TYPE_CHECKING:
    from encodax.corpus.partitions import CorpusJob, Partition, PartitionResult

PARTITION_ROWS = 65_536
"""Default number of rows of a partition: about a minute on a CPU with a small model, which is the
work that a kill may lose."""
CPUS = 0.5
"""CPUs that Ray reserves for an actor on CPU: with 1, nothing would be left for Ray itself."""


@dataclass(frozen=True)
class CorpusResult:
    """Result of a run."""

    rows: int
    """Number of vectors in the output: one for each row of the corpus."""
    embedded: int
    """Number of vectors of this run."""
    partitions: int
    """Number of output files."""
    kept: int
    """Number of output files that an earlier run had written."""
    cut: int
    """Number of texts of this run that were truncated."""
    seconds: float


def embed_corpus(
    model: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    column: str = "text",
    actors: int | None = None,
    prompt: str | None = None,
    truncate: bool = False,
    precision: str | None = None,
    revision: str | None = None,
    partition_rows: int = PARTITION_ROWS,
    on_empty: str = "error",
    progress: bool | None = None,
    each: Callable[[Any], object] | None = None,
) -> CorpusResult:
    """Compute a vector for each row of Parquet files, on all devices of Ray.

    Each block of `partition_rows` rows of an input file becomes an output file with the same rows
    and columns in the same order, and `vector` (a list of E float32). A run after an interruption
    writes the missing files, and rewrites those whose input rows have changed; another model or
    other options are refused, and so is an output with vectors of rows that the input lacks.

    It runs on the existing Ray (`ray.init`, or RAY_ADDRESS), or else starts one on this machine.
    Every machine of a cluster must reach the files and the model by the same names.

    Args:
        model: a model directory, or an id on the hub.
        source: a folder, a glob or a file (.parquet); or the URI of a folder or a file, such as
            s3://bucket/corpus.
        out: a folder, or its URI.
        column: name of the column of texts.
        actors: number of parallel actors; None for one for each GPU, or for each machine without
            GPUs.
        prompt: name of the model's prompt that is put before each text; None for the prompt of
            documents, as in `Embedder.encode_document`.
        truncate: truncate texts longer than the model's limit, and count them.
        precision: precision of the computation, as in `Embedder`; None for its default.
        revision: branch, tag or commit of the repository on the hub.
        partition_rows: number of rows of an output file, which are repeated after a kill.
        on_empty: rule for empty texts and nulls: `error` refuses them, and `keep` gives them
            vectors of zeros.
        progress: show a progress bar; None to show it if standard error is a terminal.
        each: function called with each partition that is written (`partitions.PartitionResult`).

    Raises:
        EncodaxError: an input file, or a text in it, is invalid (the error names the file and the
            row, from 0); the output was begun with other options; or Ray is not installed.
            Partitions that were written remain.
    """
    begun = time.monotonic()
    try:
        import ray  # noqa: F401

        from encodax.corpus import partitions
    except ImportError as error:
        needed = f"embedding a corpus needs {error.name}: pip install 'encodax[ray]'"
        raise EncodaxError(needed) from error
    for name, value in (("actors", actors), ("partition_rows", partition_rows)):
        if value is not None and value < 1:
            raise EncodaxError(f"{name} = {value} is not above 0")
    partitions.check_on_empty(on_empty)
    folder, names = partitions.find(str(source))
    directory = hub.directory_of(model, revision=revision)
    job = partitions.CorpusJob(
        model=str(Path(model).resolve()) if os.path.isdir(model) else str(model),
        digest=partitions.read_undisturbed(directory, lambda: partitions.digest(directory)),
        source=folder,
        out=_output(str(out), folder),
        column=column,
        prompt=prompt,
        truncate=truncate,
        precision=precision,
        revision=revision,
        partition_rows=partition_rows,
        on_empty=on_empty,
    )
    with locks.held(*([] if "://" in job.out else [Path(job.out)])):
        job, planned, todo = partitions.plan(job, names)
        if todo:
            _note_scores(directory)
        rows, cut = sum(part.rows for part in todo), 0
        with partitions.clean_up_temporary_files(job), closing(_run(job, todo, actors)) as written:
            for done in with_progress(
                written, shown=progress, total=rows, texts=lambda done: done.rows
            ):
                cut += done.cut
                if each is not None:
                    each(done)
    return CorpusResult(
        rows=sum(part.rows for part in planned),
        embedded=rows,
        partitions=len(planned),
        kept=len(planned) - len(todo),
        cut=cut,
        seconds=time.monotonic() - begun,
    )


def _note_scores(directory: Path) -> None:
    """Log in this process what actors would log unseen; nothing if the model is an adapter."""
    from encodax.inference.embedder import note_scores
    from encodax.model_files import peft, saved_model

    if not peft.is_adapter(directory):
        note_scores(saved_model.read_config(directory))


def _output(out: str, source: str) -> str:
    """Return the output's address; refuse one that a later run would read as input."""
    is_local = "://" not in out
    out = os.path.abspath(out) if is_local else out.rstrip("/")
    if is_local and "://" not in source:  # also through links
        is_inside = overlap.is_within(Path(out), Path(source))
    else:
        is_inside = f"{out}/".startswith(f"{source.rstrip('/')}/")
    if is_inside:
        raise EncodaxError(f"the output {out} is in the folder of the input; choose another")
    return out


def _run(job: CorpusJob, todo: list[Partition], actors: int | None) -> Generator[PartitionResult]:
    """Yield the partitions as they are written, in any order.

    Raises:
        EncodaxError: a partition cannot be written; the remaining ones are not tried.
    """
    from encodax.corpus.partitions import PartitionResult

    with closing(_answers(job, [asdict(partition) for partition in todo], actors)) as answers:
        for row in answers:
            written = PartitionResult(**row)
            if written.error:
                raise EncodaxError(written.error)
            yield written


def _answers(
    job: CorpusJob, rows: list[dict[str, Any]], actors: int | None
) -> Generator[dict[str, Any]]:
    """Yield the result of `Writer` for each row, computed by actors of Ray Data."""
    if not rows:
        return
    from encodax.corpus.partitions import Writer

    with _ray(actors) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        actors = actors or gpus or sum(node["Alive"] for node in ray.nodes())
        # One row for each block, and one block for each actor: a death costs one, and none waits.
        pool = ray.data.ActorPoolStrategy(
            size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1
        )
        device: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": CPUS}
        dataset = _dataset(ray, rows)
        yield from dataset.map(
            Writer, fn_constructor_args=(job,), compute=pool, **device
        ).iter_rows()


def _dataset(ray: Any, rows: list[dict[str, Any]]) -> Any:
    """Return a Ray dataset with one block for each row."""
    with warnings.catch_warnings():
        # Ray warns about deprecated fields of its own settings when it fills them in.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.data\.context")
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset.context.enable_progress_bars = False  # they count blocks, ours counts texts
    return dataset


@contextmanager
def _ray(actors: int | None) -> Iterator[Any]:
    """Use a running Ray, or start one that ends with the work."""
    import ray
    import ray.data

    if ray.is_initialized():
        yield ray
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init()
    else:
        _start(ray, actors)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, actors: int | None) -> None:
    """Start Ray on this machine only: quiet, and with room for the given number of actors."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # JAX, if this process has used it, warns of a fork. Ray's forks call exec at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, actors or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=100 * 2**20,  # only names of partitions are transferred, not texts
        )
