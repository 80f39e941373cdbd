"""Run before its first step: the plan, the devices, the compiled step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import optax
from jax.sharding import Mesh

from encodax.config import ExecutionConfig
from encodax.inference.precision import default_precision
from encodax.models.encoder_model import Model
from encodax.options.training import TrainSettings
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import SMALLER_IS_BETTER, AnyModel, LossOptions, Task
from encodax.training.batches.pipeline import Batch, Reader
from encodax.training.batches.schedule import Plan, make_plan
from encodax.training.step import sharding
from encodax.training.step.optimizer import Adam, learning_rate_schedule, make_optimizer
from encodax.training.step.step import (
    Constants,
    Step,
    StepSpec,
    TrainState,
    initial_state,
    layout_of,
    make_step,
)
from encodax.types.batches import Params


@dataclass(frozen=True)
class Run:
    """Everything that stays the same during a run."""

    step_spec: StepSpec
    mesh: Mesh
    layout: TrainState
    """Shardings of the state on the mesh."""
    plan: Plan
    reader: Reader
    schedule: optax.Schedule
    trained: Params
    """Initial values of the trained parameters."""
    constants: Constants
    settings: TrainSettings

    @property
    def metric(self) -> str:
        """Metric on the evaluation data that decides which model is the best."""
        return self.settings.metric or self.step_spec.task.metric

    @property
    def larger_is_better(self) -> bool:
        """Whether a larger value of the metric is better."""
        return self.metric not in SMALLER_IS_BETTER

    @property
    def evaluate_every(self) -> int:
        """Number of steps between evaluations."""
        return self.settings.evaluate_every or math.ceil(self.plan.steps / 10)

    def is_measured(self, step: int) -> bool:
        """Return whether the parameters after this step are evaluated."""
        return step % self.evaluate_every == 0 or step == self.plan.steps

    @property
    def save_every(self) -> int:
        """Number of steps between checkpoints."""
        return self.settings.save_every or self.evaluate_every

    def is_saved(self, step: int) -> bool:
        """Return whether the state after this step is saved."""
        return step % self.save_every == 0 or step == self.plan.steps

    def initial_state(self) -> TrainState:
        """Return the state before the first step."""
        return initial_state(self.trained, self.step_spec.optimizer, self.settings.seed, self.mesh)

    def on_devices(self, item: Batch) -> tuple[Any, Any]:
        """Put a batch and its targets on the devices, sharded for the step."""
        placed: tuple[Any, Any] = sharding.put_batch((item.batch, item.targets), self.mesh)
        return placed

    def compiled(self, state: TrainState) -> CompiledStep:
        """Compile the step for the shapes of this run."""
        began = time.monotonic()
        batch, targets = self.on_devices(self.reader(0))
        step = make_step(self.step_spec, self.mesh, self.layout)
        compiled = step.lower(state, self.constants, batch, targets).compile()  # type: ignore[attr-defined]
        return CompiledStep(compiled, time.monotonic() - began)


@dataclass(frozen=True)
class CompiledStep:
    """Compiled step, with the compiler's analysis."""

    run: Step
    seconds: float
    """Duration of the compilation."""

    @property
    def flops(self) -> float:
        """Operations of a step on one device, counted by XLA; the body of a loop counts once."""
        costs = self.run.cost_analysis() or {}  # type: ignore[attr-defined]
        return float(costs.get("flops", 0.0))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes on one device: of arguments, outputs and temporaries."""
        sizes = self.run.memory_analysis()  # type: ignore[attr-defined]
        return {
            "arguments": sizes.argument_size_in_bytes,
            "outputs": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
            "temporaries": sizes.temp_size_in_bytes,
        }


def make_run(
    model: AnyModel,
    data: Dataset,
    settings: TrainSettings,
    *,
    loss_options: LossOptions,
    trained: Params,
    frozen: Params,
    teacher: Model | None = None,
) -> Run:
    """Plan a run, and put its constants on the devices.

    Args:
        model: model to train.
        data: training data.
        settings: settings of the run.
        loss_options: options of the loss.
        trained: the trained parameters.
        frozen: the frozen parameters.
        teacher: model whose output the loss needs, if any.

    Raises:
        EncodaxError: the mesh or the batches do not fit the devices.
    """
    mesh = sharding.make_mesh(settings.mesh)
    units = data.batch_units if data.task.compares_examples else None
    plan = make_plan(data.lengths, settings, units=units, devices=mesh.size)
    sharding.share_of_rows(plan.shape.row_count)
    step_spec, schedule = make_step_spec(
        model, data.task, settings, steps=plan.steps, loss_options=loss_options, teacher=teacher
    )
    constants = Constants(
        sharding.put(frozen, sharding.shardings_of(frozen, mesh)),
        None
        if teacher is None
        else sharding.put(teacher.params, sharding.shardings_of(teacher.params, mesh)),
    )
    layout = layout_of(trained, step_spec.optimizer, mesh)
    reader = Reader(data, plan, loss_options, settings.seed)
    return Run(step_spec, mesh, layout, plan, reader, schedule, trained, constants, settings)


def make_step_spec(
    model: AnyModel,
    task: Task,
    settings: TrainSettings,
    *,
    steps: int,
    loss_options: LossOptions,
    teacher: Model | None = None,
) -> tuple[StepSpec, optax.Schedule]:
    """Return the specification of a run's step, and its learning-rate schedule.

    Args:
        model: model to train.
        task: task, which defines the loss.
        settings: settings of the run.
        steps: number of steps of the run.
        loss_options: options of the loss.
        teacher: model whose output the loss needs, if any.
    """
    schedule = learning_rate_schedule(
        settings.learning_rate, steps, warmup=settings.warmup, schedule=settings.schedule
    )
    optimizer = make_optimizer(
        schedule,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        adam=Adam(settings.beta1, settings.beta2, settings.adam_eps),
        layer_decay=settings.layer_decay,
        layers=model.layer_count,
    )
    step_spec = StepSpec(
        model,
        task,
        optimizer,
        loss_options,
        ExecutionConfig(scan=settings.scan, remat=settings.remat),
        settings.precision or default_precision(),
        teacher,
    )
    return step_spec, schedule
