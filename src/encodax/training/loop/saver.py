"""Checkpoints of a run: what they store, and how a run resumes from one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from encodax.training.loop import checkpoint
from encodax.training.loop.best import BestModel
from encodax.training.loop.checkpoint import Checkpoints, DamagedCheckpoint
from encodax.training.loop.meter import Meter
from encodax.training.loop.output import RunOutput
from encodax.training.loop.progress import RunLog
from encodax.training.setup import fingerprint
from encodax.training.setup.run import Run
from encodax.training.step.step import TrainState
from encodax.types.batches import Params


class Saver:
    """Checkpoints of a run; it does nothing if the run has no directory for them."""

    def __init__(self, run: Run, best: BestModel, meter: Meter, output: RunOutput):
        self._run, self._best, self._meter, self._output = run, best, meter, output
        self._log: RunLog | None = None
        self._notes: list[str] = []
        self._unwritten: dict[str, Any] = {}
        self.needs_evaluation = False
        """Whether the checkpoint was written before an evaluation of its step, which must
        follow."""
        self._checkpoints = None
        if output.checkpoints is not None:
            count = max(run.settings.keep, run.settings.average or 0)
            self._checkpoints = Checkpoints(output.checkpoints, count, lambda: best.best_step)

    @classmethod
    @contextmanager
    def opened(cls, *arguments: Any) -> Iterator[Saver]:
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
        if not self._output.resume:
            return state
        assert self._checkpoints is not None
        found = self._checkpoints.restore(state, self._output.resume_step, self._check)
        record = found.record
        if changed := checkpoint.differences(
            record["surroundings"], checkpoint.surroundings(self._run.mesh)
        ):
            self._notes.append(f"the run may no longer give the same bits: {changed}")
        self._best.restore(record["best"])
        self._meter.restore(record["meter"])
        is_evaluated, was_measured = record["is_judged"], record["is_measured"]
        self.needs_evaluation = not is_evaluated and (
            was_measured or self._run.is_measured(found.step)
        )
        self._unwritten = record["log"]
        is_last = found.step >= self._run.plan.steps or self._best.is_over
        note = self._best.recover(
            functools.partial(self._trained_at, state),
            is_last=is_last and not (self.needs_evaluation or self._run.settings.average),
        )
        if note is not None:
            self._notes.append(note)
        self._notes.append(f"resuming after step {found.step}")
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
        fingerprint.check(before, self._output.facts, step, self._output.checkpoints)

    def attach(self, log: RunLog) -> None:
        """Restore a log from the checkpoint, and store its unwritten part in later ones."""
        self._log = log
        log.restore(self._unwritten)
        for note in self._notes:
            log.note(note)

    def save(self, state: TrainState, position: Any, *, is_evaluated: bool = False) -> None:
        """Start to write a checkpoint, if there is a directory for them.

        Args:
            state: state of the run.
            position: position in the run's batches.
            is_evaluated: whether the parameters have been evaluated.
        """
        if self._checkpoints is None:
            return
        assert self._log is not None
        record = {
            "position": position,
            "best": self._best.record(),
            "is_judged": is_evaluated,
            "is_measured": self._run.is_measured(int(state.step)),
            "meter": self._meter.record(),
            "log": self._log.record(),
            "surroundings": checkpoint.surroundings(self._run.mesh),
            "facts": self._output.facts,
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
