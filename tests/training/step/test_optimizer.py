"""The learning rate over a run, what decays, and what is clipped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from encodax.models.encoder_model import Model
from encodax.training.step.optimizer import (
    Adam,
    decay_mask,
    learning_rate_schedule,
    make_optimizer,
    rate_factors,
)
from encodax.types.batches import Params

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


def test_the_rate_falls_with_the_root_of_the_steps_whatever_their_number() -> None:
    for steps in (STEPS, 4 * STEPS):
        found = rates("inverse_sqrt", warmup=10.0, steps=steps)
        count = np.arange(1, steps + 2)
        wanted = PEAK * np.minimum(count / 10, np.sqrt(10 / count))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_warm_up_from_one_on_is_a_number_of_steps() -> None:
    np.testing.assert_array_equal(rates("cosine", warmup=10.0), rates("cosine", warmup=0.25))


def test_adam_averages_as_it_is_told() -> None:
    adam = Adam(b1=0.8, b2=0.98, eps=1e-3)
    own = make_optimizer(lambda step: 0.1, weight_decay=0.0, clip_norm=1e9, adam=adam)
    wanted = optax.adam(0.1, 0.8, 0.98, 1e-3)
    params = {"module": {"b": jnp.asarray([1.0, -2.0])}}
    first, second = own.init(params), wanted.init(params)
    for size in (0.5, -0.1, 2.0):
        gradient = jax.tree.map(lambda leaf, s=size: s * leaf, params)
        updates, first = own.update(gradient, first, params)
        others, second = wanted.update(gradient, second, params)
        np.testing.assert_allclose(updates["module"]["b"], others["module"]["b"], rtol=1e-6)


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


def test_each_part_learns_slower_than_the_one_above_it(tiny_model: Model) -> None:
    factors = rate_factors(tiny_model.params, 0.5, layers=2)
    by_part = {
        part: {factor for path, own in factors.items() if part in path for factor in own.values()}
        for part in ("head/", "layer_1/", "layer_0/", "embeddings/")
    }
    assert by_part == {
        "head/": {1.0},
        "layer_1/": {0.5},
        "layer_0/": {0.25},
        "embeddings/": {0.125},
    }


def test_what_layers_share_goes_with_the_embeddings_and_a_final_norm_with_the_last() -> None:
    leaf = {"w": jnp.zeros(1)}
    paths = ("encoder/relative_bias", "encoder/final_norm", "encoder/layer_11/attention/query")
    factors = rate_factors(dict.fromkeys(paths, leaf), 0.5, layers=12)
    assert [factors[path]["w"] for path in paths] == [0.5**13, 0.5, 0.5]


def test_layer_decay_scales_the_whole_update(tiny_model: Model) -> None:
    params = tiny_model.params
    gradient = jax.tree.map(jnp.ones_like, params)

    def update(**choices: Any) -> Params:
        optimizer = make_optimizer(lambda step: 0.1, weight_decay=0.1, clip_norm=1.0, **choices)
        updates: Params = optimizer.update(gradient, optimizer.init(params), params)[0]
        return updates

    plain, scaled = update(), update(layer_decay=0.5, layers=2)
    factors = rate_factors(params, 0.5, layers=2)
    wanted = jax.tree.map(lambda u, f: f * u, plain, factors)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), scaled, wanted)


def test_adapters_decay_as_weights_do() -> None:
    leaves = dict.fromkeys(("lora_a", "lora_b", "b"), jnp.ones(2))
    assert decay_mask({"module": leaves}) == {
        "module": {"lora_a": True, "lora_b": True, "b": False}
    }


def noise(params: Params, seed: int) -> Params:
    """A gradient drawn at random."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), params)


def test_it_is_the_adamw_of_optax_behind_its_clipping(tiny_model: Model) -> None:
    schedule = learning_rate_schedule(1e-3, 8, warmup=0.5, schedule="cosine")
    own = make_optimizer(schedule, weight_decay=0.1, clip_norm=1.0)
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1, mask=decay_mask)
    )
    found: list[Params] = []
    for optimizer, choices in ((own, {"share": 0.125}), (theirs, {})):
        params = tiny_model.params
        state = optimizer.init(params)
        for seed in range(4):
            gradient = noise(params, seed)
            if not choices:
                gradient = jax.tree.map(lambda g: g * 0.125, gradient)
            updates, state = optimizer.update(gradient, state, params, **choices)
            params = optax.apply_updates(params, updates)
        found.append(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), *found)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_no_bit(tiny_model: Model, bad: float) -> None:
    params = tiny_model.params
    optimizer = make_optimizer(lambda step: 0.1, weight_decay=0.1, clip_norm=1.0)
    _, state = optimizer.update(noise(params, 0), optimizer.init(params), params)
    gradient = jax.tree.map(lambda g: g.at[..., 0].set(bad), noise(params, 1))
    found = optimizer.update(gradient, state, params, is_finite=jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, found[1], state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found[0]))
