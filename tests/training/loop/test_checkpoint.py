"""Checkpoints are whole or not there, and say what is wrong with them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jobs
import numpy as np
import pytest
from directories import edit_json
from orbax.checkpoint.handlers import JsonCheckpointHandler

from encodax.errors import EncodaxError
from encodax.training.loop.checkpoint import Checkpoints, checksum, differences, surroundings
from encodax.training.step import sharding
from encodax.training.step.optimizer import make_optimizer
from encodax.training.step.step import TrainState, initial_state

OPTIMIZER = make_optimizer(lambda step: 1e-3, weight_decay=1e-4, clip_norm=1.0)


def state_at(step: int, value: float = 0.0) -> TrainState:
    params = {"encoder/dense": {"w": jnp.arange(12.0).reshape(4, 3) + value, "b": jnp.ones(3)}}
    state = initial_state(params, OPTIMIZER, seed=7)
    return replace(state, step=state.step + step)


def opened(folder: Path, **choices: Any) -> Checkpoints:
    return Checkpoints(folder, **choices)


def saved(folder: Path, steps: Iterable[int], best: int = 0, **choices: Any) -> list[int]:
    """The steps that are left when checkpoints of these were saved, each before the next."""
    checkpoints = opened(folder, best=lambda: best, **choices)
    for step in steps:
        checkpoints.save(state_at(step, step / 8), {"position": step})
    checkpoints.finish()
    checkpoints.abandon()
    return opened(folder, **choices).steps


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state = state_at(3, 0.25)
    checkpoints = opened(tmp_path / "saved")
    checkpoints.save(state, {"position": {"next_index": 3}, "words": "ü"})
    checkpoints.finish()
    found = opened(tmp_path / "saved").restore(state_at(0))
    assert found.step == 3
    assert found.record["position"] == {"next_index": 3}
    assert found.record["words"] == "ü"
    plain = lambda s: jax.tree.leaves(replace(s, key=jax.random.key_data(s.key)))  # noqa: E731
    for wanted, array in zip(plain(state), plain(found.state), strict=True):
        assert wanted.dtype == array.dtype
        np.testing.assert_array_equal(wanted, array)


def test_a_record_may_change_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curve of a run grows with every step, also while a checkpoint with it is written."""
    curve, write = [1.0, 0.5], JsonCheckpointHandler._save_fn

    async def changes_first(self: Any, *arguments: Any) -> None:
        curve.append(0.25)
        await write(self, *arguments)

    monkeypatch.setattr(JsonCheckpointHandler, "_save_fn", changes_first)
    checkpoints = opened(tmp_path / "saved")
    checkpoints.save(state_at(1), {"log": {"curve": curve}})
    checkpoints.finish()
    assert len(curve) == 3
    assert opened(tmp_path / "saved").restore(state_at(0)).record["log"] == {"curve": [1.0, 0.5]}


def test_a_state_may_be_given_away_while_it_is_saved(tmp_path: Path) -> None:
    spoil = jax.jit(lambda s: jax.tree.map(lambda leaf: leaf * 0, s), donate_argnums=0)
    params = {"encoder/dense": {"w": jnp.arange(1e6)}}
    state = initial_state(params, OPTIMIZER, seed=7)
    checkpoints = opened(tmp_path / "saved")
    checkpoints.save(state, {})
    spoiled = spoil(state.params)
    checkpoints.finish()
    assert not spoiled["encoder/dense"]["w"].any()
    found = opened(tmp_path / "saved").restore(initial_state(params, OPTIMIZER, seed=0))
    np.testing.assert_array_equal(found.state.params["encoder/dense"]["w"], jnp.arange(1e6))


def test_the_newest_stay_and_the_best(tmp_path: Path) -> None:
    assert saved(tmp_path / "a", range(1, 6), best=2) == [2, 4, 5]
    assert saved(tmp_path / "b", range(1, 6), best=1, keep=1) == [1, 5]
    assert saved(tmp_path / "c", range(1, 6)) == [4, 5]


def test_the_best_is_asked_for_anew_with_every_save(tmp_path: Path) -> None:
    """It is known after the checkpoint is there: evaluating comes later."""
    best = 1
    checkpoints = opened(tmp_path, best=lambda: best, keep=1)
    for step in range(1, 6):
        checkpoints.save(state_at(step), {})
        best = 3 if step >= 3 else 1
    checkpoints.finish()
    assert checkpoints.steps == [3, 5]


def test_there_is_nothing_before_the_first(tmp_path: Path) -> None:
    assert opened(tmp_path / "none").steps == []
    with pytest.raises(EncodaxError, match="there is no checkpoint to resume from"):
        opened(tmp_path / "none").restore(state_at(0))
    assert not (tmp_path / "none").exists()


def test_a_step_that_is_not_there_is_named(tmp_path: Path) -> None:
    saved(tmp_path, [1, 2])
    with pytest.raises(EncodaxError, match="there is no checkpoint of step 7; there are: 1, 2"):
        opened(tmp_path).restore(state_at(0), 7)


