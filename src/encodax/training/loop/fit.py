"""Training loop: steps, evaluations, checkpoints, and the best model."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encodax.data.batches import BatchShape
from encodax.errors import EncodaxError
from encodax.inference.evaluation import Evaluator
from encodax.model_files.run_files import evaluation_sort_key
from encodax.process import forks
from encodax.storage import outputs
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import AnyModel
from encodax.training.batches.pipeline import Batch, batches
from encodax.training.loop import checkpoint, distributed
from encodax.training.loop.best import BestModelDirectory, weights_digest
from encodax.training.loop.checkpoint import Checkpoints, DamagedCheckpoint
from encodax.training.loop.device_peak import matmul_peak
from encodax.training.loop.loss_monitor import LossMonitor
from encodax.training.loop.preemption import Interruption, Stopped, StopRequested
from encodax.training.loop.profiler import Profiler
from encodax.training.loop.progress import RunLog
from encodax.training.setup import fingerprint as facts
from encodax.training.setup.run import CompiledStep, Run
from encodax.training.step import sharding
from encodax.training.step.partition import merged_params
from encodax.training.step.step import StepMetrics, TrainState
from encodax.types.batches import AnyBatch, PairBatch, Params, packed_batches_of

BAD_BATCH_FILE = "bad_batch.npz"


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


@dataclass(frozen=True)
class RunOutput:
    """Output paths of a run, and the checkpoint that it resumes from."""

    out: Path | None = None
    """Directory of the model and of the log; None to write neither."""
    checkpoints: Path | None = None
    resume: bool = False
    resume_step: int | None = None
    """Step of the checkpoint to resume from; None for the newest."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the steps of the run depend on, by name: they must be the same when it resumes."""
    kept: BestModelDirectory | None = None
    """Directory for every new best model; None to write none."""


def fit(
    run: Run,
    train: Dataset,
    evaluate: Evaluator,
    *,
    log: Callable[[int, int], RunLog],
    keeping: RunOutput,
) -> FitResult:
    """Train a model.

    Args:
        run: the prepared run.
        train: training data.
        evaluate: function that measures parameters.
        log: function from the number of steps in total and of those done to the log of the run.
        keeping: output paths.

    Raises:
        EncodaxError: several steps in a row had losses that are not finite, or an evaluation had
            scores that are not; or something cannot be written.
        Stopped: SIGTERM, SIGHUP or SIGINT has arrived, and everything is saved.
    """
    forks.check()
    state = run.initial_state()
    interruption = Interruption(functools.partial(resume_hint, keeping.checkpoints))
    best = BestModel(run, interruption.interruptible(evaluate), keeping)
    meter = _Meter(run.plan.shape, run.plan.micro_batches)
    with contextlib.ExitStack() as open_things:
        open_things.enter_context(interruption)
        saver = open_things.enter_context(_Saver.opened(run, best, meter, keeping))
        state = saver.restored(state)
        step = first = int(state.step)
        run_log = open_things.enter_context(log(run.plan.steps, first))
        saver.tells(run_log)
        profiler = open_things.enter_context(Profiler(run.settings.profiled(), keeping.out))
        reporter = _Reporter(run, train, meter, run_log, keeping.out)
        source = open_things.enter_context(contextlib.closing(batches(run.reader, first)))
        open_things.enter_context(
            distributed.exit_on_lost_process()
        )  # before others close, which may wait
        try:
            step_of = interruption.interruptible(run.compiled)(state)
            meter.peak = interruption.interruptible(_peak)(run, step_of)
            if saver.owes_evaluation:
                _evaluate(step, state, best, meter, run_log)
            is_over = best.is_over
            while step < run.plan.steps and not is_over:
                with meter.waiting():
                    item = next(source)
                step += 1
                profiler.before(step)
                state, metrics = step_of.run(state, run.constants, *run.on_devices(item))
                reporter.dispatched(step, item, metrics)
                is_asked = interruption.is_asked(step)
                is_measured = run.is_measured(step)
                is_saved = step % run.save_every == 0 or step == run.plan.steps
                if is_measured or is_saved or is_asked or profiler.is_open:
                    reporter.flush()
                    profiler.after(step)
                if is_asked:
                    raise StopRequested
                if is_saved:  # before the evaluation, which takes time
                    with meter.paused():
                        saver.save(state, source.get_state())
                if is_measured:
                    _evaluate(step, state, best, meter, run_log)
                    if is_over := best.is_over:
                        saver.save(state, source.get_state(), is_judged=True)
                saver.check()
            saver.finish()
            if is_over:
                run_log.note(
                    f"stopped early: {best.waited} evaluations without a better {best.metric}"
                )
            if run.settings.average:
                steps, mean = interruption.interruptible(saver.mean)(state, run.settings.average)
                is_best = best.evaluate(step, mean)
                run_log.average(step, len(steps), best.last)
                run_log.note(
                    f"the mean of the checkpoints of steps {', '.join(map(str, steps))}: "
                    f"{best.metric} {best.last[best.metric]:.4f}"
                    + (", the best: it is the model" if is_best else ", no better than the best")
                )
        except (
            StopRequested
        ):  # what was interrupted has changed nothing: the state is that of the step
            if step > first:
                saver.save(state, source.get_state())
            saver.finish()
            raise Stopped(
                f"stopped by {interruption.cause.name} after step {step} of {run.plan.steps}; "
                + resume_hint(keeping.checkpoints),
                interruption.cause,
            ) from None
    return FitResult(
        model=best.best_model(),
        metrics=best.best_metrics,
        best_step=best.best_step,
        steps=step,
        seconds=meter.seconds_in_all,
        tokens_per_second=meter.tokens_per_second,
        padding=meter.padding,
        curve=run_log.curve,
    )


