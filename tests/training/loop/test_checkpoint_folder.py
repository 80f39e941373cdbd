"""What is foreign in a folder of checkpoints is never lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from directories import refusal
from toys import QUICK, SENTIMENT, SHAPE, snapshot

import encodax
from encodax.training.loop import checkpoint_folder
from encodax.training.loop.checkpoint_folder import MANIFEST, check, clear, own

ARRAYS = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run, beside its model."""
    out = tmp_path_factory.mktemp("run") / "model"
    run(out, steps=4, save_every=2)
    return out.with_name("model.checkpoints")


def run(out: Path, **choices: object) -> encodax.training.TrainResult:
    steps = {"steps": 2, **SHAPE, **QUICK, **choices}
    return encodax.train("classification", train=SENTIMENT, eval=SENTIMENT, out=out, **steps)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "model.checkpoints")


def test_checkpoints_of_a_run_are_its_own_and_go(folder: Path) -> None:
    check(folder)
    assert [path.name for path in own(folder)] == ["2", "4"]
    clear(folder)
    assert [path.name for path in folder.iterdir()] == [MANIFEST]


def test_an_older_folder_without_a_mark_is_known_by_its_files(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    check(folder)
    clear(folder)
    assert not list(folder.iterdir())


def spoilers() -> dict[str, Callable[[Path], object]]:
    def file(name: str) -> Callable[[Path], object]:
        def make(folder: Path) -> Path:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
            return path

        return make

    def empty(name: str) -> Callable[[Path], object]:
        def make(folder: Path) -> Path:
            (folder / name).mkdir()
            return folder / name

        return make

    def link(name: str, to: str) -> Callable[[Path], object]:
        def make(folder: Path) -> Path:
            (folder / name).symlink_to(to)
            return folder / name

        return make

    def whole(folder: Path) -> Path:
        """As another program keeps them with Orbax."""
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder / "4" / "record")
        return folder / "4"

    return {
        "a file": file("notes.txt"),
        "a folder": file("data/train.jsonl"),
        "a file of a number": file("7"),
        "a folder of a number": file("7/photo.jpg"),
        "a file in a checkpoint": file("4/notes.txt"),
        "deep in a checkpoint": file("4/state/d/notes"),
        "a folder in a checkpoint": empty("4/mine"),
        "a link of a number": link("7", "4"),
        "a link in a checkpoint": link(f"4/state/d/{ARRAYS}", "/etc/hostname"),
        "a dangling link": link("latest", "gone"),
        "what Orbax takes for unfinished": file("mine.orbax-checkpoint-tmp/data"),
        "what looks unfinished": file("7.orbax-checkpoint-tmp/data"),
        "checkpoints of another program": whole,
    }


@pytest.mark.parametrize("kind", spoilers())
def test_what_is_foreign_is_named_and_all_stays(folder: Path, kind: str) -> None:
    spoilers()[kind](folder)
    before = snapshot(folder)
    for call in (lambda: check(folder), lambda: clear(folder)):
        message = refusal(call)
        assert str(folder) in message
        assert "was not written by Encodax, and could be lost: choose another folder" in message
        assert "--checkpoints" in message
    assert snapshot(folder) == before


@pytest.mark.parametrize("kind", spoilers())
def test_a_run_that_goes_on_is_refused_where_orbax_could_remove_it(folder: Path, kind: str) -> None:
    path = spoilers()[kind](folder)
    stays = ("a file", "a folder", "a dangling link")
    if kind in stays:
        check(folder, goes_on=True)
    else:
        assert isinstance(path, Path)
        assert "was not written by Encodax" in refusal(lambda: check(folder, goes_on=True))


@pytest.mark.parametrize(
    "name",
    [
        "record.orbax-checkpoint-tmp/metadata",
        "state.orbax-checkpoint-tmp/_METADATA",
        "state.orbax-checkpoint-tmp/_sharding.__lock",
        "state.orbax-checkpoint-tmp/array_metadatas/process_0",
        "state.orbax-checkpoint-tmp/manifest.ocdbt.__lock",
        "state.orbax-checkpoint-tmp/ocdbt.process_0/manifest.ocdbt.__lock",
        f"state.orbax-checkpoint-tmp/ocdbt.process_0/d/{ARRAYS}",
    ],
)
def test_what_a_killed_save_leaves_is_no_strangers(folder: Path, name: str) -> None:
    left = folder / "8.orbax-checkpoint-tmp" / name
    left.parent.mkdir(parents=True)
    left.touch()
    check(folder, goes_on=True)
    clear(folder)


@pytest.mark.parametrize("name", ["7", "7/state", "7/state/d", "7/record"])
def test_what_a_killed_removal_leaves_is_no_strangers(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    for goes_on in (False, True):
        check(folder, goes_on=goes_on)
    clear(folder)
    assert not (folder / "7").exists()
    assert [path.name for path in folder.iterdir()] == [MANIFEST]


def test_a_users_own_folder_is_foreign_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model.checkpoints"
    folder.mkdir()
    (folder / "photo.jpg").write_text("mine")
    message = refusal(lambda: run(tmp_path / "model", overwrite=True))
    assert f"{folder / 'photo.jpg'} was not written by Encodax" in message
    assert [path.name for path in tmp_path.iterdir()] == ["model.checkpoints"]


def test_a_mark_that_is_a_users_is_foreign(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"mine": 1}')
    for goes_on in (True, False):
        message = refusal(lambda goes_on=goes_on: check(folder, goes_on=goes_on))
        assert str(folder / MANIFEST) in message


def test_checkpoints_behind_a_link_go_and_are_not_averaged(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose checkpoints are a link to those of another, longer one."""
    real = shutil.copytree(trained, tmp_path / "elsewhere")
    (tmp_path / "model.checkpoints").symlink_to(real)
    result = run(tmp_path / "model", overwrite=True, save_every=1, average=2)
    assert result.steps == 2
    assert (tmp_path / "model.checkpoints").is_symlink()
    assert [path.name for path in own(real)] == ["1", "2"]

    monkeypatch.setattr(checkpoint_folder, "clear", lambda folder: None)
    monkeypatch.setattr(checkpoint_folder.outputs, "check_can_write", lambda *_, **__: None)
    message = refusal(lambda: run(tmp_path / "other", checkpoints=trained, average=2, seed=1))
    assert "--seed was 0 and is 1" in message


def test_a_checkpoint_that_cannot_be_removed_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: object, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", fails)
    message = refusal(lambda: clear(folder))
    assert message.startswith(f"{folder / '2'} cannot be removed: Permission denied; choose")
