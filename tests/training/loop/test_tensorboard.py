"""Event files say what `metrics.jsonl` says, to TensorBoard."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from toys import QUICK, SENTIMENT, SHAPE

import encodax
from encodax.model_files.run_files import METRICS_FILE, read_curve
from encodax.training.loop.progress import RunLog
from encodax.training.loop.tensorboard import EVENTS_FOLDER, Events

STEP = {"loss": 0.5, "tokens_per_second": 1234.0, "padding": 0.25}
START = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}, {"step": 2, "eval_f1": 0.75}]


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, bit by bit (RFC 3720, appendix B.4), masked as the format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(file: Path) -> Iterator[Any]:
    """The events of a file, whose checksums are right."""
    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        body = content[12 : 12 + length]
        checksums = content[8:12] + content[12 + length : 16 + length]
        assert struct.unpack("<II", checksums) == (crc32c(content[:8]), crc32c(body))
        content = content[16 + length :]
        yield Event.FromString(body)


def files(directory: Path) -> list[Path]:
    return sorted((directory / EVENTS_FOLDER).iterdir())


def drawn(directory: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: by tag, the value at each step."""
    shown: dict[str, dict[int, float]] = {}
    for file in files(directory):
        for event in events(file):
            if event.session_log.status == SessionLog.START:
                shown = {
                    tag: {step: value for step, value in values.items() if step < event.step}
                    for tag, values in shown.items()
                }
            for value in event.summary.value:
                assert event.step not in shown.setdefault(value.tag, {})  # nothing twice
                shown[value.tag][event.step] = value.simple_value
    return shown


def expected(curve: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for entry in curve:
        for name, value in entry.items():
            if name not in ("step", "seconds"):
                tag = f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}"
                found.setdefault(tag, {})[entry["step"]] = pytest.approx(value, rel=1e-6)
    return found


def test_the_events_of_a_run_are_its_curve(tmp_path: Path) -> None:
    out = tmp_path / "model"
    encodax.train(
        "classification", train=SENTIMENT, eval=SENTIMENT, out=out, steps=12, **SHAPE, **QUICK
    )
    assert len(files(out)) == 1  # every new best model has put another directory in its place
    assert drawn(out) == expected(read_curve(out / METRICS_FILE))
    assert {"train/loss", "train/gradient_norm", "eval/accuracy"} < drawn(out).keys()


def test_a_file_begins_with_its_version(tmp_path: Path) -> None:
    Events(tmp_path).write(START)
    (file,) = files(tmp_path)
    assert file.name.startswith("events.out.tfevents.")
    assert next(events(file)).file_version == "brain.Event:2"


def test_a_run_that_goes_on_draws_nothing_twice(tmp_path: Path) -> None:
    with RunLog(tmp_path, 4) as log:
        for step in (1, 2, 3):
            log.step(step, STEP)
    with RunLog(tmp_path, 4, done=2) as log:
        for step in (3, 4):
            log.step(step, {**STEP, "loss": 0.125})
    assert drawn(tmp_path) == expected(log.curve)
    assert drawn(tmp_path)["train/loss"] == {1: 0.5, 2: 0.5, 3: 0.125, 4: 0.125}


def test_the_mean_of_checkpoints_is_logged_once_and_not_drawn(tmp_path: Path) -> None:
    for count, done in ((2, 0), (3, 1)):  # and again, when the run goes on
        with RunLog(tmp_path, 1, done) as log:
            if not done:
                log.step(1, STEP)
                log.evaluation(1, {"f1": 0.5}, is_best=True)
            log.average(1, count, {"f1": 0.75})
        *before, mean = read_curve(tmp_path / METRICS_FILE)
        assert mean == {"step": 1, "average": count, "eval_f1": 0.75}
        assert drawn(tmp_path) == expected(before)
        assert [entry.get("eval_f1") for entry in before] == [None, 0.5]


def test_a_new_run_draws_alone_once_it_has_a_model(tmp_path: Path) -> None:
    Events(tmp_path).write(START)
    before = drawn(tmp_path)
    with RunLog(tmp_path, 2) as log:
        log.step(1, STEP)
        assert drawn(tmp_path) == before
        log.evaluation(1, {"f1": 0.5}, is_best=True)
    assert drawn(tmp_path) == expected(log.curve)


def test_a_new_run_removes_what_encodax_drew_and_nothing_else(tmp_path: Path) -> None:
    Events(tmp_path).write(START)
    (own,) = files(tmp_path)
    folder = tmp_path / EVENTS_FOLDER
    others = (
        "events.out.tfevents.1700000000.host", "notes.txt", "other/events.out.tfevents.1.host",
        "events.out.tfevents.170000000.host.encodax",
    )  # fmt: skip
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    link = folder / "events.out.tfevents.1700000000.host.encodax"
    link.symlink_to("notes.txt")
    own = own.rename(own.with_name("events.out.tfevents.1600000000.host.encodax"))
    Events(tmp_path).write(START)
    assert not own.exists()
    assert link.is_symlink()
    assert {(folder / name).read_text() for name in others} == {"mine"}
    assert len(list(folder.iterdir())) == len(others) + 2


def test_a_folder_that_is_a_link_is_drawn_into_and_loses_nothing(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "events.out.tfevents.1600000000.host.encodax").write_text("of another run")
    (tmp_path / EVENTS_FOLDER).symlink_to("shared")
    Events(tmp_path).write(START)
    assert len(list(shared.iterdir())) == 2


def test_without_tensorboardx_there_are_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    with RunLog(tmp_path, 2) as log:
        log.step(1, STEP)
    assert [path.name for path in tmp_path.iterdir()] == [METRICS_FILE]


def test_a_copied_file_goes_on(tmp_path: Path) -> None:
    written = Events(tmp_path)
    written.write(START[:1])
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)  # a file system without links
    written.write(START[1:])
    assert drawn(tmp_path) == expected(START)


def test_tensorboardx_is_imported_without_a_word() -> None:
    code = "from tensorboardX.proto import event_pb2; import tensorboardX.record_writer"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
