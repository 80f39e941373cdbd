"""A directory is replaced whole or not at all."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from encodax.errors import EncodaxError
from encodax.storage import locks, outputs
from encodax.storage.outputs import (
    check_can_write,
    check_writable,
    finish_replacing,
    write_directory,
)

HEX = "0123456789abcdef" * 2
SIZE = 200_000  # characters a file: long enough for a kill to fall into the writing

# Overwrites a directory without end; both files of a version hold its number.
ENDLESS_WRITER = f"""
import sys
from pathlib import Path
from encodax.storage.outputs import write_directory

def version(number):
    def write(place):
        (place / "a").write_text(str(number) + " " * {SIZE})
        (place / "b").write_text(str(number) + " " * {SIZE})
    return write

target = Path(sys.argv[1])
write_directory(target, version(0), overwrite=True, replaces=("a", "b"))
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_directory(target, version(number), overwrite=True, replaces=("a", "b"))
"""

# Writes more than the limit on the size of a file allows.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from encodax.storage.outputs import write_directory
from encodax.errors import EncodaxError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_directory(Path(sys.argv[1]), lambda p: (p / "a").write_text("new" * 1000), overwrite=True)
except EncodaxError as error:
    print(error)
"""


def one_file(text: str):
    """A writer of one file, `a`."""
    return lambda place: (place / "a").write_text(text)


def test_writes_a_new_directory_with_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "x" / "y"
    write_directory(target, one_file("new"))
    assert [path.name for path in target.iterdir()] == ["a"]
    assert (target / "a").read_text() == "new"


