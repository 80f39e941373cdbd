"""The learning rate over a run, what decays, and what is clipped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encodax.model import Model
from encodax.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer

PEAK, STEPS = 0.5, 40


def rates(schedule: Any, warmup: float = 0.25, steps: int = STEPS) -> np.ndarray:
    """Of each step of a run, and of one more."""
    rate = learning_rate_schedule(PEAK, steps, warmup=warmup, schedule=schedule)
    return np.asarray([float(rate(step)) for step in range(steps + 1)])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_the_peak(schedule: str) -> None:
    rising = rates(schedule)[:10]
    np.testing.assert_allclose(rising, PEAK * np.arange(1, 11) / 10, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_falls_from_the_peak_to_nothing_after_the_end(
    schedule: str, warmup: float
) -> None:
    falling = rates(schedule, warmup)[max(0, round(warmup * STEPS) - 1) :]
    assert falling[0] == pytest.approx(PEAK)
    assert (np.diff(falling) < 0).all()
    assert falling[-2] > PEAK / 1000  # every step of the run learns
    assert falling[-1] == pytest.approx(0, abs=1e-8)


def test_the_rate_stays_where_it_is_constant() -> None:
    np.testing.assert_allclose(rates("constant", warmup=0.0), PEAK)
    np.testing.assert_allclose(rates("constant")[9:], PEAK)


def test_the_fall_is_a_line_or_half_a_cosine() -> None:
    done = np.linspace(0, 1, 32)
    np.testing.assert_allclose(rates("linear")[9:], PEAK * (1 - done), atol=1e-7)
    np.testing.assert_allclose(
        rates("cosine")[9:], PEAK * (1 + np.cos(np.pi * done)) / 2, atol=1e-7
    )


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_run_of_one_step_learns(schedule: str) -> None:
    assert rates(schedule, steps=1)[0] == PEAK


def test_weights_decay_and_nothing_else(tiny_model: Model) -> None:
    mask = decay_mask(tiny_model.params)
    assert mask.keys() == tiny_model.params.keys()
    decaying = {leaf for leaves in mask.values() for leaf, decays in leaves.items() if decays}
    staying = {leaf for leaves in mask.values() for leaf, decays in leaves.items() if not decays}
    assert decaying == {"w"}
    assert {"b"} < staying
    assert "w" not in staying


def test_decay_is_the_rate_times_the_weight() -> None:
    optimizer = make_optimizer(lambda step: 0.5, weight_decay=0.125, clip_norm=1.0)
    values = jnp.asarray([1.0, -2.0])
    params = {"dense": {"w": values, "b": values}, "norm": {"alpha": values, "beta": values}}
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    decayed = {name for leaves in updates.values() for name, leaf in leaves.items() if leaf.any()}
    assert decayed == {"w"}
    np.testing.assert_allclose(updates["dense"]["w"], -0.5 * 0.125 * values, rtol=1e-6)


def test_the_gradient_is_cut_to_its_norm() -> None:
    params = {"module": {"b": jnp.zeros(2)}}
    unit = jnp.asarray([0.6, 0.8])

    def second_update(first: float, clip_norm: float) -> Any:
        optimizer = make_optimizer(lambda step: 0.1, weight_decay=0.0, clip_norm=clip_norm)
        state = optimizer.init(params)
        for size in (first, 0.5):
            updates, state = optimizer.update({"module": {"b": size * unit}}, state, params)
        return updates["module"]["b"]

    np.testing.assert_allclose(second_update(100, 2.0), second_update(2, 1000.0), rtol=1e-6)
    assert not np.allclose(second_update(100, 2.0), second_update(100, 1000.0), rtol=1e-2)