def _evaluate(
    step: int, state: TrainState, best: BestModel, meter: _Meter, run_log: RunLog
) -> None:
    """Measure the parameters of a step, and keep them if they are the best."""
    with meter.paused():
        is_best = best.evaluate(step, state.params)
    run_log.evaluation(step, best.last, is_best=is_best)


def resume_hint(checkpoints: Path | None) -> str:
    """Tell how a stopped run can be resumed."""
    if checkpoints is None:
        return "nothing is saved: the run had no place for checkpoints"
    steps = checkpoint.steps_on_disk(checkpoints)
    if not steps:
        return "nothing is saved yet: begin anew"
    return f"{checkpoints}/{steps[-1]} is saved: go on with --resume"


def _peak(run: Run, step: CompiledStep) -> float:
    """Return the steps per second at the peak speed of matrix products; 0 if unknown."""
    if run.settings.scan or run.plan.micro_batches > 1 or not step.flops:
        return 0.0  # XLA counts the body of a loop once
    dtype = np.float32 if run.recipe.precision == "float32" else jax.numpy.bfloat16
    return matmul_peak(dtype) / step.flops


class _Reporter:
    """Reporter that reads a step's metrics while the next step runs, and acts on them."""

    def __init__(self, run: Run, data: Dataset, meter: _Meter, log: RunLog, out: Path | None):
        self._run, self._data, self._meter, self._log, self._out = run, data, meter, log, out
        self._guard = LossMonitor(run.settings.bad_steps)
        self._open: tuple[int, Batch, StepMetrics] | None = None

    def dispatched(self, step: int, item: Batch, metrics: StepMetrics) -> None:
        """Report the previous step, after a new one was started."""
        self.flush()
        self._open = (step, item, metrics)

    def flush(self) -> None:
        """Wait for the running step, and report it.

        Raises:
            EncodaxError: too many steps in a row were not finite; the batch is saved.
        """
        if self._open is None:
            return
        (step, item, metrics), self._open = self._open, None
        loss, norm = float(metrics.loss), float(metrics.gradient_norm)
        rate = float(self._run.schedule(step - 1))
        told = self._guard.record(loss, is_finite=bool(metrics.is_finite))
        if told:
            self._log.note(f"step {step}: {told}")
        tokens = sum(int(np.sum(side.lengths)) for side in packed_batches_of(item.batch))
        self._meter.count(tokens * jax.process_count())
        entry = {
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens_per_second": self._meter.tokens_per_second,
            "padding": self._meter.padding,
            "waiting": self._meter.waited,
        }
        if self._meter.peak:
            entry["share_of_peak"] = self._meter.share_of_peak
        if self._guard.skipped:
            entry["skipped"] = self._guard.skipped
        if self._guard.is_over:
            raise self._stopped(step, item, loss, norm, rate)
        self._log.step(step, entry)

    def _stopped(
        self, step: int, item: Batch, loss: float, norm: float, rate: float
    ) -> EncodaxError:
        name, value = ("loss", loss) if not math.isfinite(loss) else ("norm of the gradient", norm)
        rows = self._run.plan.rows(item.step)
        indices = sorted(index for row in rows for index in row)
        shown = "; ".join(map(self._data.where, indices[:8]))
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        saved = ""
        if self._out is not None:
            place = self._out / f"{jax.process_index() or ''}{BAD_BATCH_FILE}"
            arrays = {**_arrays_of(item.batch), **_flat("targets", item.targets)}
            with outputs.open_file(place, binary=True) as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            saved = f"; it is in {place}"
        several = f", as in {self._guard.limit} steps in a row" if self._guard.limit > 1 else ""
        return EncodaxError(
            f"step {step}: the {name} is {value} at learning rate {rate:.3g}{several}; a lower one "
            f"may help. The batch held: {shown}{more}{saved}"
        )


