"""A run that goes on is the run that never stopped, to the bit; what stops it costs little."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs
import pytest
from toys import write_lines

from encodax.tasks import TASKS

STEPS, HALF = 12, 6


@dataclass(frozen=True)
class Halves:
    """Where a run of all steps wrote, and one that was stopped half way and taken up."""

    straight: Path
    resumed: Path


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Halves]:
    """Both, for every task: the straight runs in one process, the second halves in another."""
    folder = tmp_path_factory.mktemp("halves")
    found = {name: Halves(folder / name / "a", folder / name / "b") for name in TASKS}
    common = {"steps": STEPS, "save_every": HALF, "evaluate_every": STEPS}
    straight = [{"task": name, "out": str(own.straight), **common} for name, own in found.items()]
    resumed = [
        {"task": name, "out": str(own.resumed), "resume": True, **common}
        for name, own in found.items()
    ]
    jobs.done(jobs.start(straight))
    for own in found.values():
        shutil.copytree(own.straight, own.resumed)
        half = own.resumed.with_name("b.checkpoints")
        shutil.copytree(own.straight.with_name("a.checkpoints"), half)
        shutil.rmtree(half / str(STEPS))
        shutil.rmtree(own.resumed)
    jobs.done(jobs.start(resumed))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_half_a_run_and_the_other_half_are_a_run(task: str, halves: dict[str, Halves]) -> None:
    own = halves[task]
    ends = [place.with_name(f"{place.name}.checkpoints") for place in (own.straight, own.resumed)]
    first, second = (jobs.digest(place / str(STEPS)) for place in ends)
    assert first == second
    assert first != jobs.digest(ends[0] / str(HALF))


@pytest.mark.parametrize("task", TASKS)
def test_the_learning_curve_goes_on(task: str, halves: dict[str, Halves]) -> None:
    def curve(out: Path) -> list[dict[str, Any]]:
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if "loss" in entry]

    straight, resumed = curve(halves[task].straight), curve(halves[task].resumed)
    assert [entry["step"] for entry in straight] == list(range(1, STEPS + 1))
    late = [entry["loss"] for entry in straight[HALF:]]
    assert [entry["loss"] for entry in resumed] == late


LONG = {"task": "classification", "steps": 5_000, "evaluate_every": 5_000}


def steps_in(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    """The command line, as a scheduler would end it."""
    data, out = tmp_path / "data.jsonl", tmp_path / "model"
    write_lines(data, jobs.RECORDS["classification"])
    checkpoints = tmp_path / "model.checkpoints"
    files = ["--train", data, "--eval", data, "--out", out]
    steps = ["--steps", "5000", "--evaluate-every", "5000", "--save-every", "5"]
    shape = ["--layers", "1", "--width", "16", "--heads", "2"]
    command = [sys.executable, "-m", "encodax", "train", "classification"]
    process = subprocess.Popen(
        [*map(str, [*command, *files, *steps, *shape])],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    jobs.wait_for(lambda: bool(steps_in(checkpoints)), process, 120)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    newest = steps_in(checkpoints)[-1]
    last = errors.strip().splitlines()[-1]
    assert last == (
        f"error: stopped by SIGTERM after step {newest} of 5000; {checkpoints}/{newest} is saved: "
        "continue with --resume"
    )


def kill_and_go_on(folder: Path, kills: int, seed: int) -> None:
    """Kill a run at random moments and take it up, until it ends; count what it has seen."""
    moments = random.Random(seed)
    steps, every = 60 + 20 * kills, 4
    seen, out = folder / "seen.jsonl", folder / "model"
    checkpoints = folder / "model.checkpoints"
    job = {**LONG, "steps": steps, "evaluate_every": steps, "out": str(out), "save_every": every,
           "batch_tokens": 256, "seen": str(seen)}  # fmt: skip
    straight = {**job, "out": str(folder / "whole" / "model"), "seen": None, "save_every": steps}
    jobs.done(jobs.start(straight))
    trained: list[tuple[int, list[int]]] = []
    for number in range(kills + 1):
        saved = steps_in(checkpoints)
        seen.unlink(missing_ok=True)
        process = jobs.start({**job, "resume": bool(saved), "overwrite": not saved})
        if number < kills:
            jobs.wait_for(lambda: seen.exists(), process, 120)
            if number % 2:  # so that it gets on, however slow the machine is
                jobs.wait_for(lambda saved=saved: steps_in(checkpoints) != saved, process, 120)
            time.sleep(moments.uniform(0, 0.6))
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        else:
            assert jobs.done(process)["best"] == steps
        text = seen.read_text()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        begin = lines[0][0]
        assert begin == (saved[-1] if saved else 0), "the run did not go on from a whole checkpoint"
        # Done again are an interval, and the steps that ran while it was being saved: the next save
        # would have waited.
        assert not trained or trained[-1][0] + 1 - begin <= 2 * every
        trained = [line for line in trained if line[0] < begin] + lines
    assert [step for step, _ in trained] == list(range(steps))
    assert_each_once_an_epoch([examples for _, examples in trained])
    whole = folder / "whole" / "model.checkpoints" / str(steps)
    assert jobs.digest(checkpoints / str(steps)) == jobs.digest(whole)


def assert_each_once_an_epoch(batches: list[list[int]]) -> None:
    """No example is seen twice before all are seen once."""
    every = set(range(len(jobs.RECORDS["classification"])))
    epoch: Counter[int] = Counter()
    for batch in batches:
        epoch.update(batch)
        assert max(epoch.values()) == 1
        if epoch.keys() == every:
            epoch.clear()


def test_kills_lose_an_interval_at_most(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, kills=5, seed=0)


@pytest.mark.soak
def test_two_hundred_kills_lose_an_interval_at_most(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, kills=200, seed=1)
