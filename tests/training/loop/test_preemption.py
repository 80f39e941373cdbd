"""A signal at any moment: the run is saved and ends, and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jobs
import pytest
from toys import write_lines

import encodax
from encodax.inference.engine import Engine
from encodax.inference.evaluation import BatchEvaluator, evaluator
from encodax.tasks import TASKS
from encodax.tasks.dataset import Dataset
from encodax.training import Stopped
from encodax.training.loop.checkpoint import Checkpoints, steps_on_disk
from encodax.training.loop.preemption import Interruption, StopRequested
from encodax.training.loop.saver import Saver
from encodax.training.setup import prepare
from encodax.training.setup.run import Run

STEPS, EVERY, SAVED = 12, 3, 2
"""Evaluations and saves are at the same step, and not, and the last step is both."""
CHOICES = {
    **jobs.choices_of("classification"),
    "steps": STEPS, "evaluate_every": EVERY, "save_every": SAVED, "average": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """A shell's background job ignores SIGINT; and handlers are there again after a run."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    for number, handler in before.items():
        signal.signal(number, handler)


Moment = tuple[Any, str, int, signal.Signals]
"""The call of a method, counted from 1, before which a signal comes; and which signal."""
MOMENTS: list[tuple[Moment, str]] = [
    ((Run, "compiled", 1, signal.SIGTERM), "after step 0 of 12; nothing is saved yet"),
    ((Run, "on_devices", 2, signal.SIGTERM), "after step 1 of 12; .*/1 is saved"),
    ((Checkpoints, "save", 1, signal.SIGINT), "stopped by SIGINT after step 3 of 12; .*/3 is"),
    ((prepare.TrainingSetup, "save", 1, signal.SIGTERM), "after step 4 of 12; .*/4 is saved"),
    ((Engine, "dispatch", 1, signal.SIGINT), "after step 6 of 12; .*/6 is saved"),
    ((Checkpoints, "finish", 1, signal.SIGTERM), "after step 12 of 12; .*/12 is saved"),
    ((Saver, "mean", 1, signal.SIGTERM), "after step 12 of 12; .*/12 is saved"),
]
"""In the order of a run, which each of them stops; it goes on until the next."""


def at(moment: Moment, patch: pytest.MonkeyPatch) -> None:
    owner, name, number, kind = moment
    before, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), kind)
        return before(*arguments, **named)

    patch.setattr(owner, name, counted)


