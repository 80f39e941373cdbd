"""Report of each step: its metrics in the log, and what follows from a loss that is not finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encodax.errors import EncodaxError
from encodax.storage import outputs
from encodax.tasks.dataset import Dataset
from encodax.training.batches.pipeline import Batch
from encodax.training.loop.loss_monitor import LossMonitor
from encodax.training.loop.meter import Meter
from encodax.training.loop.progress import RunLog
from encodax.training.setup.run import Run
from encodax.training.step.step import StepMetrics
from encodax.types.batches import AnyBatch, PairBatch, packed_batches_of

BAD_BATCH_FILE = "bad_batch.npz"


class Reporter:
    """Reporter that reads a step's metrics while the next step runs, and acts on them."""

    def __init__(self, run: Run, data: Dataset, meter: Meter, log: RunLog, out: Path | None):
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
        alarm = self._guard.record(loss, is_finite=bool(metrics.is_finite))
        if alarm:
            self._log.note(f"step {step}: {alarm}")
        tokens = sum(int(np.sum(side.lengths)) for side in packed_batches_of(item.batch))
        self._meter.count(tokens * jax.process_count())
        entry = {
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens_per_second": self._meter.tokens_per_second,
            "padding": self._meter.padding,
            "waiting": self._meter.waiting_share,
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
            f"step {step}: the {name} is {value} at learning rate {rate:.3g}{several}; try a lower "
            f"one. The batch held: {shown}{more}{saved}"
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
