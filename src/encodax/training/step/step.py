"""Training step, compiled once for any number of devices and micro-batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from encodax.config import UNROLLED, ExecutionConfig
from encodax.inference.precision import Precision, cast
from encodax.inference.runtime import COMPILER_OPTIONS
from encodax.models.encoder_model import Model
from encodax.tasks.task import AnyModel, LossOptions, Targets, Task, apply_options
from encodax.training.step import sharding
from encodax.training.step.optimizer import Optimizer
from encodax.training.step.partition import merged_params
from encodax.types.batches import AnyBatch, ModelOutput, PackedBatch, Params, Shapes


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """State that changes from step to step."""

    params: Params
    """Trained parameters; the others are in `Constants`."""
    optimizer: optax.OptState
    step: Int[Array, ""]
    """Number of steps done."""
    key: Array
    """Random key of the run; each step folds its number in."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constants:
    """Parameters that stay the same in all steps."""

    frozen: Params
    """Frozen parameters of the model."""
    teacher: Params | None = None
    """Parameters of the teacher."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMetrics:
    """Metrics of a step."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    """Global norm of the gradient before clipping."""
    is_finite: Bool[Array, ""]
    """Whether both are finite; if not, the step changed nothing but the number of steps."""


@dataclass(frozen=True)
class StepSpec:
    """Specification of a step: everything except the arrays that it takes."""

    model: AnyModel
    """Model to train; its parameters are not used."""
    task: Task
    optimizer: Optimizer
    loss_options: LossOptions
    execution: ExecutionConfig = UNROLLED
    precision: Precision = "float32"
    """Number format of products; parameters, gradients and optimizer state are always float32."""
    teacher: Model | None = None
    """Teacher, whose output goes to the loss as `Targets.teacher`."""
    gather: Callable[[Params], Params] = lambda params: params
    """Function that gathers the parts of parameters before they are used."""


Step = Callable[[TrainState, Constants, AnyBatch, Targets], tuple[TrainState, StepMetrics]]


def initial_state(
    params: Params, optimizer: Optimizer, seed: int, mesh: Mesh | None = None
) -> TrainState:
    """Return the state before the first step, with copied parameters (a step donates them)."""
    mesh = sharding.make_mesh(devices=jax.local_devices()[:1]) if mesh is None else mesh
    layout = layout_of(params, optimizer, mesh)
    params = sharding.put(jax.tree.map(jnp.array, params), layout.params)
    init = jax.jit(optimizer.init, out_shardings=layout.optimizer)
    step = sharding.put(jnp.zeros((), jnp.int32), layout.step)
    key = jax.jit(lambda: jax.random.key(seed), out_shardings=layout.key)()
    return TrainState(params, init(params), step, key)


def layout_of(params: Params | Shapes, optimizer: Optimizer, mesh: Mesh) -> TrainState:
    """Return the shardings of a state on the devices, as a state."""
    of_params = sharding.shardings_of(params, mesh)
    whole: Any = sharding.replicated(mesh)
    of_optimizer = sharding.shardings_of_optimizer(optimizer, params, of_params, mesh)
    return TrainState(of_params, of_optimizer, whole, whole)


def make_step(spec: StepSpec, mesh: Mesh | None = None, layout: TrainState | None = None) -> Step:
    """Return the compiled function (state, constants, batch, targets) -> (state, metrics).

    The leaves of a batch and its targets have a leading axis of A micro-batches: gradients are
    summed over these, so that a batch may exceed the devices' memory. The state is donated.

    Args:
        spec: specification of the step.
        mesh: the devices; None for the first one alone.
        layout: shardings of the state on them.
    """

    def step(
        state: TrainState, constants: Constants, batch: AnyBatch, targets: Targets
    ) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(state.key, state.step)
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(
            jnp.arange(targets.weights.shape[0])
        )
        sums = _cross_batch_sums if spec.task.compares_examples else _accumulated_sums
        (total, weight), gradient = sums(spec, state.params, constants, keys, batch, targets)
        share = 1 / weight  # the only division
        loss, norm = total * share, optax.tree.norm(gradient) * share
        is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, optimizer = spec.optimizer.update(
            gradient, state.optimizer, state.params, share=share, norm=norm, is_finite=is_finite
        )
        params = optax.apply_updates(state.params, updates)
        new = TrainState(params, optimizer, state.step + 1, state.key)
        return new, StepMetrics(loss, norm, is_finite)

    if mesh is not None and mesh.shape["fsdp"] > 1:
        # Stated, so that XLA divides the computation along the rows and not along the parameters.
        spec = replace(spec, gather=functools.partial(sharding.gather, mesh=mesh))
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    options = COMPILER_OPTIONS.get(platform)
    if mesh is None:
        return jax.jit(step, donate_argnums=0, compiler_options=options)
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(layout, sharding.replicated(mesh)),
        compiler_options=options,
    )


def _forward(
    spec: StepSpec,
    params: Params,
    constants: Constants,
    key: Array,
    batch: AnyBatch,
    targets: Targets,
) -> tuple[ModelOutput, Targets]:
    """Run the model on one micro-batch in training; return its output, and the loss's targets."""
    run = apply_options(spec.task, targets)
    whole = spec.gather(cast(merged_params(params, constants.frozen), spec.precision))
    apply: Callable[..., ModelOutput] = spec.model.apply  # the batch is of the kind that it takes
    output = apply(whole, batch, is_training=True, rng=key, execution=spec.execution, **run)
    if spec.teacher is not None:
        assert constants.teacher is not None
        taught = spec.gather(cast(constants.teacher, spec.precision))
        assert isinstance(batch, PackedBatch)
        answer = jax.lax.stop_gradient(spec.teacher.apply(taught, batch, **run))
        targets = replace(targets, teacher=answer)
    return output, targets


