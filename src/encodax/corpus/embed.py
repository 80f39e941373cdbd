"""A corpus that one machine cannot hold: Parquet in, Parquet out, on Ray Data.

The rows of the Ray dataset are the partitions that are still missing, not the texts. An actor a
device takes one, reads it a few rows at a time, and puts its file in place in one step
(`partitions.Writer`). Ray gives out the work and starts again what dies; what is tried twice has
the same name and the same content. `Dataset.write_parquet` would not do: its blocks and names
differ from run to run, so a run that was killed could neither be resumed nor be told from a
finished one.
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
from encodax.inference.progress import counted
from encodax.model_files import hub
from encodax.storage import locks, overlap

if TYPE_CHECKING:
    from encodax.corpus.partitions import CorpusJob, Partition, Written

PARTITION_ROWS = 65_536
"""About a minute of a CPU with a small model: what a kill may cost."""
CPUS = 0.5
"""What Ray counts for an actor on CPU: on a whole one each, nothing would be left to Ray itself."""


@dataclass(frozen=True)
class CorpusResult:
    """What a run did."""

    rows: int
    """Vectors that are there now: one for each row of the corpus."""
    embedded: int
    """Those of this run."""
    partitions: int
    """Output files."""
    kept: int
    """Output files that an earlier run had written."""
    cut: int
    """Texts of this run that were longer than the model takes."""
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
    """Give each row of Parquet files a vector, on as many devices as Ray has.

    Each block of `partition_rows` rows of an input file becomes an output file of the same rows and
    columns in the same order, and `vector` (a list of E float32). Run again after it was stopped,
    it writes the files that are missing, and anew those whose input rows have changed; another
    model or other choices are refused, and so is an output with vectors of rows that the input has
    no more.

    It runs on the Ray that is there (`ray.init`, or RAY_ADDRESS), or else on one of its own on this
    machine. Every machine of a cluster has to reach the files and the model by the same names.

    Args:
        model: a model directory, or an id of the hub.
        source: a folder, a glob or a file (.parquet); or the URI of a folder or a file, such as
            s3://bucket/corpus.
        out: a folder, or its URI.
        column: the column of texts.
        actors: how many embed at the same time; None for one a GPU, or one a machine without any.
        prompt: name of the model's prompt that goes before each text; None for that of documents,
            as `Embedder.encode_document` has it.
        truncate: cut what is longer than the model takes; how many were cut is counted.
        precision: of the model's arithmetic, as `Embedder` takes it; None for its default.
        revision: a branch, tag or commit of the hub's repository.
        partition_rows: rows of an output file: what is done again after a kill.
        on_empty: what becomes of empty texts and nulls: `error` refuses them, and `keep` gives them
            vectors of zeros.
        progress: show a progress bar; None for where standard error is a terminal.
        each: is called with each partition that is written (`partitions.Written`).

    Raises:
        EncodaxError: an input file, or a text in it, is bad, named by file and row (from 0); the
            output was begun with other choices; or Ray is not installed. Partitions that were
            written stay.
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
        digest=partitions.at_rest(directory, lambda: partitions.digest(directory)),
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
        with partitions.swept(job), closing(_run(job, todo, actors)) as written:
            for done in counted(written, shown=progress, total=rows, texts=lambda done: done.rows):
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
    """Say here what actors say where nobody hears them; of an adapter nothing is known yet."""
    from encodax.inference.embedder import note_scores
    from encodax.model_files import peft, saved_model

    if not peft.is_adapter(directory):
        note_scores(saved_model.read_config(directory))


def _output(out: str, source: str) -> str:
    """The output's address, which must not be where a later run would read it as input."""
    is_local = "://" not in out
    out = os.path.abspath(out) if is_local else out.rstrip("/")
    if is_local and "://" not in source:  # whatever links lead there
        is_inside = overlap.is_within(Path(out), Path(source))
    else:
        is_inside = f"{out}/".startswith(f"{source.rstrip('/')}/")
    if is_inside:
        raise EncodaxError(f"the output {out} is in the folder of the input; choose another")
    return out


def _run(job: CorpusJob, todo: list[Partition], actors: int | None) -> Generator[Written]:
    """The partitions as they get written, in any order.

    Raises:
        EncodaxError: one cannot be; the rest is left.
    """
    from encodax.corpus.partitions import Written

    with closing(_answers(job, [asdict(partition) for partition in todo], actors)) as answers:
        for row in answers:
            written = Written(**row)
            if written.error:
                raise EncodaxError(written.error)
            yield written


def _answers(
    job: CorpusJob, rows: list[dict[str, Any]], actors: int | None
) -> Generator[dict[str, Any]]:
    """What `Writer` says of each row, by actors of Ray Data."""
    if not rows:
        return
    from encodax.corpus.partitions import Writer

    with _ray(actors) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        actors = actors or gpus or sum(node["Alive"] for node in ray.nodes())
        # One row a block, and one block an actor: a death costs one, and none waits in a line.
        pool = ray.data.ActorPoolStrategy(
            size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1
        )
        device: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": CPUS}
        dataset = _dataset(ray, rows)
        yield from dataset.map(
            Writer, fn_constructor_args=(job,), compute=pool, **device
        ).iter_rows()


def _dataset(ray: Any, rows: list[dict[str, Any]]) -> Any:
    """A Ray dataset of a row a block."""
    with warnings.catch_warnings():
        # Ray warns of old fields of its own settings when it first fills them in.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.data\.context")
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset.context.enable_progress_bars = False  # they count blocks; ours counts texts
    return dataset


@contextmanager
def _ray(actors: int | None) -> Iterator[Any]:
    """Ray as it is running, or one that ends with the work."""
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
    """Ray on this machine alone: quiet, and with room for the actors that were asked for."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # JAX, where this process has used it, warns of a fork. Ray's run an exec at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, actors or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=100 * 2**20,  # names of partitions travel, not texts
        )
