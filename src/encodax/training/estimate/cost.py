"""Cost of a training step, estimated without running it: `encodax plan`.

The step of a real run is compiled for simulated CPU devices, one for each device of the mesh.
Shapes
stand in for arrays, so nothing is allocated, and a model may be larger than this machine. The
compiler then reports what each device would hold, compute and send.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from encodax.config import ModelConfig
from encodax.data.batches import BatchShape
from encodax.errors import EncodaxError
from encodax.model_files import saved_model
from encodax.models.encoder_model import Model
from encodax.models.forward import parameter_shapes
from encodax.options.training import NewModel, TrainSettings
from encodax.tasks import TASKS
from encodax.tasks.task import LossOptions, Targets, Task
from encodax.text.tokenizer import Tokenizer
from encodax.training.batches.schedule import make_plan
from encodax.training.estimate.hlo import costs_of
from encodax.training.setup.run import CompiledStep, make_step_spec
from encodax.training.step import sharding
from encodax.training.step.step import Constants, TrainState, layout_of, make_step
from encodax.types.batches import PackedBatch, Shapes

FAST_COMPILE_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Compiler options for a quick compilation: the program is never run."""


@dataclass(frozen=True)
class Expected:
    """Time of a step on one device in seconds, at given peak rates."""

    compute: float
    """Time of matrix products."""
    exchange: float
    """Time of communication."""

    @property
    def overlapped(self) -> float:
        """Time if communication overlaps with computation: the shortest possible."""
        return max(self.compute, self.exchange)

    @property
    def apart(self) -> float:
        """Time if communication and computation follow each other."""
        return self.compute + self.exchange


@dataclass(frozen=True)
class StepPlan:
    """Memory and work of one device of a mesh in a step; all devices are alike."""

    mesh: Mapping[str, int]
    """Size of each axis."""
    rows: int
    """Number of rows of a micro-batch on the device."""
    row_tokens: int
    """T, the length of a row in tokens."""
    micro_batches: int
    """A, the number of micro-batches in a batch."""
    parameter_count: int
    """Number of parameters of the whole model."""
    parameter_bytes: int
    """Bytes of the parameters that the device holds, in float32."""
    optimizer_bytes: int
    """Bytes of the optimizer state that the device holds."""
    batch_bytes: int
    """Bytes of the device's rows of the batch, and of their targets."""
    temporary_bytes: int
    """Peak of temporary bytes: activations kept for the backward pass, gradients, and parameters
    gathered from other devices, as XLA allocates them for CPU."""
    flops: float
    """Floating-point operations of matrix products in a step; each round of a loop counts."""
    xla_flops: float
    """Count by XLA: includes elementwise operations, and counts the body of a loop once."""
    sent: Mapping[str, int]
    """Bytes that the device sends in a step, by kind of collective (`estimate/hlo.py`)."""
    unknown_loops: int
    """Number of loops that count once in `flops` and `sent`, because their trip count is
    unknown."""
    compile_seconds: float
    """Duration of this compilation in seconds."""

    @property
    def devices(self) -> int:
        """Number of devices of the mesh."""
        return math.prod(self.mesh.values())

    @property
    def tokens(self) -> int:
        """Number of tokens of a step, on all devices, padding included."""
        return self.devices * self.micro_batches * self.rows * self.row_tokens

    @property
    def held_bytes(self) -> int:
        """Peak number of bytes that the device holds."""
        return self.parameter_bytes + self.optimizer_bytes + self.batch_bytes + self.temporary_bytes

    @property
    def sent_bytes(self) -> int:
        """Number of bytes that the device sends in a step, over all kinds of collectives."""
        return sum(self.sent.values())

    def expected(
        self, peak_flops: float, bandwidth: float = math.inf, share: float = 1.0
    ) -> Expected:
        """Return the time of a step: flops / (peak * share), and bytes sent / bandwidth.

        Args:
            peak_flops: FLOP/s of one device, in the precision of the products.
            bandwidth: bytes/s that one device can send.
            share: share of the peak that products reach.

        Raises:
            EncodaxError: an argument is not above 0.
        """
        given = {"peak_flops": peak_flops, "bandwidth": bandwidth, "share": share}
        for name, value in given.items():
            if not value > 0:
                raise EncodaxError(f"{name} = {value} is not above 0")
        return Expected(self.flops / (peak_flops * share), self.sent_bytes / bandwidth)

    def to_json(self) -> dict[str, Any]:
        """Return every field and derived number, by name."""
        derived = ("devices", "tokens", "held_bytes", "sent_bytes")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def simulate_devices(count: int) -> None:
    """Give this process `count` CPU devices, and no others; call it before JAX has any.

    Raises:
        EncodaxError: JAX has been initialized, with fewer devices.
    """
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has been initialized
        pass
    _devices(count)


def new_config(shape: NewModel, task: Task, *, classes: int = 2) -> ModelConfig:
    """Return the configuration of a new model; its vocabulary has the largest size allowed."""
    return with_head(ModelConfig(shape.encoder(shape.vocabulary_size)), task, classes=classes)


