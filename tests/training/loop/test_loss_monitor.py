"""What a run watches for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from encodax.training.loop.loss_monitor import MEMORY, MIN_STEPS_UP, LossMonitor


def test_bad_steps_are_counted_in_a_row_and_in_all() -> None:
    guard = LossMonitor(limit=3)
    for good in (False, False, True, False):
        told = guard.record(1.0, is_finite=good)
        assert ("the step was skipped" in told) != good
    assert (guard.bad_in_a_row, guard.skipped, guard.is_over) == (1, 3, False)
    guard.record(1.0, is_finite=False)
    guard.record(float("nan"), is_finite=False)
    assert guard.is_over


STEPS = np.arange(1500)
LEARNING = 0.05 + 0.65 * np.exp(-STEPS / 150)
"""A loss that falls from that of a guess among two."""


def alarms(losses: Iterable[float]) -> list[int]:
    """Steps at which the loss is said to have risen."""
    guard = LossMonitor(limit=1)
    return [
        step
        for step, loss in enumerate(losses, 1)
        if guard.record(float(loss), is_finite=True).startswith("the loss has risen to about ")
    ]


@pytest.mark.parametrize("seed", range(3))
def test_runs_that_go_well_are_left_in_peace(seed: int) -> None:
    random = np.random.default_rng(seed)
    heavy = random.lognormal(0, 1.3, len(STEPS))  # single batches are up to 50 times the usual
    hard = (random.random(len(STEPS)) < 0.02) * random.exponential(1.5, len(STEPS))
    assert (LEARNING * heavy).max() > 10 * np.median(LEARNING * heavy)
    for losses in (
        LEARNING * heavy,
        LEARNING + hard,
        0.02 * heavy,
        5 * 0.99**STEPS,
        np.repeat([0.6, 0.3, 0.1, 0.05, 0.02], 300) * heavy,  # from epoch to epoch
        9 * 0.999**STEPS + 0.3 * random.normal(size=len(STEPS)),
    ):
        assert alarms(losses) == []


@pytest.mark.parametrize("height", [0.3, 0.65, 5.0])
def test_a_loss_that_rises_and_stays_is_told_once(height: float) -> None:
    random = np.random.default_rng(0)
    losses = (LEARNING + height * (STEPS >= 700)) * random.lognormal(0, 0.5, len(STEPS))
    (step,) = alarms(losses)
    assert 700 + MIN_STEPS_UP <= step <= 700 + 4 * MEMORY


def test_a_run_that_diverges_from_its_first_steps_is_told_once() -> None:
    noise = 0.2 * np.random.default_rng(0).normal(size=len(STEPS))
    (step,) = alarms(0.7 + np.minimum(STEPS / 30, 4) + noise)
    assert step < 4 * MEMORY
    assert len(alarms(np.where(STEPS < 15, 0.7, 6.0) + noise)) == 1


def test_each_rise_is_told() -> None:
    is_up = ((STEPS >= 400) & (STEPS < 600)) | (STEPS >= 1100)
    first, second = alarms(LEARNING + 2.0 * is_up)
    assert 400 < first < 600
    assert second > 1100


def test_one_batch_is_no_rise() -> None:
    assert alarms(np.where(STEPS == 700, 20.0, LEARNING)) == []


def test_a_start_is_given_time() -> None:
    assert alarms([1.0, 1.0, 50.0]) == []
