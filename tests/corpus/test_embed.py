"""A corpus on a real local Ray: exactly one vector for each row, whoever is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from encodax import Embedder
from encodax.config import InferenceConfig
from encodax.corpus import embed as corpus_module
from encodax.corpus import partitions
from encodax.corpus.embed import CorpusResult, embed_corpus
from encodax.corpus.partitions import MANIFEST, CorpusJob, PartitionResult, Writer
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: make setup-test"
)
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "one",
    "dog",
    "ran",
    "after",
    "what",
    "wonderful",
    "film",
]
ROWS = {"a.parquet": 2_300, "more/b.parquet": 700, "more/empty.parquet": 0, "more/c.parquet": 100}
PARTITION_ROWS = 250
PARTITIONS = 10 + 3 + 0 + 1
LONG = "cat " * 40
COMMAND = [sys.executable, "-W", "error", "-m", "encodax", "embed-corpus"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "embed_corpus.py"
SENTENCE = Path(__file__).parents[1] / "parity" / "goldens-sentence"
VARIABLES = {
    "JAX_PLATFORMS": "cpu",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # or Ray would make a token, and keep it in the home folder
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def text(number: int) -> str:
    """A short text of its own for each number."""
    digits = np.base_repr(number, len(WORDS)).lower()
    return " ".join(WORDS[int(digit, 36) % len(WORDS)] for digit in digits) + f" {number % 7}"


def write(path: Path, texts: list[Any], first: int = 0, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = range(first, first + len(texts))
    found = {
        "id": pyarrow.array(ids, pyarrow.int64()),
        "text": pyarrow.array(texts, pyarrow.string()),
    }
    # Row groups that no partition begins or ends with.
    parquet.write_table(pyarrow.table({**found, **columns}), path, row_group_size=333)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    first = 0
    for name, rows in ROWS.items():
        write(folder / name, [text(number) for number in range(first, first + rows)], first)
        first += rows
    (folder / "notes.txt").write_text("no Parquet")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "half.parquet").write_bytes(b"half")
    return folder


@pytest.fixture(scope="module")
def saved(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model.with_embeddings()
    usage = InferenceConfig((("query", "a dog ran "), ("document", "the film ")), "query")
    path = tmp_path_factory.mktemp("models") / "tiny"
    replace(model, config=replace(model.config, usage=usage)).save(path)
    return path


@pytest.fixture(scope="module")
def wanted(saved: Path) -> np.ndarray:
    """The vectors of the whole corpus, by id: its texts are documents, whatever the default is."""
    texts = [text(number) for number in range(sum(ROWS.values()))]
    return Embedder.load(saved).encode_document(texts)


@pytest.fixture(scope="module", autouse=True)
def variables() -> Iterator[None]:
    """They stand before Ray is imported, which is when it reads them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def running(variables: None) -> Iterator[None]:
    """A Ray with room for two actors; its processes end with it."""
    import ray

    with warnings.catch_warnings():
        # JAX warns of a fork; those of Ray are followed by an exec at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(
            address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20
        )
    yield
    ray.shutdown()


Run = Callable[..., CorpusResult]


@pytest.fixture
def run(corpus: Path, saved: Path, tmp_path: Path) -> Run:
    """Embeds the corpus into `tmp_path / "out"`, with other choices where they are given."""

    def run(model: Path = saved, source: Any = corpus, out: Any = None, **choices: Any) -> Any:
        choices = {"actors": 2, "partition_rows": PARTITION_ROWS, **choices}
        return embed_corpus(model, source, out or tmp_path / "out", **choices)

    return run