def told(out: Path) -> list[dict[str, Any]]:
    """A learning curve without what depends on the machine."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "tokens_per_second", "waiting", "share_of_peak")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def test_a_run_goes_on_from_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = encodax.train("classification", out=tmp_path / "a", **CHOICES)
    out, saved = tmp_path / "b", tmp_path / "b.checkpoints"
    for moment, message in MOMENTS:
        has_begun = saved.is_dir() and any(saved.iterdir())
        with monkeypatch.context() as patch:
            at(moment, patch)
            with pytest.raises(Stopped, match=message) as stopped:
                encodax.train(
                    "classification", out=out, resume=has_begun, overwrite=True, **CHOICES
                )
        assert stopped.value.signal == moment[-1]
        assert 128 + moment[-1] == stopped.value.EXIT_CODE
    resumed = encodax.train("classification", out=out, resume=True, **CHOICES)
    last = f"{STEPS}"
    assert jobs.digest(saved / last) == jobs.digest(tmp_path / "a.checkpoints" / last)
    assert (resumed.metrics, resumed.best_step) == (straight.metrics, straight.best_step)
    assert told(out) == told(tmp_path / "a")
    weights = [(place / "model.safetensors").read_bytes() for place in (tmp_path / "a", out)]
    assert weights[0] == weights[1]
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_of_what_an_overwritten_run_logged_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until there is a new model, the old one's files stay as they are."""
    choices = {**CHOICES, "average": None, "steps": 4, "evaluate_every": 4}
    encodax.train("classification", out=tmp_path / "a", **{**choices, "seed": 1})
    for name in ("", ".checkpoints"):
        shutil.copytree(tmp_path / f"a{name}", tmp_path / f"b{name}")
    encodax.train("classification", out=tmp_path / "a", overwrite=True, **choices)
    out = tmp_path / "b"
    before = (out / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        at((Run, "on_devices", 4, signal.SIGTERM), patch)
        with pytest.raises(Stopped):
            encodax.train("classification", out=out, overwrite=True, **choices)
    assert (out / "metrics.jsonl").read_bytes() == before
    encodax.train("classification", out=out, resume=True, **choices)
    assert told(out) == told(tmp_path / "a")


def prepared(task: str) -> prepare.TrainingSetup:
    choices = jobs.choices_of(task)
    if task == "distillation":
        choices["teacher"] = prepared("classification").model
    return prepare.prepare(task, **{**choices, "eval": jobs.RECORDS[task]})


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_stops_between_batches(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever task it is of: no batch begins after the signal."""
    own = prepared(task)
    measure = evaluator(own.model, own.eval, own.loss_options, own.teacher, batch_tokens=64)
    batches = []
    by_sums = isinstance(measure, BatchEvaluator)
    owner, name = (Dataset, "batch") if by_sums else (Engine, "dispatch")
    before = getattr(owner, name)

    def counted(*arguments: Any) -> Any:
        batches.append(None)
        os.kill(os.getpid(), signal.SIGTERM)
        return before(*arguments)

    monkeypatch.setattr(owner, name, counted)
    with Interruption(lambda: "") as interruption:
        with pytest.raises(StopRequested):
            interruption.interruptible(measure)(None)
        assert interruption.must_stop(1)
        with pytest.raises(StopRequested):  # what has not begun does not begin
            interruption.interruptible(measure)(None)
    assert len(batches) == 1


def test_outside_the_main_thread_nothing_is_heard() -> None:
    def run() -> None:
        with Interruption(lambda: "") as interruption:
            found.append(interruption.must_stop(1))
            found.append(signal.getsignal(signal.SIGTERM))

    found: list[Any] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False, signal.SIG_DFL]


STUCK = """
import hashlib, signal, sys
from encodax.process import signals
from encodax.training.loop.preemption import Interruption
signal.signal(signal.SIGINT, signal.default_int_handler)
signals.GRACE = float(sys.argv[1])
with Interruption(lambda: "runs/a.checkpoints/7 is saved: continue with --resume"):
    print("begins", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # it lets no handler run, as a compiler does
"""


@pytest.mark.parametrize(
    ("kinds", "grace"),
    [([signal.SIGTERM], 0.5), ([signal.SIGHUP], 0.5), ([signal.SIGINT, signal.SIGINT], 60)],
)
def test_what_cannot_be_interrupted_is_left(kinds: list[signal.Signals], grace: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, str(grace)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            for kind in kinds:
                process.send_signal(kind)
                time.sleep(0.2)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + kinds[0]
    assert errors == (
        f"error: stopped by {kinds[0].name} before the run could save again; "
        "runs/a.checkpoints/7 is saved: continue with --resume\n"
    )


def test_what_code_of_c_makes_of_it_still_stops_the_run() -> None:
    """MLIR, which JAX asks for the key of a program, makes a RuntimeError of it."""
    module = jax.jit(lambda x: x).lower(1.0).compiler_ir("stablehlo")

    def visit(operation: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with Interruption(lambda: "") as interruption:
        with pytest.raises(StopRequested) as error:
            interruption.interruptible(module.operation.walk)(visit)
        assert isinstance(error.value.__cause__, RuntimeError)
        with pytest.raises(StopRequested):  # what begins after it
            interruption.interruptible(print)()


# Many of them, to a command as a scheduler ends it.

LONG = 240


def command(folder: Path, data: Path, *more: str) -> list[str]:
    given = {
        "train": data, "eval": data, "out": folder / "model", "steps": LONG, "evaluate-every": 20,
        "save-every": 15, "batch-tokens": 256, "layers": 1, "width": 32, "heads": 2,
        "dropout": 0.1, "learning-rate": 0.01,
    }  # fmt: skip
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "encodax", "train", "classification", *options, *more]


def stopped_again_and_again(folder: Path, times: int, seed: int) -> list[float]:
    """End runs at random moments until so many signals are sent; seconds that each took.

    A run that comes to its end is compared with one that was left alone, and another begins.
    """
    data = folder / "data.jsonl"
    write_lines(data, jobs.RECORDS["classification"] * 8)
    whole = folder / "whole"
    subprocess.run(command(whole, data), check=True, capture_output=True)
    wanted = jobs.digest(whole / "model.checkpoints" / str(LONG))
    moments, seconds, number = random.Random(seed), [], 0
    while len(seconds) < times:
        place = folder / str(number)
        has_begun = (place / "model.checkpoints").is_dir() and steps_on_disk(
            place / "model.checkpoints"
        )
        process = subprocess.Popen(
            command(place, data, "--resume" if has_begun else "--overwrite"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(moments.uniform(0, 12))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        took = time.monotonic() - began
        # Before there is a handler, a process of Python just ends.
        assert process.returncode in (0, 143, -signal.SIGTERM), errors
        if process.returncode == 0:
            assert jobs.digest(place / "model.checkpoints" / str(LONG)) == wanted
            assert told(place / "model") == told(whole / "model")
            number += 1
        else:
            seconds.append(took)
    rest = folder / str(number)
    if steps_on_disk(rest / "model.checkpoints"):
        subprocess.run(command(rest, data, "--resume"), check=True, capture_output=True)
        assert jobs.digest(rest / "model.checkpoints" / str(LONG)) == wanted
    return seconds


@pytest.mark.soak
def test_a_hundred_signals_at_random_moments(tmp_path: Path) -> None:
    seconds = stopped_again_and_again(tmp_path, times=100, seed=2)
    print(f"slowest {max(seconds):.1f} s, in the middle {sorted(seconds)[50]:.1f} s")
    assert max(seconds) < 5