def test_takes_an_empty_directory_for_a_free_place(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    write_directory(target, one_file("new"))
    assert (target / "a").read_text() == "new"


def test_refuses_a_directory_that_holds_something(tmp_path: Path) -> None:
    target = tmp_path / "old"
    write_directory(target, one_file("old"))
    with pytest.raises(EncodaxError, match=r"old exists; .*--overwrite"):
        write_directory(target, one_file("new"))
    assert (target / "a").read_text() == "old"


def test_refuses_a_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("mine")
    with pytest.raises(EncodaxError, match="is a file"):
        check_can_write(target, overwrite=True)


def test_overwrites_and_keeps_the_files_of_others(tmp_path: Path) -> None:
    target = tmp_path / "old"
    write_directory(target, one_file("old"))
    (target / "metrics.jsonl").write_text("mine")
    (target / "notes").mkdir()
    (target / "notes" / "page").write_text("mine too")
    write_directory(target, one_file("new"), overwrite=True)
    assert (target / "a").read_text() == "new"
    assert (target / "metrics.jsonl").read_text() == "mine"
    assert (target / "notes" / "page").read_text() == "mine too"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "old"
    write_directory(target, one_file("old"))

    def fails(place: Path) -> None:
        (place / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(EncodaxError, match="No space left on device; what was there is unchanged"):
        write_directory(target, fails, overwrite=True)
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_clears_what_a_killed_run_left(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write_directory(target, one_file("old"))
    for left in (tmp_path / f".model.{HEX}.partial", target / f".encodax.{HEX}.partial"):
        left.mkdir()
        (left / "half").write_text("half")
    write_directory(target, one_file("new"), overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "model"]


@pytest.mark.parametrize(
    "name", ["model", "m.parquet", "encodax", "n" * 250, "ä" * 120, "\udcff" * 250]
)
def test_what_is_not_finished_is_known_by_what_it_will_be_called(name: str) -> None:
    unfinished = outputs.unfinished_name(name)
    assert len(os.fsencode(unfinished)) < 255
    assert outputs.is_unfinished(unfinished, name)
    assert not outputs.is_unfinished(unfinished, f"{name[:-1]}y")
    assert not outputs.is_unfinished(name, name)


def test_another_writer_keeps_the_folder_in_which_it_works(tmp_path: Path) -> None:
    def writes_while_another_comes(place: Path) -> None:
        (place / "a").write_text("first")
        write_directory(tmp_path / "model", one_file("second"))
        assert (place / "a").read_text() == "first"

    with pytest.raises(EncodaxError, match="model exists; choose another"):
        write_directory(tmp_path / "model", writes_while_another_comes)
    write_directory(tmp_path / "model", one_file("third"), overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "model"]


def test_what_cannot_be_cleared_does_not_keep_the_rest(tmp_path: Path) -> None:
    old, left = (
        tmp_path / f".model.{digit * 32}.{end}" for digit, end in (("0", "old"), ("1", "partial"))
    )
    for folder in (tmp_path / "model", old, left):
        folder.mkdir()
        (folder / "mine").write_text(folder.name)  # in the old one it differs: nobody knows why
    write_directory(tmp_path / "model", one_file("new"), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model", old.name}


@pytest.mark.parametrize("name", [".model.partial", ".model.old", f".other.{HEX}.partial", "x"])
def test_a_folder_with_another_name_is_no_leftover(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    write_directory(tmp_path / "model", one_file("new"))
    assert (tmp_path / name / "mine").read_text() == "mine"


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_whatever_stops_a_writer_goes_on_and_changes_nothing(
    tmp_path: Path, failure: BaseException
) -> None:
    target = tmp_path / "old"
    write_directory(target, one_file("old"))

    def fails(place: Path) -> None:
        (place / "a").write_text("half")
        raise failure

    with pytest.raises(type(failure)):
        write_directory(target, fails, overwrite=True)
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    write_directory(tmp_path / "real", one_file("old"))
    link = tmp_path / "latest"
    link.symlink_to("real")
    for text in ("new", "newer"):
        write_directory(link, one_file(text), overwrite=True)
        assert link.is_symlink()
        assert (tmp_path / "real" / "a").read_text() == text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "real"]


@pytest.mark.parametrize("place", [".", "..", "../here", "../../a"])
def test_refuses_the_directory_that_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    here = tmp_path / "a" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(EncodaxError, match="is the working directory, or holds it; choose"):
        write_directory(Path(place), one_file("new"), overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "here"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_leaves_the_old_whole(tmp_path: Path) -> None:
    target = tmp_path / "old"
    write_directory(target, one_file("old"))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, target], capture_output=True, text=True, check=True
    )
    assert "File too large; what was there is unchanged" in done.stdout
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def kill_while_writing(target: Path, kills: int, seed: int) -> set[str]:
    """Kill a writer at random moments; the versions found whole, one a kill."""
    moments, found = random.Random(seed), set()
    for _ in range(kills):
        command = [sys.executable, "-c", ENDLESS_WRITER, target]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.3))
            os.kill(writer.pid, signal.SIGKILL)
        texts = [(target / name).read_text() for name in ("a", "b")]
        assert [len(text.split()[0]) + SIZE for text in texts] == [len(text) for text in texts]
        assert texts[0] == texts[1], "files of two versions"
        found.add(texts[0].strip())
    write_directory(target, one_file("last"), overwrite=True, replaces=("a", "b"))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return found


def test_a_kill_leaves_the_old_or_the_new_whole(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "model", kills=5, seed=0)


@pytest.mark.soak
def test_two_hundred_kills_leave_the_old_or_the_new_whole(tmp_path: Path) -> None:
    found = kill_while_writing(tmp_path / "model", kills=200, seed=1)
    assert len(found) > 10  # the kills fell at many moments


# What is foreign stays.


@pytest.fixture(params=["exchanged", "in place"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to replace a directory."""
    if request.param == "in place":
        monkeypatch.setattr(outputs, "_exchange", lambda first, second: False)
    return str(request.param)


def traits(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that could be seen to have changed below a folder; no link is followed."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            seen = os.lstat(path)
            content: Any = os.readlink(path) if stat.S_ISLNK(seen.st_mode) else None
            if stat.S_ISREG(seen.st_mode):
                content = (Path(path).read_bytes(), seen.st_ino)
            found[os.path.relpath(path, root)] = (seen.st_mode, seen.st_mtime_ns, content)
    return found


def foreign_tree(target: Path) -> None:
    """Files, folders and links of every kind."""
    (target / "notes").write_text("mine")
    (target / "notes").chmod(0o600)
    (target / "more" / "inner").mkdir(parents=True)
    (target / "more" / "inner" / "page").write_text("mine too")
    (target / "more" / "empty").mkdir(mode=0o750)
    for name, to in {"here": ".", "up": "..", "big": "../big", "nowhere": "gone/x"}.items():
        (target / name).symlink_to(to)
    (target / "more" / "loop").symlink_to("..")
    (target / "more" / "file").symlink_to("../notes")
    os.mkfifo(target / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(target / "more")  # its path may not be long
        server.bind("socket")
        os.chdir(here)
    (target / "more").chmod(0o555)
    for path in ("notes", "more/inner/page", "more/inner", "more"):
        os.utime(target / path, (10**9, 10**9))


def test_what_is_foreign_stays_as_it_is(tmp_path: Path, way: str) -> None:
    big, target = tmp_path / "big", tmp_path / "model"
    big.mkdir()
    (big / "data").write_text("mine")
    write_directory(target, one_file("old"))
    foreign_tree(target)
    before = traits(tmp_path)
    write_directory(target, one_file("new"), overwrite=True)
    after = traits(tmp_path)
    assert (target / "a").read_text() == "new"
    del before["model/a"], after["model/a"], before["model"], after["model"]
    assert before == after


def test_files_of_the_old_model_go_and_what_is_foreign_in_their_folders_stays(
    tmp_path: Path, way: str
) -> None:
    target = tmp_path / "model"

    def old(place: Path) -> None:
        for name in ("1_Pooling/config.json", "2_Dense/config.json", "vocab.txt", "a"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text("old")

    write_directory(target, old)
    (target / "2_Dense" / "mine").write_text("mine")
    (target / "deep").mkdir()
    (target / "deep" / "vocab.txt").write_text("mine")
    write_directory(
        target, one_file("new"), overwrite=True, replaces=["vocab.txt", "[0-9]_*/config.json"]
    )
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    assert names == ["2_Dense", "2_Dense/mine", "a", "deep", "deep/vocab.txt"]


def test_modes_stay(tmp_path: Path, way: str) -> None:
    target = tmp_path / "model"

    def write(place: Path) -> None:
        for name in ("config.json", "a", "fresh"):
            (place / name).write_text("new")
            (place / name).chmod(0o600 if name == "a" else 0o644)

    write_directory(target, write)
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {
        (target / "config.json").stat().st_mode & 0o777
    }
    (target / "config.json").chmod(0o640)
    (target / "a").chmod(0o604)
    (target / "fresh").unlink()
    target.chmod(0o710)
    write_directory(target, write, overwrite=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()}
    assert modes == {"config.json": 0o640, "a": 0o604, "fresh": 0o640}
    assert stat.S_IMODE(target.stat().st_mode) == 0o710


def test_a_link_of_the_name_of_a_file_is_replaced_and_not_followed(
    tmp_path: Path, way: str
) -> None:
    target = tmp_path / "model"
    (tmp_path / "mine").write_text("mine")
    target.mkdir()
    (target / "a").symlink_to("../mine")
    (target / "vocab.txt").symlink_to("../mine")
    write_directory(target, one_file("new"), overwrite=True, replaces=["vocab.txt"])
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (target / "a").is_symlink()
    assert [path.name for path in target.iterdir()] == ["a"]


def test_what_comes_while_it_is_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, exchange = tmp_path / "model", outputs._exchange
    write_directory(target, one_file("old"))
    (target / "notes").write_text("early")

    def exchanged_late(first: Path, second: Path) -> bool:
        (target / "late").mkdir()
        (target / "late" / "mine").write_text("mine")
        (target / "other").write_text("late")
        (target / "other").replace(target / "notes")
        return exchange(first, second)

    monkeypatch.setattr(outputs, "_exchange", exchanged_late)
    write_directory(target, one_file("new"), overwrite=True)
    assert (target / "late" / "mine").read_text() == "mine"
    assert (target / "notes").read_text() == "late"
    assert (target / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_who_is_killed_after_the_exchange_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    write_directory(target, one_file("old"))
    (target / "notes").write_text("mine")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(outputs, "_clear", killed)
        with pytest.raises(Killed):
            write_directory(target, one_file("new"), overwrite=True)
    assert (target / "a").read_text() == "new"
    (left,) = (path for path in tmp_path.iterdir() if path != target)
    (left / "late").write_text("mine, too")
    write_directory(target, one_file("newer"), overwrite=True, replaces=["a"])
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a": "newer",
        "notes": "mine",
        "late": "mine, too",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_in_the_way_is_named_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "model"
    target.mkdir()
    path = target / "config.json"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(EncodaxError, match=r"config\.json is in the way .*; move it away"):
        check_can_write(target, overwrite=True, replaces=["config.json"])
    with pytest.raises(EncodaxError, match=r"config\.json is in the way"):
        write_directory(target, lambda place: (place / "config.json").touch(), overwrite=True)
    assert [path.name for path in target.iterdir()] == ["config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_the_model_is_not_written_through_a_link(tmp_path: Path, way: str) -> None:
    target, other = tmp_path / "model", tmp_path / "other"
    target.mkdir()
    other.mkdir()
    (target / "1_Pooling").symlink_to("../other")

    def write(place: Path) -> None:
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling" / "config.json").touch()

    with pytest.raises(EncodaxError, match="1_Pooling is in the way"):
        write_directory(target, write, overwrite=True)
    with pytest.raises(EncodaxError, match="1_Pooling is in the way"):
        check_can_write(target, overwrite=True, replaces=["[0-9]_Pooling/config.json"])
    assert not list(other.iterdir())


def test_where_there_are_too_many_to_link_it_is_done_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MOST_LINKS", 3)
    target = tmp_path / "model"
    write_directory(target, one_file("old"))
    inode = target.stat().st_ino
    for number in range(5):
        (target / f"file{number}").touch()
    write_directory(target, one_file("new"), overwrite=True)
    assert (target / "a").read_text() == "new"
    assert target.stat().st_ino == inode
    assert len(list(target.iterdir())) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# In place: a kill leaves what the next one finishes.


def three_files(text: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        (place / "1_Pooling").mkdir()
        for name in ("a", "b", "1_Pooling/config.json"):
            (place / name).write_text(text)

    return write


class Killed(BaseException):
    """As if the process had ended."""


@pytest.mark.parametrize("steps", range(12))
def test_who_is_killed_while_it_renames_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    target = tmp_path / "model"
    write_directory(target, three_files("old"))
    (target / "vocab.txt").write_text("old")
    (target / "notes").write_text("mine")
    left = steps

    def counted(name: str) -> None:
        before = getattr(Path, name)

        def call(self: Path, *arguments: Any, **others: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return before(self, *arguments, **others)

        monkeypatch.setattr(Path, name, call)

    with monkeypatch.context() as patched:
        patched.setattr(outputs, "_exchange", lambda first, second: False)
        patched.setattr(outputs, "_discard", lambda folder: None)  # a kill clears nothing
        patched.setattr(locks, "held", lambda *places, wait: nullcontext())
        for name in ("rename", "replace", "unlink"):
            counted(name)
        try:
            write_directory(target, three_files("new"), overwrite=True, replaces=["vocab.txt"])
        except Killed:
            pass
        else:
            assert steps > 7
    monkeypatch.undo()
    if not outputs.is_being_replaced(target):
        texts = {(target / name).read_text() for name in ("a", "b", "1_Pooling/config.json")}
        assert len(texts) == 1
        assert (target / "vocab.txt").exists() == (texts == {"old"})
    finish_replacing(target)
    assert not outputs.is_being_replaced(target)
    texts = {(target / name).read_text() for name in ("a", "b", "1_Pooling/config.json")}
    assert texts == {"new"} if steps > 3 else len(texts) == 1
    write_directory(target, three_files("newer"), overwrite=True, replaces=["vocab.txt"])
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert names == [
        "model", "model/1_Pooling", "model/1_Pooling/config.json", "model/a", "model/b",
        "model/notes",
    ]  # fmt: skip


def test_a_directory_is_not_finished_while_its_writer_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, replace = tmp_path / "model", outputs._replace_files
    write_directory(target, one_file("old"))

    def while_another_comes(place: Path) -> None:
        with pytest.raises(EncodaxError, match="is being replaced by another process"):
            write_directory(target, one_file("other"), overwrite=True)
        replace(place)

    monkeypatch.setattr(outputs, "_exchange", lambda first, second: False)
    monkeypatch.setattr(outputs, "_replace_files", while_another_comes)
    write_directory(target, one_file("new"), overwrite=True)
    assert (target / "a").read_text() == "new"


@pytest.mark.parametrize(
    "journal",
    [
        {"stage": f".encodax.{HEX}.partial", "put": [], "remove": ["../mine"]},
        {"stage": f".encodax.{HEX}.partial", "put": [], "remove": ["/etc/x"]},
        {"stage": "../mine", "put": ["a"], "remove": []},
        {"stage": f".encodax.{HEX}.partial", "put": [], "remove": ["out/mine"]},
        {"stage": 1, "put": [2], "remove": None},
        [],
        "half",
        None,
    ],
)
def test_a_journal_that_names_what_is_outside_is_refused(tmp_path: Path, journal: Any) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (tmp_path / "mine").write_text("mine")
    (target / "out").symlink_to("..")
    if journal is None:
        os.mkfifo(target / outputs.REPLACING)
    else:
        (target / outputs.REPLACING).write_text(json.dumps(journal))
    with pytest.raises(EncodaxError, match=r"remove it, and save|out is in the way"):
        write_directory(target, one_file("new"), overwrite=True)
    assert (tmp_path / "mine").read_text() == "mine"


# Mounts, and directories of others.

IN_A_MOUNT = f"""
set -e
cd "$1"
mkdir volume
mount {{mount}} volume
cd /
{sys.executable} -c '
import sys
from pathlib import Path
from encodax.storage.outputs import check_writable, write_directory

target = Path(sys.argv[1])
for text in ("old", "new"):
    check_writable(target)
    write_directory(target, lambda place: (place / "a").write_text(text), overwrite=True)
    if text == "old":
        (target / "notes").write_text("mine")
names = sorted(path.name for path in target.iterdir())
print((target / "a").read_text(), (target / "notes").read_text(), *names)
' "$1/volume"
"""


def can_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="nothing can be mounted here")
@pytest.mark.parametrize("mount", ["-t tmpfs none", "--bind other"])
def test_a_mount_point_is_replaced_in_place(tmp_path: Path, mount: str) -> None:
    (tmp_path / "other").mkdir()
    script = IN_A_MOUNT.format(mount=mount)
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "new mine a notes\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "volume"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whose rights count: root may do anything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder of root's that anybody can enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        os.chmod(folder, 0o755)


def test_where_the_parent_may_not_be_written_it_is_replaced_in_place(public: Path) -> None:
    target = public / "model"
    target.mkdir()
    (target / "notes").write_text("mine")
    if os.geteuid() == 0:
        os.chown(target, 65534, 65534)
    public.chmod(0o555)
    with as_nobody():
        for text in ("old", "new"):
            check_writable(target)
            write_directory(target, one_file(text), overwrite=True)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a": "new",
        "notes": "mine",
    }


@pytest.mark.parametrize("name", ["model", "model/inner/most"])
def test_what_may_not_be_written_is_refused(public: Path, name: str) -> None:
    (public / "model").mkdir(mode=0o555)
    public.chmod(0o555)
    with as_nobody(), pytest.raises(EncodaxError) as caught:
        check_writable(public / name)
    told = f"{public / name} cannot be written: Permission denied; choose another place"
    assert str(caught.value) == told


# Single files.


def test_a_file_is_written_whole_with_the_mode_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(ValueError, match="a bug"), outputs.open_file(path) as stream:
        stream.write("half")
        raise ValueError("a bug")
    assert path.read_text() == "old"
    with outputs.open_file(path) as stream:
        stream.write("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_file_is_not_written_through_a_link_nor_into_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run.json").symlink_to("mine")
    with outputs.open_file(tmp_path / "run.json", binary=True) as stream:
        stream.write(b"new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "run.json").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="move it away"), outputs.open_file(tmp_path / "pipe"):
        pass