@pytest.fixture
def here(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without Ray: what an actor does, in this process."""

    def answers(
        job: CorpusJob, rows: list[dict[str, Any]], _: int | None
    ) -> Generator[dict[str, Any]]:
        writer = Writer(job)
        yield from map(writer, rows)

    monkeypatch.setattr(corpus_module, "_answers", answers)
    return run


def files_of(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def assert_whole(out: Path, wanted: np.ndarray) -> None:
    """Each row is there once, in its place, with its columns and the vector of its text."""
    names = {
        f"{name.removesuffix('.parquet')}-{number:05}.parquet": (name, rows, number)
        for name, rows in ROWS.items()
        for number in range(-(-rows // PARTITION_ROWS))
    }
    assert len(names) == PARTITIONS
    assert files_of(out) == sorted([*names, MANIFEST])
    firsts = dict(zip(ROWS, np.cumsum([0, *ROWS.values()]).tolist(), strict=False))
    for path, (name, rows, number) in names.items():
        table = parquet.ParquetFile(out / path).read()
        start = number * PARTITION_ROWS
        ids = list(range(firsts[name] + start, firsts[name] + min(start + PARTITION_ROWS, rows)))
        assert table["id"].to_pylist() == ids
        assert table["text"].to_pylist() == [text(number) for number in ids]
        assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), 16)
        vectors = np.stack(table["vector"].to_numpy())
        np.testing.assert_allclose(vectors, wanted[ids], rtol=0, atol=1e-5)


# What it is for.


def test_an_actor_is_killed_and_each_row_has_one_vector(
    running: None, run: Run, tmp_path: Path, wanted: np.ndarray
) -> None:
    assert len(np.unique(wanted.round(4), axis=0)) > 3_000  # so that a swap shows
    done: list[PartitionResult] = []

    def kill_the_first(written: PartitionResult) -> None:
        done.append(written)
        if len(done) == 1:
            os.kill(written.pid, signal.SIGKILL)

    result = run(each=kill_the_first)
    assert (result.rows, result.embedded, result.kept, result.cut) == (3_100, 3_100, 0, 0)
    assert result.partitions == len(done) == len({written.name for written in done}) == PARTITIONS
    assert len({written.pid for written in done}) == 3  # two, and the one that came after
    assert_whole(tmp_path / "out", wanted)

    # Some are lost, one is broken, and a half one was left: those alone are written.
    out = tmp_path / "out"
    lost = ["a-00003.parquet", "more/c-00000.parquet"]
    for name in lost:
        (out / name).unlink()
    (out / "a-00000.parquet").write_bytes(b"PAR1 broken")
    (out / f".a-00003.parquet.{1:032}.partial").write_bytes(b"half")
    before = {name: (out / name).stat() for name in files_of(out)}
    again = run(each=done.append)
    written = {each.name for each in done[PARTITIONS:]}
    assert written == {*lost, "a-00000.parquet"}
    assert (again.rows, again.embedded, again.kept) == (3_100, 600, PARTITIONS - 3)
    assert_whole(out, wanted)
    for name in before.keys() - written - {MANIFEST, f".a-00003.parquet.{1:032}.partial"}:
        after = (out / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before[name].st_ino, before[name].st_mtime_ns)

    # Nothing is missing: nothing is done.
    assert run().embedded == 0


def test_prompts_cuts_and_added_files(here: Run, saved: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    extra = {"day": pyarrow.array(["a", "b", "a"]).dictionary_encode()}
    write(source / "a.parquet", ["the cat", LONG, "a dog"], **extra)
    with pytest.raises(EncodaxError, match=r"^a\.parquet, row 1: 4\d tokens"):
        here(source=source, prompt="query")
    result = here(source=source, prompt="query", truncate=True)
    assert (result.rows, result.cut) == (3, 1)
    write(source / "b.parquet", ["a film"])
    result = here(source=source, prompt="query")
    assert (result.rows, result.embedded, result.partitions) == (4, 1, 2)
    table = parquet.read_table(tmp_path / "out" / "a-00000.parquet")
    assert table["day"].to_pylist() == ["a", "b", "a"]
    embedder = Embedder.load(saved)
    vectors = embedder.encode(["the cat", LONG, "a dog"], prompt="query", truncate=True)
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), vectors, rtol=0, atol=1e-5)


def test_vectors_of_a_cross_encoder_are_noted_here(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what actors say nothing comes here."""
    monkeypatch.setattr(corpus_module, "_answers", lambda *_: (row for row in ()))
    run()
    assert not caplog.records
    run(model=SENTENCE / "ce-plain", out=tmp_path / "scores")
    assert ["encodax rerank" in each.getMessage() for each in caplog.records] == [True]


def test_a_glob_a_file_and_a_uri(here: Run, corpus: Path, tmp_path: Path) -> None:
    sources = {
        "glob": (f"{corpus}/more/[bc].parquet", ["b-00000.parquet", "c-00000.parquet"]),
        "file": (corpus / "more" / "c.parquet", ["c-00000.parquet"]),
        "uri": ((corpus / "more").as_uri(), ["b-00000.parquet", "c-00000.parquet"]),
    }
    for name, (source, files) in sources.items():
        out = tmp_path / name
        here(source=source, out=out.as_uri() if name == "uri" else out, partition_rows=1_000)
        assert files_of(out) == sorted([*files, MANIFEST])


# What is refused.


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a cat", None], "row 1: the text is null"),
        (["a cat", "a dog", " "], "row 2: the text is empty"),
        (["a cat"] * 300 + [LONG], "row 300: 4[0-9] tokens"),
    ],
)
def test_a_bad_text_is_named(here: Run, tmp_path: Path, texts: list[Any], message: str) -> None:
    write(tmp_path / "in" / "bad.parquet", texts)
    with pytest.raises(EncodaxError, match=rf"^bad\.parquet, {message}"):
        here(source=tmp_path / "in")
    assert {MANIFEST, "bad-00000.parquet"} >= set(files_of(tmp_path / "out"))


