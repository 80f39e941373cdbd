"""A directory is replaced whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from encodax.atomic import check_free, write_directory
from encodax.errors import EncodaxError

SIZE = 200_000  # characters a file: long enough for a kill to fall into the writing

# Overwrites a directory without end; both files of a version hold its number.
ENDLESS_WRITER = f"""
import sys
from pathlib import Path
from encodax.atomic import write_directory

def version(number):
    def write(place):
        (place / "a").write_text(str(number) + " " * {SIZE})
        (place / "b").write_text(str(number) + " " * {SIZE})
    return write

target = Path(sys.argv[1])
write_directory(target, version(0), overwrite=True)
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_directory(target, version(number), overwrite=True)
"""

# Writes more than the limit on the size of a file allows.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from encodax.atomic import write_directory
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
        check_free(target, overwrite=True)


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
    left = tmp_path / ".model.partial"
    left.mkdir()
    (left / "half").write_text("half")
    write_directory(tmp_path / "model", one_file("new"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "model"]


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
    with pytest.raises(EncodaxError, match="is where this runs; choose another place"):
        write_directory(Path(place), one_file("new"), overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "here"]


def test_two_steps_do_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.atomic._exchange", lambda first, second: False)
    target = tmp_path / "old"
    write_directory(target, one_file("old"))
    (target / "notes").write_text("mine")
    write_directory(target, one_file("new"), overwrite=True)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a": "new",
        "notes": "mine",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


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
            time.sleep(moments.uniform(0, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
        texts = [(target / name).read_text() for name in ("a", "b")]
        assert [len(text.split()[0]) + SIZE for text in texts] == [len(text) for text in texts]
        assert texts[0] == texts[1], "files of two versions"
        found.add(texts[0].strip())
    return found


def test_a_kill_leaves_the_old_or_the_new_whole(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "model", kills=5, seed=0)


@pytest.mark.soak
def test_two_hundred_kills_leave_the_old_or_the_new_whole(tmp_path: Path) -> None:
    found = kill_while_writing(tmp_path / "model", kills=200, seed=1)
    assert len(found) > 10  # the kills fell at many moments