def _arrays_of(batch: AnyBatch) -> dict[str, np.ndarray]:
    names = ("source", "target") if isinstance(batch, PairBatch) else ("batch",)
    found: dict[str, np.ndarray] = {}
    for name, side in zip(names, packed_batches_of(batch), strict=True):
        found |= _flat(name, side)
    return found


def _flat(name: str, tree: Any) -> dict[str, np.ndarray]:
    found = vars(tree).items()
    return {f"{name}.{key}": np.asarray(leaf) for key, leaf in found if leaf is not None}


class BestModel:
    """Evaluator that keeps the best parameters."""

    def __init__(self, run: Run, evaluate: Evaluator, keeping: RunOutput):
        self._run, self._evaluate, self._keeping = run, evaluate, keeping
        self.metric = run.metric
        self._best: AnyModel | None = None
        self._sha256: str | None = None
        """Digest of the best model's weights, if they are written."""
        self._only_metrics_left = False
        """Whether only the metrics of the best model are left: the next one then counts as
        better."""
        self.best_metrics: dict[str, float] = {}
        self.best_step = 0
        self.last: dict[str, float] = {}
        self.waited = 0
        """Number of evaluations since the metric improved."""

    def evaluate(self, step: int, params: Params) -> bool:
        """Evaluate these parameters; if they are the best so far, keep them and return True.

        Ties by the metric are decided by the lower loss, and ties by the loss by the later step.
        """
        trained = sharding.gathered(params, self._run.mesh)
        whole = merged_params(trained, self._frozen)
        try:
            self.last = self._evaluate(whole)
        except EncodaxError as error:
            raise EncodaxError(f"step {step}: {error}; a lower learning rate may help") from error
        own = self._rank(self.last)
        best = self._rank(self.best_metrics) if self.best_metrics else None
        self.waited = 0 if best is None or own[0] > best[0] else self.waited + 1
        if best is not None and own < best and not self._only_metrics_left:
            return False
        self.best_metrics, self.best_step = self.last, step
        self._keep(trained, whole)
        return True

    def _keep(self, trained: Params, whole: Params) -> None:
        self._best, self._only_metrics_left = replace(self._run.recipe.model, params=whole), False
        kept = self._keeping.kept
        if kept is not None and distributed.is_first():
            kept.write(self._best, trained)
            self._sha256 = weights_digest(kept.out)

    def _rank(self, found: dict[str, float]) -> tuple[float, float]:
        return evaluation_sort_key(found, self.metric, larger_is_better=self._run.larger_is_better)

    @functools.cached_property
    def _frozen(self) -> Params:
        """Frozen parameters, gathered once."""
        return sharding.gathered(self._run.constants.frozen, self._run.mesh)

    @property
    def is_over(self) -> bool:
        """Whether the patience is exhausted."""
        patience = self._run.settings.patience
        return patience is not None and self.waited >= patience

    def best_model(self) -> AnyModel:
        """Return the best model of the run, even if an earlier part of it found it."""
        return self._best or self._run.recipe.model

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint stores of this object."""
        return {
            "metrics": self.best_metrics,
            "step": self.best_step,
            "waited": self.waited,
            "sha256": self._sha256,
        }

    def restore(self, record: dict[str, Any]) -> None:
        """Restore what a checkpoint stored; `recover` then looks for the best model."""
        self.best_metrics, self.best_step = record["metrics"], record["step"]
        self.waited = record["waited"]
        self._sha256 = record.get("sha256")  # older versions did not store it

    def recover(self, saved: Callable[[int], Params | None], *, is_last: bool) -> str | None:
        """Find the best model of the steps that are done: in OUT, or else in its checkpoint.

        If it is in neither, a later part of the same run may have written a better one to OUT, from
        steps
        that will be repeated: then the best of these becomes the model.

        Args:
            saved: function from a step to the trained parameters in its checkpoint, or None.
            is_last: whether no evaluation follows.

        Returns:
            A note to log, or None.

        Raises:
            EncodaxError: the best model is lost.
        """
        kept, step = self._keeping.kept, self.best_step
        if not self.best_metrics or self._reads():
            return None
        is_own = kept is None or distributed.broadcast_from_first(
            kept.has_logged(step, self.best_metrics)
        )
        trained = saved(step)
        if trained is not None:
            return self._writes_again(trained, is_own=is_own)
        if kept is not None and is_own and self._sha256 is None:
            self._best = kept.read()
            return (
                f"the best model, of step {step}, is taken to be that in {kept.out}: an older "
                "version of Encodax has saved it, and did not note its sha256"
            )
        place = "kept nowhere" if kept is None else f"not in {kept.out}"
        lost = f"the best model so far, of step {step}, is {place}, and has no checkpoint"
        if not is_own or is_last:
            raise EncodaxError(f"{lost}; bring it back, or begin anew (--overwrite)")
        self._only_metrics_left = True
        return f"{lost}: the best of the steps from here on will be the model"

    def _writes_again(self, trained: Params, *, is_own: bool) -> str | None:
        """Rebuild the best model from its checkpoint, write it to its place, and return a note."""
        kept = self._keeping.kept
        trained = sharding.gathered(trained, self._run.mesh)
        self._keep(trained, merged_params(trained, self._frozen))
        if kept is None:
            return None
        if not is_own and distributed.is_first():
            kept.forget_log()
        step = self.best_step
        return f"the best model, of step {step}, is written to {kept.out} from its checkpoint"

    def _reads(self) -> bool:
        """Read the best model back; return False if it is no longer where it was written."""
        kept = self._keeping.kept
        if kept is None:
            return False
        found = kept.read_if(self._sha256)
        if distributed.broadcast_from_first(found is not None):
            self._best = found or kept.read()
            return True
        return False


class _Saver:
    """Checkpoints of a run; it does nothing if the run has no directory for them."""

    def __init__(self, run: Run, best: BestModel, meter: _Meter, keeping: RunOutput):
        self._run, self._judge, self._meter, self._keeping = run, best, meter, keeping
        self._log: RunLog | None = None
        self._notes: list[str] = []
        self._unwritten: dict[str, Any] = {}
        self.owes_evaluation = False
        """Whether the checkpoint was written before an evaluation of its step, which must
        follow."""
        self._checkpoints = None
        if keeping.checkpoints is not None:
            kept = max(run.settings.keep, run.settings.average or 0)
            self._checkpoints = Checkpoints(keeping.checkpoints, kept, lambda: best.best_step)

    @classmethod
    @contextmanager
    def opened(cls, *arguments: Any) -> Iterator[_Saver]:
        """Create a saver, and close it on any exit."""
        saver = cls(*arguments)
        try:
            yield saver
        finally:
            if saver._checkpoints is not None:
                saver._checkpoints.abandon()

    def restored(self, state: TrainState) -> TrainState:
        """Return the state to start from: this one, or that of a checkpoint.

        Raises:
            EncodaxError: there is no checkpoint, it is damaged, or it belongs to another run.
        """
        if not self._keeping.resume:
            return state
        assert self._checkpoints is not None
        found = self._checkpoints.restore(state, self._keeping.resume_step, self._check)
        record = found.record
        if changed := checkpoint.differences(
            record["surroundings"], checkpoint.surroundings(self._run.mesh)
        ):
            self._notes.append(f"the run may go on with other bits than it would have: {changed}")
        self._judge.restore(record["best"])
        self._meter.restore(record["meter"])
        is_judged, was_measured = record["is_judged"], record["is_measured"]
        self.owes_evaluation = not is_judged and (was_measured or self._run.is_measured(found.step))
        self._unwritten = record["log"]
        is_last = found.step >= self._run.plan.steps or self._judge.is_over
        told = self._judge.recover(
            functools.partial(self._trained_at, state),
            is_last=is_last and not (self.owes_evaluation or self._run.settings.average),
        )
        if told is not None:
            self._notes.append(told)
        self._notes.append(f"going on after step {found.step}")
        return found.state

    def _trained_at(self, like: TrainState, step: int) -> Params | None:
        """Return the trained parameters in the checkpoint of a step; None without an intact one."""
        assert self._checkpoints is not None
        if step not in self._checkpoints.steps:
            return None
        try:
            return self._checkpoints.restore(like, step, self._check).state.params
        except DamagedCheckpoint:
            return None

    def _check(self, record: dict[str, Any], step: int) -> None:
        """Refuse a checkpoint of another run, whose state may have other shapes."""
        before = record.get("facts")
        facts.check(before, self._keeping.facts, step, self._keeping.checkpoints)

    def tells(self, log: RunLog) -> None:
        """Restore a log from the checkpoint, and store its unwritten part in later ones."""
        self._log = log
        log.restore(self._unwritten)
        for note in self._notes:
            log.note(note)

    def save(self, state: TrainState, position: Any, *, is_judged: bool = False) -> None:
        """Start to write a checkpoint, if there is a directory for them.

        Args:
            state: state of the run.
            position: position in the run's batches.
            is_judged: whether the parameters have been evaluated.
        """
        if self._checkpoints is None:
            return
        assert self._log is not None
        record = {
            "position": position,
            "best": self._judge.record(),
            "is_judged": is_judged,
            "is_measured": self._run.is_measured(int(state.step)),
            "meter": self._meter.record(),
            "log": self._log.record(),
            "surroundings": checkpoint.surroundings(self._run.mesh),
            "facts": self._keeping.facts,
        }
        self._checkpoints.save(state, record)

    def check(self) -> None:
        """Raise the error of a save, if there was one."""
        if self._checkpoints is not None:
            self._checkpoints.check()

    def finish(self) -> None:
        """Wait until the save in progress is complete."""
        if self._checkpoints is not None:
            self._checkpoints.finish()

    def mean(self, like: TrainState, count: int) -> tuple[list[int], Params]:
        """Return the steps of the newest checkpoints, and the mean of their trained parameters."""
        assert self._checkpoints is not None
        steps = self._checkpoints.steps[-count:]
        total: Any = None
        for step in steps:
            own = self._checkpoints.restore(like, step, self._check).state.params
            total = own if total is None else jax.tree.map(jax.numpy.add, total, own)
        return steps, jax.tree.map(lambda leaf: leaf / len(steps), total)


class _Meter:
    """Meter of tokens and seconds of training, without the first step, which compiles."""

    def __init__(self, shape: BatchShape, micro_batches: int):
        row = shape.row_tokens + (shape.target_tokens or 0)
        self._room = shape.row_count * row * micro_batches
        self._tokens = self._steps = 0
        self._tokens_timed = self._steps_timed = 0
        self._waited = 0.0
        self._begin = time.monotonic()
        self._timed_from = self._begin
        self.peak = 0.0
        """Steps per second at the peak speed of the device; 0 if unknown."""

    def count(self, tokens: int) -> None:
        """Count a finished step with this number of real tokens."""
        self._tokens += tokens
        self._steps += 1
        if self._steps_timed == 0:
            self._timed_from = time.monotonic()
            self._waited = 0.0
            self._steps_timed = 1
        else:
            self._tokens_timed += tokens
            self._steps_timed += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent inside this context."""
        before = time.monotonic()
        yield
        self._timed_from += time.monotonic() - before

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside this context as waiting for data."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._timed_from, 1e-9)

    @property
    def waited(self) -> float:
        """Share of the time that was spent waiting for data."""
        return self._waited / self._seconds if self._steps_timed > 1 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Number of real tokens per second of steps."""
        return self._tokens_timed / self._seconds

    @property
    def share_of_peak(self) -> float:
        """Ratio of the steps' floating-point operations to those of a large matrix product."""
        return (self._steps_timed - 1) / self._seconds / self.peak

    @property
    def padding(self) -> float:
        """Share of the rows' tokens that are padding."""
        return 1 - self._tokens / (self._room * max(self._steps, 1))

    @property
    def seconds_in_all(self) -> float:
        """Seconds since the start, compilation and evaluations included."""
        return time.monotonic() - self._begin

    def record(self) -> dict[str, int]:
        """Return what a checkpoint stores of this object."""
        return {"tokens": self._tokens, "steps": self._steps}

    def restore(self, record: dict[str, int]) -> None:
        """Restore what a checkpoint stored."""
        self._tokens, self._steps = record["tokens"], record["steps"]
