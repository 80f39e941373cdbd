"""A run tells what it does: plain lines for a log, a live display for a person."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from toys import snapshot

from encodax.errors import EncodaxError
from encodax.model_files.run_files import METRICS_FILE, RUN_FILE, RunFacts, read_facts
from encodax.training.loop import progress
from encodax.training.loop.progress import RunLog

STEP = {"loss": 0.5, "learning_rate": 0.1, "tokens_per_second": 1234.0, "padding": 0.25}


def told(console: Console | None, directory: Path | None = None, steps: int = 4) -> list[Any]:
    with RunLog(directory, steps, console=console) as log:
        log.step(1, STEP)
        log.step(2, STEP)
        log.evaluation(2, {"f1": 0.75}, is_best=True)
        log.step(3, STEP)
        log.evaluation(3, {"f1": 0.5}, is_best=False)
        log.note("done [early]")
    return log.curve


def without_time(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "seconds"}


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)


@pytest.mark.usefixtures("every_step")
def test_a_log_has_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=40)
    told(console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 5  # the first step compiles: it has no speed to tell of
    assert lines[0].startswith("step 2/4  loss 0.5000  1,234 tokens/s  padding 25.0%  ")
    assert lines[0].endswith(" s left")
    assert lines[1] == "step 2/4  f1 0.7500  (best, saved)"
    assert lines[3] == "step 3/4  f1 0.5000"
    assert lines[4] == "done [early]"
    assert "\x1b" not in "".join(lines)


def test_a_log_has_a_line_for_a_few_seconds() -> None:
    console = Console(file=io.StringIO())
    told(console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split("  ")[1] for line in lines[:2]] == ["f1 0.7500", "f1 0.5000"]


def test_a_terminal_has_a_live_display(every_step: None) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    told(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[" in shown
    assert "━" in shown
    for piece in ("step 3/4", "loss 0.5000", "1,234 tokens/s", "padding 25.0%", "f1 0.7500"):
        assert piece in shown
    assert " s left" not in shown


def test_no_console_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    told(None)
    assert capfd.readouterr() == ("", "")


def test_the_curve_is_kept_and_written(tmp_path: Path) -> None:
    curve = told(None, tmp_path)
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == curve
    assert [without_time(entry) for entry in curve] == [
        {"step": 1, **STEP},
        {"step": 2, **STEP},
        {"step": 2, "eval_f1": 0.75},
        {"step": 3, **STEP},
        {"step": 3, "eval_f1": 0.5},
    ]


def test_the_curve_can_be_read_as_it_grows(tmp_path: Path) -> None:
    with RunLog(tmp_path, 4) as log:
        log.step(1, STEP)
        assert json.loads((tmp_path / METRICS_FILE).read_text()) == log.curve[0]


def test_the_time_of_a_run_goes_on_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = iter([100.0, 107.5, 500.0, 502.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for done in (0, 1):
        now = next(times)
        with RunLog(tmp_path, 2, done) as log:
            now = next(times)
            log.step(done + 1, STEP)
    assert [entry["seconds"] for entry in log.curve] == [7.5, 9.5]


def test_what_the_run_is_stands_beside_the_curve(tmp_path: Path) -> None:
    about = RunFacts("classification", "f1", True, 4, {"seed": 1}, {}, {}, {}, {})
    (tmp_path / "config.json").write_text("older\n")
    with RunLog(tmp_path, 4, about=about) as log:
        log.step(1, STEP)
        assert not (tmp_path / RUN_FILE).exists()
        log.evaluation(1, {"f1": 0.5}, is_best=True)
    assert read_facts(tmp_path / RUN_FILE) == about


def test_the_share_of_the_peak_is_told_where_it_is_known(every_step: None) -> None:
    console = Console(file=io.StringIO())
    with RunLog(None, 3, console=console) as log:
        for step in (1, 2):
            log.step(step, {**STEP, "share_of_peak": 0.414})
    assert "  padding 25.0%  41% of peak  " in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("older", [METRICS_FILE, "config.json"])
def test_what_is_older_stays_until_the_first_evaluation(tmp_path: Path, older: str) -> None:
    (tmp_path / older).write_text("older\n")
    file = tmp_path / METRICS_FILE
    with RunLog(tmp_path, 4) as log:
        log.step(1, STEP)
        assert snapshot(tmp_path) == {older: b"older\n"}
        log.evaluation(1, {"f1": 0.5}, is_best=True)
        log.step(2, STEP)
    assert [json.loads(line) for line in file.read_text().splitlines()] == log.curve
    assert len(log.curve) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with RunLog(tmp_path, 4) as log:
        log.step(1, STEP)
        (tmp_path / METRICS_FILE).unlink()
        (tmp_path / METRICS_FILE).symlink_to("/dev/full")
        with pytest.raises(EncodaxError, match=r"metrics\.jsonl cannot be"):
            log.evaluation(1, {"f1": 0.5}, is_best=True)
