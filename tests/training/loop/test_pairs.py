"""Two runs in one place, begun at any two moments: each is whole, or refused before it begins."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# Runs one training after another, as told by lines of JSON; tells how each one ended.
WORKER = """
import json, sys, time
import encodax
from encodax.storage import locks

locks.HEARTBEAT_SECONDS = 0.1
DATA = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")] * 4
for line in sys.stdin:
    told = json.loads(line)
    time.sleep(told.pop("delay"))
    try:
        result = encodax.train(
            "classification", train=DATA, eval=DATA, steps=4, evaluate_every=2, batch_size=4,
            layers=1, width=16, heads=2, max_positions=16, tokenizer="char", overwrite=True, **told,
        )
        print(json.dumps({"metrics": result.metrics, "step": result.best_step}), flush=True)
    except encodax.EncodaxError as error:
        print(json.dumps({"error": str(error)}), flush=True)
"""

Worker = subprocess.Popen[str]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    def start() -> Worker:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
        )

    with ExitStack() as stack:
        yield [stack.enter_context(start()) for _ in range(2)]


def _begin(worker: Worker, seed: int, out: Path, delay: float = 0.0) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps({"seed": seed, "out": str(out), "delay": delay}) + "\n")
    worker.stdin.flush()


def _end(worker: Worker) -> dict[str, Any]:
    assert worker.stdout is not None
    return dict(json.loads(worker.stdout.readline()))


def _written(out: Path) -> tuple[str, int, list[int]]:
    """The bits of the model, the seed that the run names, and the steps of its curve."""
    weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    seed = json.loads((out / "run.json").read_text())["choices"].get("seed", 0)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    curve = [json.loads(line)["step"] for line in lines]
    return weights, seed, curve


def _try(workers: list[Worker], folder: Path, delays: list[float], chance: random.Random) -> int:
    """Start a pair of runs for each delay, in durations of a run; return how many were refused."""
    alone: dict[int, Any] = {}
    for seed, worker in enumerate(workers):
        start = time.monotonic()
        _begin(worker, seed, folder / f"alone-{seed}")
        alone[seed] = _end(worker), _written(folder / f"alone-{seed}")
        seconds = time.monotonic() - start
    refused = 0
    for number, delay in enumerate(delays):
        out = folder / f"pair-{number}"
        first, second = chance.sample([0, 1], 2)
        _begin(workers[first], first, out)
        _begin(workers[second], second, out, delay=delay * seconds)
        ended = {seed: _end(workers[seed]) for seed in (first, second)}
        whole = [seed for seed, told in ended.items() if "error" not in told]
        assert whole
        for seed in whole:
            assert ended[seed] == alone[seed][0]
        for seed in {0, 1} - set(whole):
            assert "is being written by process" in ended[seed]["error"]
            refused += 1
        assert _written(out) == alone[whole[-1]][1]
        assert {path.name for path in folder.glob(f"*pair-{number}*")} == {
            out.name,
            f"{out.name}.checkpoints",
        }
    return refused


def test_two_runs_in_one_place_do_not_spoil_each_other(
    workers: list[Worker], tmp_path: Path
) -> None:
    assert _try(workers, tmp_path, [0.0, 1.2], random.Random(2)) >= 1  # the first pair


@pytest.mark.soak
def test_many_pairs_of_runs(workers: list[Worker], tmp_path: Path) -> None:
    chance = random.Random(200)
    delays = [chance.uniform(0, 1.5) for _ in range(200)]
    assert 0 < _try(workers, tmp_path, delays, chance) < 200
