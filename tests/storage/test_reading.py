"""A directory that is replaced while it is read gives the old or the new, and no mixture."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import toys
from directories import adapter_of, refusal

from encodax.errors import EncodaxError
from encodax.model_files import peft, saved_model, sentence_modules, weights
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.storage import json_files, locks, outputs, reading
from encodax.tasks import task
from encodax.text import published
from encodax.text.tokenizer import Tokenizer

# Saves two models in a place by turns, without end; what is saved is made beforehand.
WRITER = """
import json, shutil, sys, time
from pathlib import Path
from encodax.storage import outputs

(pause, replaces), target, *sources = json.loads(sys.argv[1]), *map(Path, sys.argv[2:])

def copied(place):
    shutil.copytree(source, place, dirs_exist_ok=True)

print("ready", flush=True)
while True:
    for source in sources:
        outputs.write_directory(target, copied, overwrite=True, replaces=replaces)
        time.sleep(pause)
"""


@contextlib.contextmanager
def replacing(target: Path, *sources: Path, pause: float = 0.5) -> Iterator[None]:
    """Another process saves models in a directory."""
    shutil.copytree(sources[-1], target)
    told = json.dumps([pause, saved_model.MODEL_FILES])
    command = [sys.executable, "-c", WRITER, told, target, *sources]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            yield
            assert writer.poll() is None, "the writer has ended"
        finally:
            writer.kill()


def facts(model: Model | Seq2SeqModel) -> tuple[Any, ...]:
    """What tells two models apart: of each file something."""
    sums = {
        path: sum(float(np.sum(leaf)) for leaf in leaves.values())
        for path, leaves in model.params.items()
    }
    return repr(model.config), model.tokenizer.vocabulary(), sums


def other(model: Model, texts: tuple[str, ...] = ("quite another text", "no word alike")) -> Model:
    """A model of the same shapes, of which no file is alike."""
    encoder = model.config.encoder
    labels = tuple(f"other {label}" for label in model.config.labels)
    norm = dataclasses.replace(encoder.embeddings.norm, eps=1e-3)
    layers = tuple(dataclasses.replace(layer, norm=norm) for layer in encoder.layers)
    embeddings = dataclasses.replace(encoder.embeddings, norm=norm)
    encoder = dataclasses.replace(encoder, embeddings=embeddings, layers=layers)
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, encoder=encoder, labels=labels),
        params=jax.tree.map(lambda leaf: leaf + 1, model.params),
        tokenizer=Tokenizer.train(texts, "wordpiece", vocabulary_size=60),
    )


@pytest.fixture(scope="module")
def two(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The directories of two models."""
    folder = tmp_path_factory.mktemp("two")
    tiny_model.save(folder / "a")
    other(tiny_model).save(folder / "b")
    return folder / "a", folder / "b"


def assert_each_is_one(load: Callable[[], Any], wanted: list[tuple[Any, ...]], loads: int) -> None:
    """All of so many loads give one of these, and each of these is met."""
    found = set()
    until = time.monotonic() + 60
    while loads > 0 or (len(found) < len(wanted) and time.monotonic() < until):
        told = facts(load())
        assert told in wanted, "files of two models"
        found.add(wanted.index(told))
        loads -= 1
    assert len(found) == len(wanted)


def loads_beside_a_writer(two: tuple[Path, Path], target: Path, loads: int) -> None:
    wanted = [facts(Model.load(path)) for path in two]
    with replacing(target, *two, pause=0):
        assert_each_is_one(lambda: Model.load(target), wanted, loads)


