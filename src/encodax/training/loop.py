"""The training loop: steps, evaluations, the best model kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import jax
import numpy as np

from encodax.data.batches import BatchShape
from encodax.data.packing import Row
from encodax.errors import EncodaxError
from encodax.inference.predictors import Predictor
from encodax.model import Model
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Objective
from encodax.training.optimizer import learning_rate_schedule, make_optimizer
from encodax.training.plan import make_plan
from encodax.training.progress import RunLog
from encodax.training.settings import TrainSettings
from encodax.training.step import initial_state, make_step
from encodax.types import Params


@dataclass(frozen=True)
class Fitted:
    """What a run leaves."""

    model: Model
    """With the best parameters seen."""
    metrics: dict[str, float]
    """Of the best parameters, on the evaluation data."""
    best_step: int
    steps: int
    """Steps done: fewer than planned where the run stopped early."""
    seconds: float
    """Of the run, compilation and evaluation included."""
    tokens_per_second: float
    """Real tokens trained on in a second of steps, evaluation left out."""
    padding: float
    """Share of the rows' tokens that were padding."""
    curve: list[dict[str, int | float]]
    """The learning curve, as in `metrics.jsonl`."""


def fit(
    model: Model,
    train: Dataset,
    evaluation: Dataset,
    settings: TrainSettings,
    *,
    log: Callable[[int], RunLog],
    keep: Callable[[Model], None] = lambda model: None,
) -> Fitted:
    """Train a model.

    Args:
        model: where to begin.
        train: what to learn.
        evaluation: what says which model is best.
        settings: how to train.
        log: makes the log of a run of so many steps.
        keep: called with every new best model.

    Raises:
        EncodaxError: the loss or its gradient is not finite; the step, the learning rate and the
            examples of the batch are named. Or the scores in an evaluation are not finite.
    """
    plan = make_plan(train.lengths, settings)
    schedule = learning_rate_schedule(
        settings.learning_rate, plan.steps, warmup=settings.warmup, schedule=settings.schedule
    )
    optimizer = make_optimizer(
        schedule, weight_decay=settings.weight_decay, clip_norm=settings.clip_norm
    )
    state = initial_state(model, optimizer, settings.seed)
    step_of = make_step(
        model, train.task, optimizer, Objective(label_smoothing=settings.label_smoothing)
    )
    judge = _Judge(model, evaluation, keep)
    meter = _Meter(plan.shape)
    evaluate_every = settings.evaluate_every or math.ceil(plan.steps / 10)

    with log(plan.steps) as run_log:
        for step, rows in enumerate(plan.batches(), 1):
            batch, targets = train.batch(rows, plan.shape)
            model.check(batch)
            state, metrics = step_of(state, batch, targets)
            loss, rate = float(metrics.loss), float(schedule(step - 1))
            gradient_norm = float(metrics.gradient_norm)
            for name, value in {"loss": loss, "norm of the gradient": gradient_norm}.items():
                if not math.isfinite(value):
                    told = f"step {step}: the {name} is {value} at learning rate {rate:.3g}"
                    raise EncodaxError(f"{told}; a lower one may help. {_held(train, rows)}")
            meter.count(int(np.sum(batch.lengths)))
            run_log.step(
                step,
                {
                    "loss": loss,
                    "learning_rate": rate,
                    "gradient_norm": gradient_norm,
                    "tokens_per_second": meter.tokens_per_second,
                    "padding": meter.padding,
                },
            )
            if step % evaluate_every == 0 or step == plan.steps:
                with meter.paused():
                    is_best = judge.sees(step, state.params)
                run_log.evaluation(step, judge.last, is_best=is_best)
                if settings.patience and judge.waited >= settings.patience:
                    run_log.note(
                        f"stopped early: {judge.waited} evaluations without a better "
                        f"{train.task.METRIC}"
                    )
                    break
    return Fitted(
        model=judge.best,
        metrics=judge.best_metrics,
        best_step=judge.best_step,
        steps=step,
        seconds=meter.seconds_in_all,
        tokens_per_second=meter.tokens_per_second,
        padding=meter.padding,
        curve=run_log.curve,
    )


def _held(train: Dataset, rows: Sequence[Row]) -> str:
    examples = sorted(index for row in rows for index in row)
    shown = "; ".join(map(train.where, examples[:8]))
    more = f" and {len(examples) - 8} more" if len(examples) > 8 else ""
    return f"The batch held: {shown}{more}"


class _Judge:
    """Evaluates, and remembers the best parameters."""

    def __init__(self, model: Model, data: Dataset, keep: Callable[[Model], None]):
        self._predictor: Predictor[object] = Predictor(model)
        self._data = data
        self._keep = keep
        self.best = model
        self.best_metrics: dict[str, float] = {}
        self.best_step = 0
        self.last: dict[str, float] = {}
        self.waited = 0
        """Evaluations since the best."""

    def sees(self, step: int, params: Params) -> bool:
        """Evaluate these parameters; True, and kept, where they are the best so far."""
        try:
            self.last = self._predictor.measure(self._data, params)
        except EncodaxError as error:
            raise EncodaxError(f"step {step}: {error}; a lower learning rate may help") from error
        metric = self._data.task.METRIC
        if self.best_metrics and self.last[metric] <= self.best_metrics[metric]:
            self.waited += 1
            return False
        own = jax.tree.map(jax.numpy.array, params)  # the next step gives params away
        self.best = replace(self.best, params=own)
        self.best_metrics, self.best_step, self.waited = self.last, step, 0
        self._keep(self.best)
        return True


class _Meter:
    """Counts tokens and seconds of training, without the first step, which compiles."""

    def __init__(self, shape: BatchShape):
        self._room = shape.row_count * shape.row_tokens
        self._tokens = self._steps = 0
        self._tokens_timed = 0
        self._begin = time.monotonic()
        self._timed_from = self._begin

    def count(self, tokens: int) -> None:
        """A step over so many real tokens is done."""
        self._tokens += tokens
        self._steps += 1
        if self._steps == 1:
            self._timed_from = time.monotonic()
        else:
            self._tokens_timed += tokens

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens meanwhile."""
        before = time.monotonic()
        yield
        self._timed_from += time.monotonic() - before

    @property
    def tokens_per_second(self) -> float:
        """Real tokens in a second of steps."""
        return self._tokens_timed / max(time.monotonic() - self._timed_from, 1e-9)

    @property
    def padding(self) -> float:
        """Share of the rows' room that no token filled."""
        return 1 - self._tokens / (self._room * max(self._steps, 1))

    @property
    def seconds_in_all(self) -> float:
        """Since the start, compilation and evaluations included."""
        return time.monotonic() - self._begin
