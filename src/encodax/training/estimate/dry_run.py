"""Dry run: two steps, to see whether a run fits and how fast it is; nothing is written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import jax
from rich.table import Table

from encodax.training.loop.device_peak import matmul_peak
from encodax.training.setup.prepare import prepare
from encodax.training.step import sharding


@dataclass(frozen=True)
class DryRun:
    """Measurements of two steps; bytes are those on one device."""

    steps: int
    """Number of steps of the whole run."""
    batch_tokens: int
    """Number of tokens in a batch, padding included."""
    parameters: int
    trained_parameters: int
    compile_seconds: float
    step_seconds: float
    """Duration of the second step."""
    loss: float
    """Loss of the second step."""
    parameter_bytes: int
    optimizer_bytes: int
    temporary_bytes: int
    """Temporary bytes of a step by the compiler's analysis: activations, gradients."""
    flops: float
    """Operations of a step on one device, counted by XLA: the body of a loop counts once."""
    share_of_peak: float
    """Ratio of `flops` to those of a large matrix product in the same time."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)

    def table(self) -> Table:
        """Return a table to print."""
        table = Table("a dry run", "", title=None)
        table.columns[1].justify = "right"
        mebibytes = 2**20
        for name, value in (
            ("steps of the run", f"{self.steps:,}"),
            ("tokens of a batch", f"{self.batch_tokens:,}"),
            ("parameters", f"{self.parameters:,}"),
            ("trained", f"{self.trained_parameters:,}"),
            ("compiling", f"{self.compile_seconds:.1f} s"),
            ("a step", f"{self.step_seconds * 1e3:,.0f} ms"),
            ("all steps", f"{self.step_seconds * self.steps / 60:,.1f} min"),
            ("loss", f"{self.loss:.4f}"),
            ("parameters, a device", f"{self.parameter_bytes / mebibytes:,.1f} MiB"),
            ("optimizer, a device", f"{self.optimizer_bytes / mebibytes:,.1f} MiB"),
            ("in between, a device", f"{self.temporary_bytes / mebibytes:,.1f} MiB"),
            ("operations, a device", f"{self.flops / 1e9:,.1f} GFLOP"),
            ("share of the matmul peak", f"{self.share_of_peak:.0%}"),
        ):
            table.add_row(name, value)
        return table


def dry_run(task: str, **choices: Any) -> DryRun:
    """Compile a run and do two steps.

    Args:
        task: see `encodax.train`.
        **choices: arguments of `encodax.train`; those for output paths are not used.

    Raises:
        EncodaxError: see `encodax.train`.
    """
    for name in ("out", "overwrite", "resume", "resume_step", "checkpoints", "console"):
        choices.pop(name, None)
    job = prepare(task, **choices)
    run = job.run
    state = run.initial_state()
    parameters, optimizer = (
        sharding.bytes_of((state.params, run.constants)),
        sharding.bytes_of(state.optimizer),
    )
    step = run.compiled(state)
    seconds = 0.0
    for number in range(2):
        batch, targets = run.on_devices(run.reader(number % run.plan.steps))
        began = time.monotonic()
        state, metrics = step.run(state, run.constants, batch, targets)
        loss = float(metrics.loss)
        seconds = time.monotonic() - began
    shape = run.plan.shape
    trained = sum(leaf.size for leaf in jax.tree.leaves(run.trained))
    frozen = sum(leaf.size for leaf in jax.tree.leaves(run.constants.frozen))
    return DryRun(
        steps=run.plan.steps,
        batch_tokens=shape.row_count * shape.row_tokens * run.plan.micro_batches,
        parameters=trained + frozen,
        trained_parameters=trained,
        compile_seconds=step.seconds,
        step_seconds=seconds,
        loss=loss,
        parameter_bytes=parameters,
        optimizer_bytes=optimizer,
        temporary_bytes=step.memory["temporaries"],
        flops=step.flops,
        share_of_peak=step.flops / seconds / matmul_peak(),
    )