def test_a_model_that_is_saved_again_and_again_is_the_old_or_the_new(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    loads_beside_a_writer(two, tmp_path / "model", 10)


@pytest.mark.soak
def test_five_hundred_loads_are_one_model_each(two: tuple[Path, Path], tmp_path: Path) -> None:
    loads_beside_a_writer(two, tmp_path / "model", 500)


def renamed(source: Path, target: Path) -> Iterator[None]:
    """The directory, by somebody who asks no reader."""
    shutil.copytree(source, target.with_name("new"))
    yield
    target.rename(target.with_name("old"))
    target.with_name("new").rename(target)
    shutil.rmtree(target.with_name("old"))


def linked(source: Path, target: Path) -> Iterator[None]:
    """A link to the directory, as deployments have it, there and back."""
    shutil.copytree(source, target.with_name("new"))
    before = target.rename(target.with_name("old"))
    target.symlink_to(before)
    for place in (before.with_name("new"), before, before.with_name("new")):
        yield
        target.with_name("link").symlink_to(place)
        os.replace(target.with_name("link"), target)


def one_by_one(source: Path, target: Path) -> Iterator[None]:
    """The files, where the directory itself cannot be replaced."""
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    yield
    (target / outputs.REPLACING).touch()
    for file in files:
        yield
        shutil.copyfile(source / file, target / f".{file.name}.partial")
        os.replace(target / f".{file.name}.partial", target / file)
    (target / outputs.REPLACING).unlink()


@pytest.mark.parametrize("way", [renamed, linked, one_by_one])
@pytest.mark.parametrize("first", [2, 8, 14, 19])
def test_a_model_that_is_replaced_at_some_moment(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any, first: int
) -> None:
    """From some look at a file on, each look comes with a step of the writer."""
    wanted = [facts(Model.load(path)) for path in two]
    target = shutil.copytree(two[0], tmp_path / "model")
    steps = way(two[1], target)
    next(steps)
    looks = 0

    def is_there(path: Path) -> bool:
        nonlocal looks
        looks += 1
        if looks >= first:
            next(steps, None)
        return look(path)

    look = json_files.is_there
    for module in (json_files, saved_model, sentence_modules, published, weights, peft):
        monkeypatch.setattr(module, "is_there", is_there)
    monkeypatch.setattr(time, "sleep", lambda _: next(steps, None))
    found = facts(Model.load(target))
    assert looks > 19
    assert found in wanted, "files of two models"


@pytest.mark.parametrize("replaced", ["adapter", "base"])
def test_an_adapter_and_its_base_are_of_one_time(
    two: tuple[Path, Path], tmp_path: Path, replaced: str
) -> None:
    """Two adapters of one base, or one adapter of a base that is two."""
    base, target = tmp_path / "base", tmp_path / replaced
    model = Model.load(two[0])
    if replaced == "adapter":
        shutil.copytree(two[0], base)
        different = Model.load(two[1])
        config = dataclasses.replace(model.config, labels=different.labels)
        different = dataclasses.replace(different, config=config)
        sources = [
            adapter_of(base, model, tmp_path / "a", 0.1),
            adapter_of(base, different, tmp_path / "b", 0.2),
        ]
    else:
        adapter_of(base, model, tmp_path / "adapter", 0.1)
        params = jax.tree.map(lambda leaf: leaf + 1, model.params)
        dataclasses.replace(model, params=params).save(tmp_path / "b")
        sources = [two[0], tmp_path / "b"]
    wanted = []
    for source in sources:
        shutil.copytree(source, target)
        wanted.append(facts(Model.load(tmp_path / "adapter")))
        shutil.rmtree(target)
    with replacing(target, *sources):
        assert_each_is_one(lambda: Model.load(tmp_path / "adapter"), wanted, 4)


def test_an_embedder_with_modules_of_its_own(two: tuple[Path, Path], tmp_path: Path) -> None:
    sources = [tmp_path / "a", tmp_path / "b"]
    for source, place, pooling in zip(two, sources, ("mean", "cls"), strict=True):
        Model.load(source).with_embeddings(pooling).save(place)
    wanted = [facts(Model.load(source)) for source in sources]
    with replacing(tmp_path / "model", *sources):
        assert_each_is_one(lambda: Model.load(tmp_path / "model"), wanted, 4)


def test_a_sequence_to_sequence_model(tmp_path: Path) -> None:
    first = toys.writer()
    tokenizer = Tokenizer.train(("zyxwvut",), "char", begins=False)
    assert tokenizer.vocabulary_size <= first.tokenizer.vocabulary_size
    params = jax.tree.map(lambda leaf: leaf + 1, first.params)
    second = dataclasses.replace(first, params=params, tokenizer=tokenizer)
    first.save(tmp_path / "a")
    second.save(tmp_path / "b")
    sources = [tmp_path / "a", tmp_path / "b"]
    wanted = [facts(Seq2SeqModel.load(source)) for source in sources]
    with replacing(tmp_path / "model", *sources):
        assert_each_is_one(lambda: Seq2SeqModel.load(tmp_path / "model"), wanted, 4)


def test_a_model_of_the_other_kind_may_take_its_place(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was looked at what kind it is."""
    toys.writer().save(tmp_path / "other")
    place, is_seq2seq, found = tmp_path / "model", task.is_seq2seq, []
    shutil.copytree(two[0], place)

    def and_then_replaced(directory: Path) -> bool:
        found.append(is_seq2seq(directory))
        if len(found) == 1:
            shutil.rmtree(place)
            (tmp_path / "other").rename(place)
        return found[-1]

    monkeypatch.setattr(task, "is_seq2seq", and_then_replaced)
    assert isinstance(task.load_any(place), Seq2SeqModel)
    assert found == [False, True]


@pytest.mark.parametrize("read", [Tokenizer.load, saved_model.read_config])
def test_a_tokenizer_alone_and_a_configuration_alone(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """Between two of its files the directory is replaced."""
    target = shutil.copytree(two[0], tmp_path / "model")
    parse = json_files.parse

    def replaced_first(*arguments: Any) -> Any:
        monkeypatch.setattr(json_files, "parse", parse)
        shutil.rmtree(target)
        shutil.copytree(two[1], target)
        return parse(*arguments)

    monkeypatch.setattr(json_files, "parse", replaced_first)
    found, wanted = read(target), read(two[1])
    if isinstance(found, Tokenizer):
        assert found.files == wanted.files
        found, wanted = found.vocabulary(), wanted.vocabulary()
    assert found == wanted


# What is noticed, and what is said.


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of two files that are one thing."""
    directory = tmp_path / "model"
    (directory / "0_Transformer").mkdir(parents=True)
    (directory / "config.json").write_text("old")
    (directory / "0_Transformer" / "model.safetensors").write_text("old")
    return directory


def read_after(place: Path, *changes: Callable[[], object]) -> Callable[[], tuple[str, str]]:
    """Reads its two files; between them come these changes, one a reading."""
    coming = iter(changes)

    def read() -> tuple[str, str]:
        first = (place / "config.json").read_text()
        next(coming, lambda: None)()
        return first, (place / "0_Transformer" / "model.safetensors").read_text()

    return read


def replace_with(path: Path, text: str) -> None:
    path.with_name("staged").write_text(text)
    os.replace(path.with_name("staged"), path)


def test_a_file_that_was_written_meanwhile_is_read_again(place: Path) -> None:
    for file in (place / "config.json", place / "0_Transformer" / "model.safetensors"):
        for write in (Path.write_text, replace_with):
            file.write_text("old")
            time.sleep(0.02)  # a tick of the clock of files
            before = file.stat()

            def change(write: Any = write, file: Path = file, at: Any = before) -> None:
                write(file, "new")  # of the same size, and then of the same time
                os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))

            found = reading.read_consistently(place, read_after(place, change))
            assert (
                "".join(found)
                == (place / "config.json").read_text()
                + (place / "0_Transformer" / "model.safetensors").read_text()
            )
            assert "new" in found
            file.write_text("old")


