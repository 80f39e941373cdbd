"""One step: a loss divided once, whatever shares a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax
import pytest
from toys import DAYS, SENTIMENT, classifier, same, tagger

from encodax.config import UNROLLED, ExecutionConfig
from encodax.data.batches import BatchShape
from encodax.data.sources import records_of
from encodax.models.encoder_model import Model
from encodax.tasks import task_of
from encodax.tasks.dataset import Dataset
from encodax.tasks.losses import cross_entropy
from encodax.tasks.task import LossOptions, Targets
from encodax.training.step.optimizer import Optimizer, make_optimizer
from encodax.training.step.step import (
    Constants,
    Step,
    StepSpec,
    TrainState,
    initial_state,
    make_step,
)
from encodax.types.batches import PackedBatch, Params

SHAPE = BatchShape(row_count=8, row_tokens=64, slots=5)
SMOOTHING = LossOptions(label_smoothing=0.1)
PLAIN = LossOptions()
NOTHING = Constants({})


def prepared(model: Model, records: list[dict[str, Any]]) -> Dataset:
    task = task_of(model.config)
    examples = [task.parse(record, labelled=True) for record in records_of(records)]
    return Dataset.prepare(task, model, examples)


def step_spec(model: Model, optimizer: Optimizer, loss_options: LossOptions = PLAIN) -> StepSpec:
    return StepSpec(model, task_of(model.config), optimizer, loss_options)


def descent(rate: float) -> Optimizer:
    """Plain descent: p - rate * share * g."""

    def update(gradient: Any, state: Any, params: Any, *, share: Any, **rest: Any) -> Any:
        return jax.tree.map(lambda g: -rate * share * g, gradient), state

    return Optimizer(optax.sgd(rate).init, update)


def in_micro_batches(tree: Any, count: int = 1) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), tree)


def stepped(
    model: Model, batch: PackedBatch, targets: Targets, micro_batches: int = 1
) -> tuple[Params, Any]:
    """The parameters after a step of plain descent of rate 1, and the step's metrics."""
    state = initial_state(model.params, descent(1.0), seed=0)
    step = make_step(step_spec(model, descent(1.0), SMOOTHING))
    batch, targets = in_micro_batches((batch, targets), micro_batches)
    state, metrics = step(state, NOTHING, batch, targets)
    return state.params, metrics


def assert_near(first: Params, second: Params) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), first, second)


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_packed_examples_teach_what_they_teach_alone(head: str) -> None:
    model = (classifier() if head == "sequence" else tagger()).model
    examples = prepared(model, (SENTIMENT if head == "sequence" else DAYS)[:8])
    packed = examples.batch([[3, 0, 6], [5, 1, 2]], SHAPE)
    alone = examples.batch([[index] for index in (0, 1, 2, 3, 5, 6)], SHAPE)
    params, metrics = stepped(model, *packed)
    wanted_params, wanted = stepped(model, *alone)
    assert_near(params, wanted_params)
    assert not same(params, model.params)
    np.testing.assert_allclose(metrics.loss, wanted.loss, rtol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, wanted.gradient_norm, rtol=1e-5)


def test_the_loss_of_two_batches_is_divided_once() -> None:
    model = tagger().model
    examples = prepared(model, DAYS[:8])

    def summed(params: Params, batch: PackedBatch, targets: Targets) -> Any:
        logits = model.apply(params, batch).logits
        assert logits is not None
        return cross_entropy(logits, targets, SMOOTHING.label_smoothing)

    slope = jax.jit(jax.value_and_grad(summed, has_aux=True))
    parts = [examples.batch([[0]], SHAPE), examples.batch([[1], [2], [3], [4]], SHAPE)]
    sums, gradients = zip(*(slope(model.params, *part) for part in parts), strict=True)
    total, weight = (float(sum(part)) for part in zip(*sums, strict=True))
    gradient = jax.tree.map(lambda *each: sum(map(np.asarray, each)) / weight, *gradients)

    params, metrics = stepped(model, *examples.batch([[0, 1, 2], [3, 4]], SHAPE))
    assert_near(params, jax.tree.map(lambda p, g: np.asarray(p) - g, model.params, gradient))
    np.testing.assert_allclose(metrics.loss, total / weight, rtol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, optax.tree.norm(gradient), rtol=1e-5)


