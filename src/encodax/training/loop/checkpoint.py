"""Checkpoints of a run, with Orbax: all that a run needs to resume as if it had never stopped.

    CHECKPOINTS/120/state      parameters, optimizer state, step, random key
    CHECKPOINTS/120/record     JSON: data position, best model so far, checksum, surroundings

A save is asynchronous (the state is copied, then written while training continues) and atomic (a
directory gets its name when it is complete).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from jaxtyping import Array, UInt32
from orbax.checkpoint import checkpoint_managers as policies

from encodax.errors import EncodaxError, library_errors
from encodax.training.loop import checkpoint_folder, distributed
from encodax.training.step.step import TrainState


class DamagedCheckpoint(EncodaxError):
    """Error for a checkpoint that cannot be read, or that differs from what was saved."""


@dataclass(frozen=True)
class Restored:
    """Content of a checkpoint."""

    step: int
    state: TrainState
    record: dict[str, Any]


@dataclass
class Checkpoints:
    """Checkpoints of one run, in one directory."""

    directory: Path
    keep: int = 2
    """Number of newest checkpoints to keep, in addition to the best one."""
    best: Callable[[], int] = lambda: 0
    """Function that returns the best step so far."""

    @functools.cached_property
    def _manager(self) -> Any:
        """Orbax's manager; it and its directory are created when first needed."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(n=self.keep), _KeepStep(self.best)]
            ),
            cleanup_tmp_directories=True,
        )
        damaged = f"{self.directory}: a checkpoint is damaged; remove it, and resume from another"
        with library_errors(damaged):
            manager = ocp.CheckpointManager(self.directory.absolute(), options=options)
        if distributed.is_first():
            checkpoint_folder.mark(self.directory)
        return manager

    @property
    def _is_used(self) -> bool:
        return "_manager" in vars(self)

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps()) if self.directory.is_dir() else []

    def check(self) -> None:
        """Raise the error of an asynchronous save, if there was one.

        Raises:
            EncodaxError: the checkpoint could not be written; older ones are intact.
        """
        if self._is_used and not self._manager.is_saving_in_progress():
            with self._error_context():
                self._manager.wait_until_finished()  # raises the error of its thread

    def save(self, state: TrainState, record: dict[str, Any]) -> None:
        """Start to write a checkpoint; the state may be donated as soon as this returns.

        Args:
            state: state of the run.
            record: everything else that the run needs, as JSON.

        Raises:
            EncodaxError: this checkpoint, or an earlier one, could not be written.
        """
        step = int(state.step)
        kind = str(jax.random.key_impl(state.key))
        self._check_room(state)
        with self._error_context():
            if step not in self._manager.all_steps():
                record = {**record, "checksum": int(checksum(state)), "key": kind}
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(_as_arrays(state)),
                        record=ocp.args.JsonSave(_sealed(record)),
                    ),
                )

    def _check_room(self, state: TrainState) -> None:
        """Refuse to start a save that exceeds the free disk space: TensorStore's error is long.

        Raises:
            EncodaxError: names both sizes, and the complete checkpoints.
        """
        place = self.directory.absolute()
        while not place.exists():
            place = place.parent
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_as_arrays(state)))
        free = shutil.disk_usage(place).free
        if jax.process_count() == 1 and free < needed:
            steps = ", ".join(map(str, steps_on_disk(self.directory))) or "none"
            raise EncodaxError(
                f"{self.directory}: a checkpoint cannot be written: it needs {needed:,} bytes, and "
                f"the disk has {free:,} left; complete ones: {steps}"
            )

    def restore(
        self,
        like: TrainState,
        step: int | None = None,
        check: Callable[[dict[str, Any], int], None] = lambda record, step: None,
    ) -> Restored:
        """Read the newest checkpoint, or the one of a step.

        If that checkpoint is removed meanwhile, because a run still writes here, the search is
        repeated.

        Args:
            like: a state with the shapes and shardings of the one to restore.
            step: step of the checkpoint; None for the newest.
            check: function that may refuse a record with its step, before the state is read.

        Raises:
            EncodaxError: there is no such checkpoint, or it is damaged; the others are named.
        """
        steps = self.steps
        if not steps:
            raise EncodaxError(f"{self.directory}: there is no checkpoint to resume from")
        asked, step = step, steps[-1] if step is None else step
        if step not in steps:
            known = ", ".join(map(str, steps))
            raise EncodaxError(
                f"{self.directory}: there is no checkpoint of step {step}; there are: {known}"
            )
        try:
            return self._restored(like, step, check)
        except DamagedCheckpoint:
            if not _is_being_removed(self.directory / str(step)):
                raise
        self._manager.reload()
        return self.restore(like, asked, check)

    def _restored(
        self, like: TrainState, step: int, check: Callable[[dict[str, Any], int], None]
    ) -> Restored:
        found = self._read(step, record=ocp.args.JsonRestore())
        try:
            record = _unsealed(found["record"])
        except Exception as error:  # a damaged record can raise anything
            raise self._damaged(step, f": {_first_line(error)}") from error
        check(record, step)
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_arrays(like))
        found = self._read(step, state=ocp.args.StandardRestore(shapes))
        try:
            state = _from_arrays(found["state"], record["key"])
            whole = int(checksum(state)) == record["checksum"] and int(state.step) == step
        except Exception as error:  # a damaged state can raise anything
            raise self._damaged(step, f": {_first_line(error)}") from error
        if not whole:
            raise self._damaged(step, ": its numbers are not those that were saved")
        return Restored(step, state, record)

    def _read(self, step: int, **items: Any) -> Any:
        """Read items of a checkpoint."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise self._damaged(step, f": {_first_line(error)}") from error

    def _damaged(self, damaged: int, why: str) -> DamagedCheckpoint:
        place = self.directory / str(damaged)
        others = [step for step in self.steps if step != damaged]
        way = f"resume from an older one (--resume-step {others[-1]})" if others else "start again"
        return DamagedCheckpoint(f"the checkpoint {place} is damaged{why}; {way}")

    def finish(self) -> None:
        """Wait until the save in progress is complete.

        Raises:
            EncodaxError: the checkpoint could not be written.
        """
        if self._is_used:
            with self._error_context():
                self._manager.wait_until_finished()

    def abandon(self) -> None:
        """Close without raising: an earlier error has been reported, or matters more."""
        if self._is_used:
            with contextlib.suppress(Exception):
                self._manager.close()

    @contextlib.contextmanager
    def _error_context(self) -> Iterator[None]:
        """Turn errors of Orbax into one line."""
        try:
            yield
        except Exception as error:
            steps = ", ".join(map(str, steps_on_disk(self.directory))) or "none"
            raise EncodaxError(
                f"{self.directory}: a checkpoint cannot be written: {_first_line(error)}; complete "
                f"ones: {steps}"
            ) from error


def _is_being_removed(place: Path) -> bool:
    """Return whether a checkpoint is being removed, or has been."""
    for wait in (0.0, 0.05, 0.2):
        time.sleep(wait)
        if not place.is_dir():
            return True
    return False


@dataclass(frozen=True)
class _KeepStep:
    """Preservation policy that keeps the checkpoint of one step, asked for each time."""

    step: Callable[[], int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Return for each checkpoint whether it is kept."""
        return [checkpoint.step == self.step() for checkpoint in checkpoints]