def test_links_are_followed(place: Path, tmp_path: Path) -> None:
    """As in the cache of the hub, where a name leads to another blob."""
    for name in ("blob-1", "blob-2"):
        (tmp_path / name).write_text(name)
    link = place / "0_Transformer" / "model.safetensors"
    link.unlink()
    link.symlink_to(tmp_path / "blob-1")
    newer = place / "0_Transformer" / "newer"
    newer.symlink_to(tmp_path / "blob-2")
    read = read_after(place, lambda: os.replace(newer, link))
    seen = []
    found = reading.read_consistently(place, lambda: seen.append(1) or read())
    assert (found, len(seen)) == (("old", "blob-2"), 2)


def test_what_goes_wrong_in_a_disturbed_reading_is_not_told(place: Path) -> None:
    file = place / "0_Transformer" / "model.safetensors"

    def changed() -> None:
        file.unlink()
        raise EncodaxError("config.json and the weights are not of one model")

    def back() -> None:
        file.write_text("new")

    def first() -> None:
        back()
        changed()

    assert reading.read_consistently(place, read_after(place, first, back)) == ("old", "new")
    with pytest.raises(EncodaxError, match="are not of one model"):
        reading.read_consistently(place, fail)  # at rest: it is told, and at once


def fail() -> None:
    raise EncodaxError("the files are not of one model")


