"""One writer at a time: a second is refused in one line, and a dead owner's lock is taken over."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from encodax.errors import EncodaxError
from encodax.storage import locks

# Holds the lock of a directory until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from encodax.storage import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-W", "error", "-c", HOLDER, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    link = tmp_path / "link"
    link.symlink_to(place)
    with holder(place) as other:
        with (
            pytest.raises(locks.DirectoryInUse, match=rf"{place} .* process {other.pid} on .*"),
            locks.held(link),
        ):
            pass
        assert other.poll() is None
        assert locks.lock_of(place).exists()
    with locks.held(place):  # it has ended
        pass
    assert set(tmp_path.iterdir()) == {place, link}


def test_the_lock_of_an_owner_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with holder(place) as other:
        other.kill()
        other.wait()
        assert locks.lock_of(place).exists()
        with locks.held(place):
            pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_taking_a_lock_over_goes(tmp_path: Path) -> None:
    place = tmp_path / "out [1]"
    lock = locks.lock_of(place)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [
        lock.with_name(f"{lock.name}.{kind}.{process}.{'7e23' * 8}")
        for process in (gone.pid, 1)
        for kind in ("break", "restore")
    ]
    for path in left:
        path.touch()
    with locks.held(place):
        assert [path.exists() for path in left] == [False] * 2 + [True] * 2


def test_what_cannot_go_keeps_nobody_from_a_lock(tmp_path: Path) -> None:
    lock = locks.lock_of(tmp_path / "out")
    left = lock.with_name(f"{lock.name}.break.{2**30}.{'7e23' * 8}")  # no number of a process
    left.mkdir()
    with locks.held(tmp_path / "out"):
        assert left.exists()


def test_a_lock_that_nobody_came_to_sign_is_taken_over(tmp_path: Path) -> None:
    """Its owner was killed after it had made the file, and before it wrote its name."""
    lock = locks.lock_of(tmp_path / "out")
    lock.touch()
    os.utime(lock, (0, 0))
    with locks.held(tmp_path / "out"):
        assert lock.read_text()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_cannot_be_seen_is_dead_after_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.2)
    place = tmp_path / "out"
    with locks.held(place):
        mine = locks.lock_of(place).read_text()
    lines = [f"host={'elsewhere'}" if line[:5] == "host=" else line for line in mine.splitlines()]
    locks.lock_of(place).write_text("\n".join([*lines, ""]))
    with locks.held(place):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_owner_takes_its_lock_again_and_its_threads_do_not(tmp_path: Path) -> None:
    place = tmp_path / "out"
    refused: list[BaseException] = []

    def other() -> None:
        try:
            with locks.held(place):
                pass
        except locks.DirectoryInUse as error:
            refused.append(error)

    with locks.held(place, tmp_path / "checkpoints"):
        with locks.held(place):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert locks.lock_of(place).exists()
    assert len(refused) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_save_waits_for_another(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with holder(place) as other:
        assert other.stdin is not None
        threading.Timer(0.5, other.stdin.close).start()
        with locks.held(place, wait=locks.SAVE_SECONDS):
            assert other.wait(timeout=60) == 0


def test_where_no_lock_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EncodaxError, match="cannot be written"), locks.held(tmp_path / "file/out"):
        pass


def test_a_place_with_neighbours_of_its_own_has_the_lock_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "out"
    place.mkdir()
    assert locks.lock_of(place).parent == tmp_path
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: Path(path) == place)
        assert locks.lock_of(place).parent == place
    monkeypatch.setattr(locks, "may_be_written", lambda path: Path(path) != tmp_path)
    assert locks.lock_of(place).parent == place


# The kernel's lock on a folder.


def test_a_folder_has_one_owner_or_several_that_share(tmp_path: Path) -> None:
    with (
        locks.flocked(tmp_path, shared=True) as first,
        locks.flocked(tmp_path, shared=True) as second,
        locks.flocked(tmp_path, wait=0.05) as alone,
    ):
        assert (first, second, alone) == (True, True, False)
    with locks.flocked(tmp_path) as alone, locks.flocked(tmp_path, shared=True) as shared:
        assert (alone, shared) == (True, False)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(locks.flocked(tmp_path, shared=True))
        threading.Timer(0.1, stack.pop_all().close).start()
        with locks.flocked(tmp_path, wait=60.0) as alone:
            assert alone is True


def test_a_folder_that_goes_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "folder"
    with locks.flocked(place) as gone:
        assert gone is False
    place.mkdir()
    flock = fcntl.flock

    def replaced_first(*arguments: int) -> None:
        place.rename(tmp_path / "other")
        place.mkdir()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    with locks.flocked(place) as another:
        assert another is False


def test_where_nobody_can_tell_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", fails)
    with locks.flocked(tmp_path) as unknown:
        assert unknown is None
    monkeypatch.setattr(locks, "fcntl", None)
    with locks.flocked(tmp_path) as unknown:
        assert unknown is None