def steps_on_disk(directory: Path) -> list[int]:
    """Return the steps of the complete checkpoints, oldest first, without any library."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first.partition(" [tensorstore_spec")[0][:300]


def _sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Copy a record, and add a checksum, so that its reader can trust its keys and types.

    It is written while training goes on, and what was given may change with that.
    """
    copied = json.loads(json.dumps(record))
    return {**copied, "seal": _digest(copied)}


def _unsealed(record: dict[str, Any]) -> dict[str, Any]:
    """Check a record's checksum, and remove it.

    Raises:
        ValueError: the record does not match its checksum.
    """
    found = {name: value for name, value in record.items() if name != "seal"}
    if record.get("seal") != _digest(found):
        raise ValueError("its record is not the saved one")
    return found


def _digest(record: dict[str, Any]) -> str:
    """Return a sha256 of a record as JSON stores it."""
    kept = json.dumps(json.loads(json.dumps(record)), sort_keys=True)
    return hashlib.sha256(kept.encode()).hexdigest()


def _as_arrays(state: TrainState) -> dict[str, Any]:
    """Convert the state to a tree of plain arrays."""
    key = jax.random.key_data(state.key)
    return {
        "params": state.params,
        "optimizer": state.optimizer,
        "step": state.step,
        "key": key,
    }


def _from_arrays(arrays: dict[str, Any], implementation: str) -> TrainState:
    key = jax.random.wrap_key_data(arrays["key"], impl=implementation)
    return TrainState(arrays["params"], arrays["optimizer"], arrays["step"], key)


@jax.jit
def checksum(state: TrainState) -> UInt32[Array, ""]:
    """Sum all bits of a state, weighted by their positions.

    sum_i (2 i + 1) b_i  modulo 2^32, over the words b of each leaf in turn.

    It is computed on the devices, and does not depend on the state's sharding: integer sums do not
    depend on the order.
    """
    total = jnp.zeros((), jnp.uint32)
    plain = replace(state, key=jax.random.key_data(state.key))
    for number, leaf in enumerate(jax.tree.leaves(plain)):
        words = jax.lax.bitcast_convert_type(leaf, jnp.uint32) if leaf.dtype.itemsize == 4 else leaf
        words = words.astype(jnp.uint32)
        places = jnp.zeros(words.shape, jnp.uint32)
        for axis, size in enumerate(words.shape):
            places = places * np.uint32(size) + jax.lax.broadcasted_iota(
                jnp.uint32, words.shape, axis
            )
        own = jnp.sum(words * (2 * places + 1), dtype=jnp.uint32)
        total = total + own * np.uint32(2 * number + 1)
    return total


def surroundings(mesh: Mesh) -> dict[str, str]:
    """Describe what the bits of a run may depend on, besides its settings."""
    devices = mesh.devices.flatten()
    has_affinity = hasattr(os, "sched_getaffinity")  # Linux
    threads = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "mesh": ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items()),
        "processes": str(jax.process_count()),
        "threads": str(threads),
        "processor": platform.machine(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
    }


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Describe what has changed; an empty string if nothing has."""
    return "; ".join(
        f"{name} was {before.get(name) or 'not set'} and is {now.get(name) or 'not set'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    )