def with_head(config: ModelConfig, task: Task, *, classes: int = 2) -> ModelConfig:
    """Return the configuration with the head that the task trains, as its family builds it.

    Raises:
        EncodaxError: the family has no such head, or the task needs a decoder.
    """
    if task.head is None:
        raise EncodaxError(
            f"a plan is for encoders: for {task.name}, use `encodax train --dry-run`"
        )
    labels = tuple(f"LABEL_{index}" for index in range(classes))
    labels = labels if task.head in ("sequence", "token") else ()
    family = saved_model.family_of(config)
    return replace(config, head=family.new_head(config, task.head, len(labels)), labels=labels)


def plan_step(
    config: ModelConfig,
    task: Task,
    settings: TrainSettings,
    *,
    row_tokens: int = 512,
    loss_options: LossOptions | None = None,
) -> StepPlan:
    """Estimate the cost of a step of such a run on each device of `settings.mesh`.

    Args:
        config: configuration of the model, with the task's head.
        task: task to train.
        settings: settings of the run; only the mesh (one device by default), `batch_tokens`,
            `accumulate`, `remat`, `scan` and `precision` matter here.
        row_tokens: T; rounded up to the length that a run would use.
        loss_options: options of the loss.

    Raises:
        EncodaxError: the rows cannot be divided among the devices; the shape of the task's batches
            is not known without data; or this process has fewer devices (see `simulate_devices`).
    """
    began = time.monotonic()
    if not task.has_known_shapes:
        known = ", ".join(name for name, each in TASKS.items() if each.has_known_shapes)
        raise EncodaxError(f"a plan of {task.name} is not supported; supported: {known}")
    if row_tokens <= 0:
        raise EncodaxError(f"row_tokens = {row_tokens} is not above 0")
    loss_options = loss_options or LossOptions()
    text = settings.mesh or "data=1"
    count = math.prod(sharding.parse_mesh(text).values())
    # As many rows as such sequences fill: the layout of a run over them.
    rows = max(1, (settings.batch_tokens or 0) // row_tokens)
    run = make_plan(np.full(rows, row_tokens), settings, devices=count)
    mesh = sharding.make_mesh(text, _devices(count))

    shapes = parameter_shapes(config)
    no_text = Tokenizer.train(("a",), "char")  # a model needs a tokenizer; a step reads no text
    step_spec, _ = make_step_spec(
        Model(config, {}, no_text), task, settings, steps=run.steps, loss_options=loss_options
    )
    layout = layout_of(shapes, step_spec.optimizer, mesh)
    state = _state_shapes(shapes, step_spec.optimizer, layout)
    inputs = batch_shapes(task, run.shape, run.micro_batches, loss_options, mesh)
    lowered = make_step(step_spec, mesh, layout).lower(state, Constants({}), *inputs)  # type: ignore[attr-defined]
    compiled = lowered.compile(compiler_options=FAST_COMPILE_OPTIONS)
    costs = costs_of(compiled.as_text())
    step = CompiledStep(compiled, time.monotonic() - began)
    return StepPlan(
        mesh=dict(mesh.shape),
        rows=run.shape.row_count // count,
        row_tokens=run.shape.row_tokens,
        micro_batches=run.micro_batches,
        parameter_count=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)),
        parameter_bytes=sharding.bytes_of(state.params),
        optimizer_bytes=sharding.bytes_of(state.optimizer),
        batch_bytes=sharding.bytes_of(inputs),
        temporary_bytes=step.memory["temporaries"],
        flops=costs.flops,
        xla_flops=step.flops,
        sent={kind: round(size) for kind, size in costs.sent.items()},
        unknown_loops=costs.unknown_loops,
        compile_seconds=step.seconds,
    )


def batch_shapes(
    task: Task, shape: BatchShape, micro_batches: int, loss_options: LossOptions, mesh: Mesh
) -> tuple[Any, Any]:
    """Return a batch and its targets as shapes, as `Reader` and `sharding` would lay them out."""
    rows, tokens = (micro_batches, shape.row_count), shape.row_tokens

    def of(width: int, dtype: Any = np.int32) -> Any:
        return jax.ShapeDtypeStruct((*rows, width), dtype, sharding=sharding.by_row(mesh))

    by_token, by_slot = of(tokens), of(shape.slots)  # (A, B, T), (A, B, N)
    batch: Any = PackedBatch(by_token, by_token, by_token, by_token, by_slot, by_slot)
    if task.head == "vocabulary":
        hidden = math.ceil(loss_options.mask_rate * tokens)  # M
        targets = Targets(of(hidden), of(hidden, np.float32), tokens=of(hidden))
    else:
        width = shape.slots if task.head == "sequence" else tokens
        targets = Targets(of(width), of(width, np.float32))
    return batch, targets


def _state_shapes(shapes: Shapes, optimizer: Any, layout: TrainState) -> TrainState:
    """Return the state before the first step as shapes with their shardings."""
    step: Any = jax.ShapeDtypeStruct((), np.int32)
    state = TrainState(
        shapes,
        jax.eval_shape(optimizer.init, shapes),
        step,
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    placed: TrainState = jax.tree.map(
        lambda leaf, how: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=how), state, layout
    )
    return placed


def _devices(count: int) -> list[jax.Device]:
    """Return `count` CPU devices.

    Raises:
        EncodaxError: there are fewer.
    """
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise EncodaxError(
            f"a plan of {count} devices needs as many simulated ones, and this process has started "
            f"with {len(devices)}: run `encodax plan`, or call simulate_devices({count}) first"
        )
    return devices[:count]
