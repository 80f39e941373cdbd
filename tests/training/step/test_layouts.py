"""The same losses on any layout of devices and processes; a process that dies is told."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pytest

STEPS = 20
JOB: dict[str, Any] = {
    "task": "classification", "steps": STEPS, "batch_tokens": 1_024, "batch_size": None,
    "evaluate_every": STEPS,
}  # fmt: skip
TASKS = ["classification", "embedding", "masked-lm", "translation"]
MESHES = ["data=8", "data=4,fsdp=2"]
EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def of_task(task: str, **choices: Any) -> dict[str, Any]:
    rows = {"batch_size": 32, "batch_tokens": None} if task == "embedding" else {}
    return {**JOB, "task": task, **rows, **choices}


def losses(
    given: list[dict[str, Any]], variables: dict[str, str] | None = None
) -> list[np.ndarray]:
    """Of each of these jobs, one after another in one process."""
    return [np.asarray(told["losses"]) for told in jobs.all_done(jobs.start(given, variables))]


@pytest.fixture(scope="module")
def on_one_device() -> dict[str, np.ndarray]:
    found = losses([of_task(task) for task in TASKS])
    return dict(zip(TASKS, found, strict=True))


@pytest.fixture(scope="module")
def on_eight_devices() -> dict[tuple[str, str], np.ndarray]:
    keys = list(itertools.product(TASKS, MESHES))
    found = losses([of_task(task, mesh=mesh) for task, mesh in keys], EIGHT)
    return dict(zip(keys, found, strict=True))


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("task", TASKS)
def test_layouts_give_equal_losses(
    task: str,
    mesh: str,
    on_one_device: dict[str, np.ndarray],
    on_eight_devices: dict[tuple[str, str], np.ndarray],
) -> None:
    wanted = on_one_device[task]
    assert wanted[-1] < wanted[0]
    np.testing.assert_allclose(on_eight_devices[task, mesh], wanted, rtol=1e-5)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def two_processes(job: dict[str, Any]) -> list[subprocess.Popen[str]]:
    address = f"127.0.0.1:{free_port()}"
    return [jobs.start({**job, "join": [address, 2, index]}) for index in range(2)]


def test_two_processes_are_one(tmp_path: Path, on_one_device: dict[str, np.ndarray]) -> None:
    out = tmp_path / "model"
    job = of_task("masked-lm", mesh="fsdp=2", out=str(out), save_every=10, evaluate_every=10)
    found = [jobs.done(process)["losses"] for process in two_processes(job)]
    np.testing.assert_allclose(found[0], on_one_device["masked-lm"], rtol=1e-5)
    assert (out / "model.safetensors").is_file()
    assert (tmp_path / "model.checkpoints" / str(STEPS)).is_dir()
    # What two wrote, one goes on with: from the middle, to the same end.
    one = of_task("masked-lm", out=str(out), save_every=10, evaluate_every=10, resume_step=10)
    (again,) = losses([one], {})
    np.testing.assert_allclose(again[-10:], on_one_device["masked-lm"][10:], rtol=1e-5)


def test_a_process_that_dies_ends_the_other(tmp_path: Path) -> None:
    out, seen = tmp_path / "model", tmp_path / "seen"
    job = of_task(
        "classification", mesh="data=2", steps=100_000, evaluate_every=100_000, out=str(out),
        save_every=50_000, seen=str(seen),
    )  # fmt: skip
    survivor, victim = two_processes(job)
    jobs.wait_for(lambda: seen.exists() and seen.stat().st_size > 10_000, survivor, 120)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    _, errors = survivor.communicate(timeout=60)
    assert survivor.returncode == 2
    (told,) = (line for line in errors.splitlines() if line.startswith("error: "))
    assert told.startswith("error: another process of the run has ended (")
    assert told.endswith("; start all of them again with --resume")
