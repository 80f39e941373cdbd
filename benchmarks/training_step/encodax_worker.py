"""Encodax, as the trainer that is measured; and what the processor reaches at best."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import encodax
from benchmarks.harness.peak import LargeProduct
from benchmarks.harness.protocol import read_texts, serve
from benchmarks.harness.timing import Clock
from benchmarks.training_step.sizes import CLIP, DECAY, RATE, UNTIMED
from encodax.models.encoder_model import Model
from encodax.tasks import task_named
from encodax.tasks.task import LossOptions, Targets
from encodax.training.batches.pipeline import batches
from encodax.training.loop.progress import METRICS_FILE
from encodax.training.step import sharding
from encodax.training.step.optimizer import learning_rate_schedule, make_optimizer
from encodax.training.step.step import Constants, StepSpec, initial_state, layout_of, make_step
from encodax.training.train import prepare
from encodax.types.batches import PackedBatch

CHOICES = {
    "learning_rate": RATE, "warmup": 0.0, "schedule": "constant", "weight_decay": DECAY,
    "clip_norm": CLIP, "epochs": 1,
}  # fmt: skip


class Trainer:
    """The step of `encodax train`; compiled once a workload."""

    packages = ("encodax", "jax", "jaxlib", "dm-haiku", "optax", "grain", "numpy")

    def __init__(self, model: str, cores: int):
        self._place = model
        self._steps: dict[tuple[int, int], Callable[[], Any]] = {}
        self._flops: dict[tuple[int, int], float] = {}
        self._jobs: dict[str, Any] = {}

    def steps(self, rows: int, tokens: int, count: int) -> dict[str, Any]:
        """So many steps over full rows, an example a row."""
        if (rows, tokens) not in self._steps:
            self._prepare(rows, tokens)
        one = self._steps[rows, tokens]
        with Clock() as clock:
            for _ in range(count):
                state = one()
            jax.block_until_ready(state)
        return {"flops": self._flops[rows, tokens], **clock.each(count)}

    def _prepare(self, rows: int, tokens: int) -> None:
        model = Model.load(self._place).with_head("sequence", 2)
        rate = learning_rate_schedule(RATE, 1, warmup=0.0, schedule="constant")
        optimizer = make_optimizer(rate, weight_decay=DECAY, clip_norm=CLIP)
        step_spec = StepSpec(model, task_named("classification"), optimizer, LossOptions())
        random = np.random.default_rng(0)
        ids = random.integers(1_000, 30_000, (rows, tokens))
        classes = random.integers(0, 2, (rows, 1)).astype(np.int32)
        targets = Targets(classes, np.ones((rows, 1), np.float32))
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        whole = (PackedBatch.from_rows(ids.astype(np.int32)), targets)
        inputs = sharding.put_batch(jax.tree.map(lambda leaf: np.asarray(leaf)[None], whole), mesh)
        state, constants = initial_state(model.params, optimizer, 0, mesh), Constants({})
        step = make_step(step_spec, mesh, layout_of(model.params, optimizer, mesh))
        compiled = step.lower(state, constants, *inputs).compile()
        self._flops[rows, tokens] = float(compiled.cost_analysis()["flops"])

        def one() -> Any:
            nonlocal state
            state, _ = compiled(state, constants, *inputs)
            return state

        for _ in range(UNTIMED):
            jax.block_until_ready(one())
        self._steps[rows, tokens] = one

    def epoch(self, texts: str, how: str) -> dict[str, Any]:
        """All sentences once, in rows that they share; `how` is `tokens` or `examples`."""
        if how not in self._jobs:
            records = [{"text": text, "label": label} for text, label in read_texts(texts)]
            of_size = {"batch_size": 32} if how == "examples" else {}
            job = prepare(
                "classification", train=records, eval=records[:8], model=self._place, **of_size,
                **CHOICES,
            )  # fmt: skip
            state = job.run.initial_state()
            compiled = job.run.compiled(state)
            self._jobs[how] = job.run, compiled.run
            compiled.run(state, job.run.constants, *job.run.on_devices(job.run.reader(0)))
        run, step = self._jobs[how]
        state, real = run.initial_state(), 0
        jax.block_until_ready(state)
        with Clock() as clock, contextlib.closing(batches(run.reader)) as source:
            for item in source:
                state, _ = step(state, run.constants, *run.on_devices(item))
                real += int(item.batch.lengths.sum())
            jax.block_until_ready(state)
        shape = run.plan.shape
        room = shape.row_count * shape.row_tokens * run.plan.steps
        return {"padding": 1 - real / room, "steps": run.plan.steps, **clock.each(1)}

    def waiting(self, texts: str) -> dict[str, Any]:
        """Share of the time that a whole run waits for its data, as its own log tells."""
        records = [{"text": text, "label": label} for text, label in read_texts(texts)]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model"
            encodax.train(
                "classification", train=records, eval=records[:64], model=self._place, out=out,
                **CHOICES,
            )  # fmt: skip
            lines = (out / METRICS_FILE).read_text(encoding="utf-8").splitlines()
        entries = [entry for entry in map(json.loads, lines) if "waiting" in entry]
        return {"waiting": entries[-1]["waiting"]}

    def peak(self) -> dict[str, Any]:
        """FLOP/s of a large float32 product."""
        if not hasattr(self, "_product"):
            self._product = LargeProduct()
        return {"flops": self._product.rate()}


if __name__ == "__main__":
    encodax.keep_freed_memory()  # as `encodax train` does
    serve(Trainer)