Sums = tuple[tuple[Float[Array, ""], Float[Array, ""]], Params]
"""Pair of the loss as (weighted sum, weight), and the gradient of the sum."""


def _accumulated_sums(
    spec: StepSpec, params: Params, constants: Constants, keys: Array, batch: Any, targets: Any
) -> Sums:
    """Add up the micro-batches one after another; only the sum is kept in between."""

    def summed(
        params: Params, key: Array, batch: AnyBatch, targets: Targets
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        output, targets = _forward(spec, params, constants, key, batch, targets)
        return spec.task.loss(output, targets, batch, spec.loss_options)

    with_gradient = jax.value_and_grad(summed, has_aux=True)
    inputs = (keys, batch, targets)
    if keys.shape[0] == 1:  # a loop of one round would keep XLA from using all cores
        return with_gradient(params, *jax.tree.map(lambda leaf: leaf[0], inputs))

    def add(sums: Sums, own: Any) -> tuple[Sums, None]:
        return jax.tree.map(jnp.add, sums, with_gradient(params, *own)), None

    zero = jnp.zeros(())
    start = ((zero, zero), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, start, inputs)[0]


def _cross_batch_sums(
    spec: StepSpec, params: Params, constants: Constants, keys: Array, batch: Any, targets: Any
) -> Sums:
    """Add up all micro-batches at once, for a loss that compares examples across them.

    Only the vectors of each micro-batch are kept; it runs a second time when the gradient of these
    is known (Gao et al. 2021, arXiv:2101.06983, section 3). So the batch size is limited only by
    the memory for the vectors.
    """

    def vectors(params: Params, own: Any) -> tuple[ModelOutput, Targets]:
        output, its_targets = _forward(spec, params, constants, *own)
        return replace(output, hidden=output.hidden[..., :0]), its_targets

    def summed(params: Params) -> tuple[Float[Array, ""], Float[Array, ""]]:
        inputs = (keys, batch, targets)
        if keys.shape[0] == 1:
            found = vectors(params, jax.tree.map(lambda leaf: leaf[0], inputs))
            outputs, its_targets = jax.tree.map(lambda leaf: leaf[None], found)
        else:
            run = jax.checkpoint(vectors)
            outputs, its_targets = jax.lax.map(lambda own: run(params, own), inputs)
        return spec.task.loss(outputs, its_targets, batch, spec.loss_options)

    return jax.value_and_grad(summed, has_aux=True)(params)