def test_one_that_goes_while_it_is_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that writes it keeps the newest alone."""
    writing = opened(tmp_path)
    for step in (1, 2):
        writing.save(state_at(step, step), {})
    writing.finish()
    reading = opened(tmp_path)
    restore, restored = reading._manager.restore, []

    def replaced_first(step: int, **how: Any) -> Any:
        restored.append(step)
        if len(restored) == 1:
            writing.save(state_at(3, 3), {})
            writing.finish()
            shutil.rmtree(tmp_path / "2")
        return restore(step, **how)

    monkeypatch.setattr(reading._manager, "restore", replaced_first)
    assert reading.restore(state_at(0)).step == 3
    assert restored == [2, 3, 3]  # of the newer one the record, then the state
    with pytest.raises(EncodaxError, match=r"there is no checkpoint of step 2; there are: .*3"):
        reading.restore(state_at(0), 2)


def cut(folder: Path) -> None:
    for file in (folder / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(folder: Path) -> None:
    for file in (folder / "state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def lose_the_record(folder: Path) -> None:
    (folder / "record" / "metadata").unlink()


def change_the_record(folder: Path) -> None:
    edit_json(folder / "record" / "metadata", lambda record: record.update(key=["x"], more=1))


def lose_a_key_of_the_record(folder: Path) -> None:
    edit_json(folder / "record" / "metadata", lambda record: record.popitem())


# Of many parts that cannot be read, TensorStore tells the first; the others are left behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", [cut, flip, lose_the_record, change_the_record, lose_a_key_of_the_record]
)
def test_a_damaged_one_is_named_and_the_one_before_taken_on_request(
    tmp_path: Path, damage: Any
) -> None:
    saved(tmp_path, [1, 2])
    damage(tmp_path / "2")
    told = rf"the checkpoint {tmp_path}/2 is damaged: .*; resume .* \(--resume-step 1\)$"
    with pytest.raises(EncodaxError, match=told):
        opened(tmp_path).restore(state_at(0))
    assert opened(tmp_path).restore(state_at(0), 1).step == 1


def test_a_wrong_number_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encodax.training.loop.checkpoint.checksum", lambda state: jnp.uint32(3))
    saved(tmp_path, [1])
    monkeypatch.undo()
    with pytest.raises(
        EncodaxError, match="its numbers are not those that were saved; start again"
    ):
        opened(tmp_path).restore(state_at(0))


def test_the_checksum_sees_every_number_and_its_place() -> None:
    state = state_at(0)
    weights = state.params["encoder/dense"]["w"]
    assert isinstance(weights, jax.Array)
    seen = {int(checksum(state))}
    for place in np.ndindex(4, 3):
        changed = weights.at[place].add(1e-3)
        seen.add(
            int(
                checksum(replace(state, params={"encoder/dense": {"w": changed, "b": jnp.ones(3)}}))
            )
        )
    swapped = weights[::-1]
    seen.add(
        int(checksum(replace(state, params={"encoder/dense": {"w": swapped, "b": jnp.ones(3)}})))
    )
    assert len(seen) == 14


def test_what_changes_bits_is_told() -> None:
    now = surroundings(sharding.make_mesh())
    assert now["devices"].endswith("cpu")
    assert now.keys() >= {"devices", "threads", "XLA_FLAGS", "jaxlib", "mesh", "processes"}
    assert differences(now, now) == ""
    other = {**now, "XLA_FLAGS": "--xla_x", "jaxlib": "0.1"}
    assert differences(now, other) == (
        f"XLA_FLAGS was not set and is --xla_x; jaxlib was {now['jaxlib']} and is 0.1"
    )


# Disks that fail.


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="limits of files as Linux has them"
)
def test_a_full_disk_is_told_at_the_next_step(tmp_path: Path) -> None:
    job = {
        "task": "classification", "out": str(tmp_path / "model"), "width": 128, "steps": 2_000,
        "evaluate_every": 2_000, "save_every": 5, "file_limit": 100_000,
    }  # fmt: skip
    process = jobs.start(job)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (told,) = (line for line in errors.splitlines() if "EncodaxError: " in line)
    assert "a checkpoint cannot be written: " in told
    assert told.endswith("complete ones: 5")
    folder = tmp_path / "model.checkpoints"
    assert jobs.digest(folder / "5")


def test_an_error_of_a_disk_is_told_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = opened(tmp_path / "saved")
    checkpoints.save(state_at(1), {})
    checkpoints.finish()
    before = jobs.digest_of_files(tmp_path / "saved" / "1")

    from orbax.checkpoint._src.serialization import ocdbt_utils

    def fails(*arguments: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ocdbt_utils, "merge_ocdbt_per_process_files", fails)
    checkpoints.save(state_at(2), {})
    with pytest.raises(
        EncodaxError, match=r"cannot be written: .*Input/output error; complete ones: 1"
    ):
        for _ in range(200):
            checkpoints.check()
            time.sleep(0.01)
    checkpoints.abandon()
    assert jobs.digest_of_files(tmp_path / "saved" / "1") == before
    monkeypatch.undo()
    assert opened(tmp_path / "saved").steps == [1]