def test_ray_ends_its_actors_where_a_text_is_bad(running: None, run: Run, tmp_path: Path) -> None:
    """There is room for two of the three actors: the two work."""
    import ray

    write(tmp_path / "in" / "bad.parquet", [None] + ["a cat"] * 20)
    with pytest.raises(EncodaxError, match=r"^bad\.parquet, row 0: the text is null"):
        run(source=tmp_path / "in", actors=3, partition_rows=1)
    assert MANIFEST in files_of(tmp_path / "out")
    until = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 1 and time.monotonic() < until:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 1


def test_what_makes_a_partition_die_each_time_is_given_up(here: Run, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", ["a cat"])
    out = tmp_path / "out"

    def attempts_before(written: PartitionResult) -> None:
        raise AssertionError(written)

    sweep = partitions._sweep
    with pytest.MonkeyPatch.context() as patch:

        def sweep_and_die(job: Any) -> None:
            sweep(job)
            for number in range(partitions.MAX_FAILED_ATTEMPTS):
                (out / f".a-00000.parquet.{number:032}.partial").write_bytes(b"half")

        patch.setattr(partitions, "_sweep", sweep_and_die)
        with pytest.raises(EncodaxError, match=r"a\.parquet, rows 0 to 1: 5 processes died on"):
            here(source=tmp_path / "in", each=attempts_before)


def test_an_output_is_of_one_model_and_one_choice(
    here: Run, tiny_model: Model, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "a.parquet", ["a cat"], title=["a title"])
    with pytest.raises(EncodaxError, match="no prompt 'passage'; it has: query, document"):
        here(source=source, prompt="passage")  # nothing was written: the choice is free
    here(source=source)
    before = (out / MANIFEST).read_bytes()
    other = tmp_path / "other"
    tiny_model.with_embeddings("max").save(other)
    choices: list[tuple[dict[str, Any], str]] = [
        ({"model": other}, "has vectors of another model .*tiny, not that of .*other"),
        ({"column": "title"}, "was started with column 'text', not 'title'"),
        ({"prompt": "query"}, "was started with prompt None, not 'query'"),
        ({"precision": "bfloat16"}, "was started with precision None, not 'bfloat16'"),
        ({"partition_rows": 7}, "was started with partition_rows 250, not 7"),
    ]
    for choice, message in choices:
        with pytest.raises(EncodaxError, match=message):
            here(**{"source": source, **choice})
    (source / "a.parquet").rename(source / "b.parquet")
    with pytest.raises(EncodaxError, match=r"a-00000\.parquet in .*out belongs to rows that"):
        here(source=source)
    assert (out / MANIFEST).read_bytes() == before
    assert files_of(out) == [MANIFEST, "a-00000.parquet"]


def test_what_can_be_seen_before_is_refused_before(
    corpus: Path, saved: Path, tmp_path: Path
) -> None:
    site, out = tmp_path / "in", tmp_path / "out"
    write(site / "numbers" / "a.parquet", ["a"], words=[1])
    write(site / "vectors" / "a.parquet", ["a"], vector=[[0.5]])
    (site / "broken").mkdir()
    (site / "broken" / "a.parquet").write_bytes(b"no Parquet at all")
    (site / "none").mkdir()
    held = site / "held"
    write(held / "x.parquet", ["a"])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"source": site / "nowhere"}, "nowhere: there is no .parquet file"),
        ({"source": site / "none"}, "none: there is no .parquet file"),
        ({"source": f"{site}/*.txt"}, "there is no .parquet file"),
        ({"source": "nosuch://bucket/a"}, "nosuch://bucket/a: .*nosuch"),
        ({"source": site / "broken"}, "a.parquet cannot be read as Parquet: "),
        ({"source": site / "vectors"}, "a.parquet: there is already a column 'vector'"),
        ({"column": "body"}, "a.parquet: .* not exactly one column 'body'; columns: id, text"),
        ({"column": "id"}, "a.parquet: column 'id' holds int64, not texts"),
        ({"actors": 0}, "actors = 0 is not above 0"),
        ({"partition_rows": -1}, "partition_rows = -1 is not above 0"),
        ({"model": tmp_path / "no"}, "no does not exist: give a model directory"),
        ({"out": corpus / "out"}, "out is in the folder of the input"),
        ({"out": corpus}, "is in the folder of the input"),
        ({"out": held}, "held holds other Parquet files; choose another output"),
    ]
    for choice, message in cases:
        choice = {"model": saved, "source": corpus, "out": out, **choice}
        with pytest.raises(EncodaxError, match=re.sub(r"\.(?!\*)", r"\.", message)):
            embed_corpus(**choice)
    assert not out.exists()
    assert files_of(held) == ["x.parquet"]