def test_a_step_gives_its_state_away_but_not_the_model() -> None:
    model = classifier().model
    before = jax.tree.map(np.array, model.params)
    stepped(model, *prepared(model, SENTIMENT[:8]).batch([[3, 0, 6], [5, 1, 2]], SHAPE))
    assert same(model.params, before)


def test_each_step_draws_dropout_anew() -> None:
    model = classifier().model
    head = model.config.head
    assert head is not None
    config = replace(model.config, head=replace(head, dropout_rate=0.5))
    model = replace(model, config=config)
    batch = prepared(model, SENTIMENT[:1]).batch([[0]], SHAPE)
    frozen = descent(0.0)
    step: Step = make_step(step_spec(model, frozen))
    batch = in_micro_batches(batch)

    def losses(seed: int) -> list[float]:
        state: TrainState = initial_state(model.params, frozen, seed)
        found = []
        for _ in range(3):
            state, metrics = step(state, NOTHING, *batch)
            found.append(float(metrics.loss))
        assert int(state.step) == 3
        return found

    assert len(set(losses(0))) == 3
    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_add_up_to_the_batch(micro_batches: int) -> None:
    model = tagger().model
    examples = prepared(model, DAYS[:8])
    shape = BatchShape(4, SHAPE.row_tokens, SHAPE.slots)
    batch = examples.batch([[0, 1, 2], [3], [4, 5]], shape)
    params, metrics = stepped(model, *batch, micro_batches=micro_batches)
    wanted_params, wanted = stepped(model, *batch)
    assert_near(params, wanted_params)
    np.testing.assert_allclose(metrics.loss, wanted.loss, rtol=1e-6)
    np.testing.assert_allclose(metrics.gradient_norm, wanted.gradient_norm, rtol=1e-5)


def test_a_step_that_is_not_finite_changes_nothing_but_its_number() -> None:
    model = classifier().model
    batch, targets = prepared(model, SENTIMENT[:4]).batch([[0, 1], [2]], SHAPE)
    optimizer = make_optimizer(lambda step: 0.1, weight_decay=0.0, clip_norm=1.0)
    step = make_step(step_spec(model, optimizer))
    state = initial_state(model.params, optimizer, seed=0)
    broken = replace(targets, weights=np.where(targets.weights > 0, np.nan, 0).astype(np.float32))
    state, metrics = step(state, NOTHING, *in_micro_batches((batch, broken)))
    assert not metrics.is_finite
    assert same(state.params, model.params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.optimizer))
    assert int(state.step) == 1
    state, metrics = step(state, NOTHING, *in_micro_batches((batch, targets)))
    assert metrics.is_finite
    assert not same(state.params, model.params)
    assert int(state.step) == 2


@pytest.mark.parametrize(
    "execution",
    [
        ExecutionConfig(scan=True),
        ExecutionConfig(remat="dots"),
        ExecutionConfig(remat="full"),
        ExecutionConfig(True, "full"),
    ],
)
def test_a_stack_is_run_in_other_ways_with_the_same_numbers(execution: ExecutionConfig) -> None:
    model = tagger().model
    batch, targets = prepared(model, DAYS[:8]).batch([[0, 1, 2], [3]], SHAPE)

    def loss(params: Params, how: ExecutionConfig) -> Any:
        logits = model.apply(params, batch, execution=how).logits
        assert logits is not None
        return cross_entropy(logits, targets)[0]

    slope = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    wanted, found = (slope(model.params, how) for how in (UNROLLED, execution))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    assert_near(found[1], wanted[1])
