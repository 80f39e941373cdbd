"""Training loop: steps, evaluations, checkpoints, and the best model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from encodax.inference.evaluation import Evaluator
from encodax.process import forks
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import AnyModel
from encodax.training.batches.pipeline import batches
from encodax.training.loop import checkpoint, distributed
from encodax.training.loop.best import BestModel
from encodax.training.loop.meter import Meter, peak_steps_per_second
from encodax.training.loop.output import RunOutput
from encodax.training.loop.preemption import Interruption, Stopped, StopRequested
from encodax.training.loop.profiler import Profiler
from encodax.training.loop.progress import RunLog
from encodax.training.loop.reporter import Reporter
from encodax.training.loop.saver import Saver
from encodax.training.setup.run import Run
from encodax.training.step.step import Step, TrainState


@dataclass(frozen=True)
class FitResult:
    """Result of a run."""

    model: AnyModel
    """Model with the best parameters seen."""
    metrics: dict[str, float]
    """Metrics of the best parameters, on the evaluation data."""
    best_step: int
    steps: int
    """Number of steps done: fewer than planned if the run stopped early."""
    seconds: float
    """Duration of the run, compilation and evaluation included."""
    tokens_per_second: float
    """Number of real tokens trained on per second of steps, evaluation excluded."""
    padding: float
    """Share of the rows' tokens that were padding."""
    curve: list[dict[str, int | float]]
    """Learning curve, as in `metrics.jsonl`."""


def fit(
    run: Run,
    train: Dataset,
    evaluate: Evaluator,
    *,
    log: Callable[[int, int], RunLog],
    output: RunOutput,
) -> FitResult:
    """Train a model.

    Args:
        run: the prepared run.
        train: training data.
        evaluate: function that measures parameters.
        log: function from the number of steps in total and of those done to the log of the run.
        output: output paths.

    Raises:
        EncodaxError: several steps in a row had losses that are not finite, or an evaluation had
            scores that are not; or something cannot be written.
        Stopped: SIGTERM, SIGHUP or SIGINT has arrived; the state is saved if the run has a
            directory for checkpoints.
    """
    forks.check()
    interruption = Interruption(functools.partial(resume_hint, output.checkpoints))
    best = BestModel(run, interruption.interruptible(evaluate), output.best_model)
    meter = Meter(run.plan.shape, run.plan.micro_batches)
    with interruption, Saver.opened(run, best, meter, output) as saver:
        state = saver.restored(run.initial_state())
        first = int(state.step)
        with (
            log(run.plan.steps, first) as run_log,
            Profiler(run.settings.profiled(), output.out) as profiler,
            closing(batches(run.reader, first)) as source,
            distributed.exit_on_lost_process(),  # the last to open: closing the others may wait
        ):
            saver.attach(run_log)
            reporter = Reporter(run, train, meter, run_log, output.out)
            loop = _Loop(
                run, state, interruption, best, meter, saver, run_log, profiler, reporter, source
            )
            try:
                loop.run_all()
            except StopRequested:  # the state is that of the step: what was interrupted is undone
                loop.save_and_stop(first, output.checkpoints)
    return FitResult(
        model=best.best_model(),
        metrics=best.best_metrics,
        best_step=best.best_step,
        steps=loop.step,
        seconds=meter.seconds_in_all,
        tokens_per_second=meter.tokens_per_second,
        padding=meter.padding,
        curve=run_log.curve,
    )


@dataclass
class _Loop:
    """Steps of a run, and what happens after each."""

    run: Run
    state: TrainState
    interruption: Interruption
    best: BestModel
    meter: Meter
    saver: Saver
    log: RunLog
    profiler: Profiler
    reporter: Reporter
    source: Any
    """Iterator over the batches, with `get_state`."""

    def __post_init__(self) -> None:
        self.step = int(self.state.step)
        """Number of steps done."""

    def run_all(self) -> None:
        """Do all steps that are left, and average checkpoints if the settings ask for it.

        Raises:
            StopRequested: a signal has arrived.
        """
        compiled = self.interruption.interruptible(self.run.compiled)(self.state)
        peak = self.interruption.interruptible(peak_steps_per_second)
        self.meter.peak = peak(self.run, compiled)
        if self.saver.needs_evaluation:
            self._evaluate()
        while self.step < self.run.plan.steps and not self.best.is_over:
            self._advance(compiled.run)
            self._save_and_evaluate()
            self.saver.check()
        self.saver.finish()
        if self.best.is_over:
            self.log.note(
                f"stopped early: {self.best.evaluations_without_gain} evaluations without a better "
                f"{self.best.metric}"
            )
        if self.run.settings.average:
            self._average(self.run.settings.average)

    def _advance(self, update: Step) -> None:
        """Do one step; its metrics are read while the next one runs."""
        with self.meter.waiting():
            item = next(self.source)
        self.step += 1
        self.profiler.before(self.step)
        batch, targets = self.run.on_devices(item)
        self.state, metrics = update(self.state, self.run.constants, batch, targets)
        self.reporter.dispatched(self.step, item, metrics)

    def _save_and_evaluate(self) -> None:
        """Save and evaluate the state, if this is due after its step.

        Raises:
            StopRequested: a signal has arrived.
        """
        is_stopped = self.interruption.must_stop(self.step)
        is_measured = self.run.is_measured(self.step)
        is_saved = self.run.is_saved(self.step)
        if is_measured or is_saved or is_stopped or self.profiler.is_open:
            self.reporter.flush()
            self.profiler.after(self.step)
        if is_stopped:
            raise StopRequested
        if is_saved:  # before the evaluation, which takes time
            with self.meter.paused():
                self.saver.save(self.state, self.source.get_state())
        if is_measured:
            self._evaluate()
            if self.best.is_over:
                self.saver.save(self.state, self.source.get_state(), is_evaluated=True)

    def _evaluate(self) -> None:
        """Measure the parameters, and keep them if they are the best."""
        with self.meter.paused():
            is_best = self.best.evaluate(self.step, self.state.params)
        self.log.evaluation(self.step, self.best.last, is_best=is_best)

    def _average(self, count: int) -> None:
        """Measure the mean of the newest checkpoints, and keep it if it is the best."""
        steps, mean = self.interruption.interruptible(self.saver.mean)(self.state, count)
        is_best = self.best.evaluate(self.step, mean)
        self.log.average(self.step, len(steps), self.best.last)
        self.log.note(
            f"the mean of the checkpoints of steps {', '.join(map(str, steps))}: "
            f"{self.best.metric} {self.best.last[self.best.metric]:.4f}"
            + (", the best: it is the model" if is_best else ", no better than the best")
        )

    def save_and_stop(self, first: int, checkpoints: Path | None) -> NoReturn:
        """Save the state, unless the run started with it, and raise the error that ends the run.

        Raises:
            Stopped: always.
        """
        if self.step > first:
            self.saver.save(self.state, self.source.get_state())
        self.saver.finish()
        raise Stopped(
            f"stopped by {self.interruption.cause.name} after step {self.step} of "
            f"{self.run.plan.steps}; " + resume_hint(checkpoints),
            self.interruption.cause,
        ) from None


def resume_hint(checkpoints: Path | None) -> str:
    """Tell how a stopped run can be resumed."""
    if checkpoints is None:
        return "nothing is saved: the run had no place for checkpoints"
    steps = checkpoint.steps_on_disk(checkpoints)
    if not steps:
        return "nothing is saved yet: start again"
    return f"{checkpoints}/{steps[-1]} is saved: continue with --resume"
