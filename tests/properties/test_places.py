"""Nothing that Encodax did not write changes, whatever stands around what it writes."""

from __future__ import annotations

import functools
import importlib
import os
import random
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import toys
from directories import published

from encodax.corpus import partitions
from encodax.data import sources
from encodax.demo import run as demo
from encodax.errors import EncodaxError
from encodax.inference import vector_files
from encodax.model_files.run_files import RunFacts
from encodax.models.encoder_model import Model
from encodax.pages import run_report
from encodax.storage import outputs
from encodax.training.loop.checkpoint import Checkpoints
from encodax.training.loop.fit import FitResult
from encodax.training.loop.output import RunOutput
from encodax.training.loop.progress import RunLog
from encodax.training.step.lora import LoraConfig, save_adapter
from encodax.training.step.optimizer import make_optimizer
from encodax.training.step.partition import trainable
from encodax.training.step.step import TrainState, initial_state

training = importlib.import_module("encodax.training.train")  # there is a function of the name

TREES = 40
NAMES = ("notes.txt", "data.jsonl", "7", "120", "latest", "archive", "photo", ".hidden", "ü x")
"""Of files, folders and links that a user may have anywhere."""
LIKE_OURS = {
    "out": (
        "pytorch_model.bin", "onnx", "tensorboard/events.out.tfevents.1700000000.host",
        "tensorboard/other/events.out.tfevents.1700000000.host.encodax", "profile/mine",
        "1_Pooling/mine", "2_Dense/weights.bin", "0_Transformer/mine", "logs/config.json",
        "model/mine", "model.checkpoints/mine", f".other.{0:032}.partial",
    ),
    "out.checkpoints": (
        "mine.orbax-checkpoint-tmp/data", "3.orbax-checkpoint-tmp/x", "3", "state", "2/notes",
    ),
    ".": (
        ".out.partial", "out.old", "vectors.npy.partial", "page.html.partial", "answers.partial2",
        ".out.old", ".vectors.npy.partial",
    ),
    "vectors": (".mine.partial", "more/.x.parquet.partial", "part.txt"),
    "input": ("train.jsonl", "corpus.csv"),
}  # fmt: skip
"""Names that resemble those that Encodax gives, by the folder in which they would hurt."""


def grow(root: Path, draw: random.Random) -> None:
    """Foreign files, folders, links and pipes, at random places."""
    folders = [root / name for name in LIKE_OURS]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for _ in range(draw.randint(3, 12)):
        name = draw.choice(list(LIKE_OURS))
        own = draw.choice((*NAMES, *LIKE_OURS[name]))
        plant(root / name / own, draw, folders)
    if draw.random() < 0.3:
        place = draw.choice(("out", "out.checkpoints"))
        (root / place).rename(root / f"{place}-elsewhere")
        (root / place).symlink_to(f"{place}-elsewhere")
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink() and path not in folders:
            if not path.is_dir():
                path.chmod(draw.choice((0o600, 0o640, 0o444, 0o644)))
            os.utime(path, (10**9, 10**9))


def plant(path: Path, draw: random.Random, folders: list[Path]) -> None:
    if any(parent.is_file() or parent.is_symlink() for parent in path.parents):
        return
    if os.path.lexists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = draw.choice(("file", "file", "folder", "tree", "link", "link", "pipe"))
    if kind == "file":
        path.write_bytes(draw.randbytes(20))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(draw.choice((".", "..", "gone/x", "../input", str(draw.choice(folders)))))
    else:
        path.mkdir()
        for name in draw.sample(NAMES, 2) if kind == "tree" else ():
            plant(path / name, draw, folders)


