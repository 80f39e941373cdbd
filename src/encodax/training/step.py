"""One training step, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from encodax.model import Model
from encodax.tasks.task import Objective, Targets, Task
from encodax.types import PackedBatch, Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that changes from step to step."""

    params: Params
    optimizer: optax.OptState
    step: Int[Array, ""]
    """Number of steps done."""
    key: Array
    """Random key of the run; each step folds its number in."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """What a step tells."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    """Before clipping."""


def initial_state(model: Model, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step, with parameters of its own (a step gives them away)."""
    params = jax.tree.map(jnp.array, model.params)
    return TrainState(
        params, optimizer.init(params), jnp.zeros((), jnp.int32), jax.random.key(seed)
    )


Step = Callable[[TrainState, PackedBatch, Targets], tuple[TrainState, StepMetrics]]


def make_step(
    model: Model, task: Task, optimizer: optax.GradientTransformation, objective: Objective
) -> Step:
    """The compiled function (state, batch, targets) -> (state, metrics); the state is donated."""

    def summed_loss(
        params: Params, key: Array, batch: PackedBatch, targets: Targets
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        output = model.apply(params, batch, is_training=True, rng=key)
        return task.loss(output, targets, batch, objective)

    def step(
        state: TrainState, batch: PackedBatch, targets: Targets
    ) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(state.key, state.step)
        with_gradient = jax.value_and_grad(summed_loss, has_aux=True)
        (total, weight), gradient = with_gradient(state.params, key, batch, targets)
        gradient = jax.tree.map(lambda g: g / weight, gradient)  # the one division
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = StepMetrics(total / weight, optax.tree.norm(gradient))
        return TrainState(params, optimizer_state, state.step + 1, state.key), metrics

    return jax.jit(step, donate_argnums=0)
