"""Training speed of packed and padded batches, beside what a large matmul reaches.

    python -m benchmarks.training_speed [--rounds 7] [--steps 10] [--width 96] [--layers 2]

Both batches hold the same number of tokens, padding included, and the same sequences: dates as
the demo writes them. The rounds alternate packed, padded, matmul, so that whatever else the
machine does meets all three alike; figures are medians over the rounds, with the smallest and
largest. A share of peak is FLOPs of the compiled step, as XLA counts them, over the FLOP/s of the
matmul of the same round.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.harness import tables
from benchmarks.harness.peak import LargeProduct
from benchmarks.harness.ratios import spread
from benchmarks.harness.timing import in_turn
from encodax.data.batches import BatchShape, plan_by_tokens, slots_for
from encodax.data.packing import Row
from encodax.demo.dates import sample
from encodax.models.encoder_model import Model
from encodax.options.training import NewModel
from encodax.tasks import task_named
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example, LossOptions
from encodax.training.setup.start import new_model
from encodax.training.step.optimizer import learning_rate_schedule, make_optimizer
from encodax.training.step.step import Constants, StepSpec, initial_state, make_step

BATCH_TOKENS = 2_048
PEAK = "matmul"
HEADS = ("batches", "padding", "ms a step", "real tokens/s", "share of matmul peak")


@dataclass
class Runner:
    """A compiled training step with batches to feed it."""

    step: Callable
    state: object
    batches: list
    flops: float
    """Of one step."""
    real_tokens: float
    """In a mean batch."""
    padding: float

    def run(self, steps: int) -> float:
        """Seconds of one step, in a round of so many."""
        start = time.perf_counter()
        for index in range(steps):
            batch, targets = self.batches[index % len(self.batches)]
            self.state, metrics = self.step(self.state, Constants({}), batch, targets)
        metrics.loss.block_until_ready()
        return (time.perf_counter() - start) / steps


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="training steps a round")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()

    task = task_named("token-classification")
    examples = [Example(date.text, date.spans, date.text) for date in sample(6_000, seed=0)]
    labels = task.labels(examples)
    shape = NewModel(layers=options.layers, width=options.width, tokenizer="char", dropout_rate=0.0)
    model = new_model(task, examples, labels, shape, seed=0)
    data = Dataset.prepare(task, model, examples)
    runners = {"packed": packed(model, data), "padded": padded(model, data)}
    sides = {name: functools.partial(each.run, options.steps) for name, each in runners.items()}
    sides[PEAK] = LargeProduct().rate
    for each in runners.values():
        each.run(2)
    found = in_turn(options.rounds, sides)
    show(runners, {name: np.asarray(values) for name, values in found.items()}, model)


def packed(model: Model, data: Dataset) -> Runner:
    """Rows of 128 tokens that sequences share."""
    shape = BatchShape(BATCH_TOKENS // 128, 128, slots_for(data.lengths, 128))
    rows = plan_by_tokens(data.lengths, shape, np.random.default_rng(0))
    return runner(model, data, shape, rows)


def padded(model: Model, data: Dataset) -> Runner:
    """A sequence a row, as long as the longest: one shape for all, as compiling once asks for."""
    longest = max(data.lengths)
    shape = BatchShape(BATCH_TOKENS // longest, longest, 1)
    order = np.random.default_rng(0).permutation(len(data))
    rows = [
        [[int(index)] for index in order[start : start + shape.row_count]]
        for start in range(0, len(order), shape.row_count)
    ]
    return runner(model, data, shape, rows)


def runner(model: Model, data: Dataset, shape: BatchShape, plan: list[list[Row]]) -> Runner:
    """Compile a step for a shape."""
    schedule = learning_rate_schedule(3e-3, 900, warmup=0.1, schedule="cosine")
    optimizer = make_optimizer(schedule, weight_decay=0.01, clip_norm=1.0)
    state = initial_state(model.params, optimizer, seed=0)
    batches = [  # the last may be short; a step takes an axis of micro-batches
        jax.tree.map(lambda leaf: leaf[None], data.batch(rows, shape)) for rows in plan[:-1]
    ]
    step_spec = StepSpec(model, data.task, optimizer, LossOptions())
    step = make_step(step_spec).lower(state, Constants({}), *batches[0]).compile()
    real = float(np.mean([batch.lengths.sum() for batch, _ in batches]))
    room = shape.row_count * shape.row_tokens
    return Runner(step, state, batches, step.cost_analysis()["flops"], real, 1 - real / room)


def show(runners: dict[str, Runner], found: dict[str, np.ndarray], model: Model) -> None:
    """Print the table."""
    encoder, peak = model.config.encoder, found[PEAK]
    speeds = {name: runner.real_tokens / found[name] for name, runner in runners.items()}
    rows = [
        (
            name,
            f"{runner.padding:.1%}",
            spread(1e3 * found[name], ".1f"),
            spread(speeds[name], ",.0f"),
            spread(runner.flops / found[name] / peak, ".1%"),
        )
        for name, runner in runners.items()
    ]
    console = tables.wide_console()
    title = f"Training, D {encoder.embeddings.width}, {len(encoder.layers)} layers"
    tables.show(HEADS, rows, numbers=True, title=title, console=console)
    ratio = spread(speeds["packed"] / speeds["padded"], ".2f")
    console.print(f"packed / padded, real tokens/s: {ratio}", highlight=False)
    console.print(f"matmul peak: {spread(peak / 1e9, '.0f')} GFLOP/s (float32)", highlight=False)


if __name__ == "__main__":
    main()