# The command line, with a Ray of its own.


def command(*arguments: str, marker: str = "") -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "ENCODAX_TEST_MARKER": marker}
    return subprocess.run(arguments, env=variables, capture_output=True, text=True, timeout=300)


def left_behind(marker: str) -> list[int]:
    """Processes that still run and were begun, at whatever distance, with this marker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended, or is not ours to see
            continue
        if marker.encode() in variables and state != "Z":
            found.append(int(process.name))
    return found


def assert_all_end(marker: str) -> None:
    """Ray's processes notice one after another that what began them has gone."""
    deadline = time.monotonic() + 60
    while left_behind(marker) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left_behind(marker) == []


def test_the_command_and_the_example(
    corpus: Path, saved: Path, tmp_path: Path, wanted: np.ndarray, minilm: Path
) -> None:
    out, marker = tmp_path / "out", f"corpus-{os.getpid()}-"
    choices = ["--input", str(corpus), "--partition-rows", str(PARTITION_ROWS), "--actors", "2"]
    calls = {
        "command": [*COMMAND, str(saved), *choices, "--output", str(out)],
        "example": [sys.executable, "-W", "error", str(EXAMPLE), str(minilm), str(tmp_path / "ex")],
    }
    with ThreadPoolExecutor(2) as pool:
        ended = {name: pool.submit(command, *call, marker=marker) for name, call in calls.items()}
    done, example = ended["command"].result(), ended["example"].result()
    assert (done.returncode, noise_left_out(done.stderr)) == (0, [])
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer.pop("seconds") > 0
    assert answer == {
        "output": str(out), "rows": 3_100, "embedded": 3_100, "partitions": PARTITIONS,
        "kept": 0, "cut": 0,
    }  # fmt: skip
    assert_whole(out, wanted)
    assert (example.returncode, noise_left_out(example.stderr)) == (0, []), example.stdout
    assert example.stdout.splitlines()[-1] == "2,000 rows, 2,000 ids: one vector for each"
    assert re.search(r"2,000 vectors in \d+ s, 3 processes", example.stdout)
    assert_all_end(marker)


def noise_left_out(text: str) -> list[str]:
    """Its lines without the one with which Ray says that it was told to be quiet."""
    return [line for line in text.splitlines() if "RAY_BACKEND_LOG_LEVEL" not in line]


def test_the_command_line_refuses_in_one_line(corpus: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    choices = ["--input", str(corpus), "--output", str(out), "--column", "id"]
    done = command(*COMMAND, str(saved), *choices)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a.parquet: column 'id' holds int64, not texts\n"
    assert not out.exists()


def test_without_ray_its_extra_is_named(
    corpus: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EncodaxError, match=r"needs ray: pip install 'encodax\[ray\]'"):
        embed_corpus(saved, corpus, tmp_path / "out")
