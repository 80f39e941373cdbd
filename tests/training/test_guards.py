"""What a run watches for."""

from __future__ import annotations

import numpy as np

from encodax.training.guards import MEMORY, Guard


def test_bad_steps_are_counted_in_a_row_and_in_all() -> None:
    guard = Guard(limit=3)
    for good in (False, False, True, False):
        told = guard.sees(1.0, is_finite=good)
        assert ("the step was skipped" in told) != good
    assert (guard.bad_in_a_row, guard.skipped, guard.is_over) == (1, 3, False)
    guard.sees(1.0, is_finite=False)
    guard.sees(float("nan"), is_finite=False)
    assert guard.is_over


def test_a_jump_is_told_and_what_is_usual_is_not() -> None:
    guard, random = Guard(limit=1), np.random.default_rng(0)
    assert not any(guard.sees(x, is_finite=True) for x in 2 + 0.1 * random.normal(size=4 * MEMORY))
    assert guard.sees(9.0, is_finite=True).startswith("the loss jumped to 9 from about ")
    assert not guard.sees(2.0, is_finite=True)


def test_a_falling_loss_is_no_jump() -> None:
    guard = Guard(limit=1)
    assert not any(guard.sees(5 * 0.99**step, is_finite=True) for step in range(500))


def test_a_start_is_given_time() -> None:
    guard = Guard(limit=1)
    assert not any(guard.sees(x, is_finite=True) for x in (1.0, 1.0, 50.0))
