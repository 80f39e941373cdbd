"""Speed of a run: tokens, seconds, padding, and the share of the device's peak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from encodax.data.batches import BatchShape
from encodax.training.loop.device_peak import matmul_peak
from encodax.training.setup.run import CompiledStep, Run


class Meter:
    """Meter of tokens and seconds of training; timing starts when the first step is done."""

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
    def waiting_share(self) -> float:
        """Share of the time that was spent waiting for data."""
        return self._waited / self._seconds if self._steps_timed > 1 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Number of real tokens per second of steps."""
        return self._tokens_timed / self._seconds

    @property
    def share_of_peak(self) -> float:
        """Floating-point operations per second, as a share of those of a large matrix product."""
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


def peak_steps_per_second(run: Run, step: CompiledStep) -> float:
    """Return the steps per second at the peak speed of matrix products; 0 if unknown."""
    if run.settings.scan or run.plan.micro_batches > 1 or not step.flops:
        return 0.0  # XLA counts the body of a loop once
    dtype = np.float32 if run.step_spec.precision == "float32" else jax.numpy.bfloat16
    return matmul_peak(dtype) / step.flops