def seen(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that stands below a folder, as a user sees it; times of files and links only."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            facts = path.lstat()
            content: Any = None
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                content = path.read_bytes()
            is_folder = stat.S_ISDIR(facts.st_mode)
            time = None if is_folder else facts.st_mtime_ns
            found[path.relative_to(root).as_posix()] = (facts.st_mode, time, content)
    return found


# What writes.


@functools.cache
def classifier() -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return Model.load(published(Path(folder) / "model"))


@functools.cache
def adapter() -> Any:
    return trainable(classifier().params, key=jax.random.key(0), lora=LoraConfig(rank=2))[0]


@functools.cache
def state() -> TrainState:
    optimizer = make_optimizer(lambda step: 1e-3, weight_decay=0.0, clip_norm=1.0)
    return initial_state({"encoder/dense": {"w": jnp.ones(3)}}, optimizer, seed=0)


def prepared(*_: Any, **__: Any) -> Any:
    """A job that has no data."""
    run = SimpleNamespace(settings=SimpleNamespace(average=None))
    return SimpleNamespace(
        train=None, eval=None, model=classifier(), loss_options=None, teacher=None, run=run,
        facts={}, save=lambda out, best, trained: best.save(out, overwrite=True),
    )  # fmt: skip


FACTS = RunFacts("t", "f1", True, 2, {}, {"parameters": 1, "layers": 1, "width": 1}, {}, {}, {})
STEP = {"loss": 0.5, "learning_rate": 1.0, "gradient_norm": 1.0, "tokens_per_second": 1.0,
        "padding": 0.0, "waiting": 0.0}  # fmt: skip


def trains(root: Path) -> None:
    """A run as it is, but that nothing is learned: its log, its model, its checkpoints."""

    def fit(run: Any, data: Any, evaluate: Any, *, log: Callable[..., RunLog], output: RunOutput):
        with log(2, 0) as entries:
            checkpoints = Checkpoints(output.checkpoints, keep=1)
            for step in (1, 2):
                entries.step(step, STEP)
                assert output.best_model is not None
                output.best_model.write(classifier(), {})
                entries.evaluation(step, {"f1": step / 2}, is_best=True)
                at = replace(state(), step=state().step * 0 + step)
                checkpoints.save(at, {})
            checkpoints.finish()
            checkpoints.abandon()
        return FitResult(classifier(), {}, 2, 2, 1.0, 1.0, 0.0, [])

    stand_ins = {"prepare": prepared, "fit": fit, "about": lambda _: FACTS}
    with mock.patch.multiple(training, evaluator=lambda *_: None, **stand_ins):
        training.train("classification", train=[], eval=[], out=root / "out", overwrite=True)


def saves(root: Path) -> None:
    classifier().save(root / "out", overwrite=True)


def saves_an_adapter(root: Path) -> None:
    lora = LoraConfig(rank=2)
    save_adapter(root / "out", classifier(), adapter(), lora, "base", overwrite=True)


def saves_a_writer(root: Path) -> None:
    toys.writer().save(root / "out", overwrite=True)


def embeds(root: Path) -> None:
    with vector_files.opened(str(root / "vectors.npy"), 4, np.dtype(np.float32)) as file:
        file.write("a", np.ones(4, np.float32))


def embeds_in_part(root: Path) -> None:
    with vector_files.opened(str(root / "vectors.npy"), 4, np.dtype(np.float32)) as file:
        file.write("a", np.ones(4, np.float32))
        raise EncodaxError("a bad text")


def predicts(root: Path) -> None:
    with sources.open_output(root / "answers") as stream:
        stream.write("{}\n")
        raise EncodaxError("a bad text")


def explores(root: Path) -> None:
    with sources.open_output(root / "page.html") as stream:
        stream.write("<p>")


def reports(root: Path) -> None:
    place = root / "out"
    with RunLog(place, 1, about=FACTS) as log:
        log.step(1, STEP)
        log.evaluation(1, {"f1": 1.0}, is_best=True)
    with mock.patch.object(run_report, "render", lambda *_: "<p>"):  # pictures take a while
        run_report.write_report(place)


def embeds_a_corpus(root: Path) -> None:
    corpus = root / "corpus"
    corpus.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"]}), corpus / "a.parquet")
    own = partitions.CorpusJob(
        "m", "0", str(corpus), str(root / "vectors"), "text", None, False, None, None, 1
    )
    own, _, todo = partitions.plan(own, ["a.parquet"])
    with (
        partitions.clean_up_temporary_files(own),
        mock.patch.object(partitions.Writer, "_embed", _embed),
    ):
        for partition in todo:
            partitions.Writer(own).write(partition)


def _embed(self: Any, partition: Any, stream: Any) -> None:
    stream.write(b"not the point here")


def demonstrates(root: Path) -> None:
    def write(place: Path) -> None:
        for name in (demo.MODEL_DIRECTORY, demo.WRITER_DIRECTORY):
            classifier().save(place / name)
        (place / demo.SUMMARY_FILE).write_text("{}")

    older = demo._of_older(root / "out")
    outputs.write_directory(root / "out", write, overwrite=True, replaces=older)


WRITERS = (
    trains, saves, saves_an_adapter, saves_a_writer, embeds, embeds_in_part, predicts, explores,
    reports, embeds_a_corpus, demonstrates,
)  # fmt: skip


@dataclass
class Tally:
    """How often something was written, and how often refused."""

    written: int = 0
    refused: int = 0


@contextmanager
def without_exchange(draw: random.Random) -> Iterator[None]:
    """Now and then a file system that cannot exchange two names."""
    if draw.random() < 0.5:
        yield
        return
    with mock.patch.object(outputs, "_exchange", lambda first, second: False):
        yield


def try_tree(root: Path, seed: int, tally: Tally) -> None:
    draw = random.Random(seed)
    root.mkdir()
    grow(root, draw)
    before = seen(root)
    for write in draw.sample(WRITERS, 3):
        try:
            with without_exchange(draw):
                write(root)
            tally.written += 1
        except EncodaxError as error:
            assert str(error).isprintable(), error
            tally.refused += 1
        after = seen(root)
        changed = [name for name, facts in before.items() if after.get(name) != facts]
        assert not changed, f"tree {seed}, {write.__name__}: {changed}"
        left = [name for name in after if outputs.finished_name(Path(name).name)]
        assert set(left) <= before.keys(), f"tree {seed}, {write.__name__}: {left}"


def try_trees(folder: Path, seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        try_tree(folder / str(seed), seed, tally)
    return tally


def test_nothing_foreign_changes(tmp_path: Path) -> None:
    tally = try_trees(tmp_path, range(TREES))
    assert tally.written > TREES
    assert tally.refused > TREES / 8


@pytest.mark.soak
def test_nothing_foreign_changes_in_a_thousand_trees(tmp_path: Path) -> None:
    tally = try_trees(tmp_path, range(TREES, TREES + 1_000))
    assert tally.written > 1_000
    assert tally.refused > 100