def test_what_is_not_of_the_model_may_change(place: Path) -> None:
    """The log of a run grows while its model is loaded."""
    reads = []

    def read() -> None:
        reads.append(1)
        (place / "metrics.jsonl").write_text("line" * len(reads))
        (place / "tensorboard").mkdir(exist_ok=True)
        (place / "tensorboard" / "events.out.1").write_text("event")

    reading.read_consistently(place, read)
    assert len(reads) == 1


def test_a_reading_in_a_reading_is_a_plain_call(place: Path) -> None:
    reads = []

    def inner() -> None:
        reads.append(1)
        if len(reads) == 1:
            replace_with(place / "config.json", "new")

    reading.read_consistently(
        place, lambda: reading.read_consistently(place / "0_Transformer", inner)
    )
    assert len(reads) == 2  # by the outer one alone


def test_what_never_comes_to_rest_is_refused_in_a_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAITS", (0.0, 0.0))
    file = place / "config.json"
    message = refusal(
        lambda: reading.read_consistently(place, lambda: file.write_text(file.read_text() + "x"))
    )
    assert message == (
        f"{place} changed each of the 3 times it was read: wait until nothing writes it"
    )
    (place / outputs.REPLACING).touch()  # by somebody else
    message = refusal(lambda: reading.read_consistently(place, lambda: None))
    assert message.startswith(f"{place / outputs.REPLACING} does not say what is left to replace")
    (place / outputs.REPLACING).unlink()
    reading.read_consistently(place, lambda: None)


def half_replaced(place: Path) -> None:
    """As a writer leaves it that was killed before its last file."""
    stage = place / outputs.unfinished_name()
    (stage / "0_Transformer").mkdir(parents=True)
    (stage / "0_Transformer" / "model.safetensors").write_text("new")
    (place / "config.json").write_text("new")
    journal = {
        "stage": stage.name,
        "put": ["config.json", "0_Transformer/model.safetensors"],
        "remove": [],
    }
    (place / outputs.REPLACING).write_text(json.dumps(journal))


def test_what_a_killed_writer_has_left_is_done_by_who_reads(place: Path) -> None:
    half_replaced(place)
    assert reading.read_consistently(place, read_after(place)) == ("new", "new")
    assert sorted(path.name for path in place.iterdir()) == ["0_Transformer", "config.json"]
    assert list(place.parent.iterdir()) == [place]


def test_what_is_half_replaced_and_may_not_be_written_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAITS", ())
    half_replaced(place)
    with monkeypatch.context() as patch:
        patch.setattr(locks, "may_be_written", lambda folder: False)
        message = refusal(lambda: reading.read_consistently(place, read_after(place)))
    assert message.startswith(
        f"{place} is being replaced, or a process was killed while it replaced it"
    )
    assert message.endswith(f"wait, or run `encodax info {place}` as its owner")
    assert reading.read_consistently(place, read_after(place)) == ("new", "new")


def test_what_a_live_writer_replaces_is_left_to_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAITS", ())
    half_replaced(place)
    (stage,) = place.glob(".encodax.*")
    with locks.flocked(stage):
        message = refusal(lambda: reading.read_consistently(place, read_after(place)))
    assert message.startswith(f"{place} is being replaced by another process")
    assert (stage / "0_Transformer" / "model.safetensors").exists()


def test_nobody_writes_while_it_is_read(place: Path) -> None:
    read, written = threading.Event(), threading.Event()

    def slowly() -> bool:
        read.set()
        return written.wait(0.3)

    def write() -> None:
        read.wait()
        with locks.flocked(place, wait=locks.READ_SECONDS) as is_alone:
            assert is_alone
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert reading.read_consistently(place, slowly) is False  # nothing was written meanwhile
    writer.join()
    assert written.is_set()
