"""Checkpoints of a run, with Orbax: all that a run needs to go on as if it had never stopped.

    CHECKPOINTS/120/state      parameters, optimizer, number of the step, random key
    CHECKPOINTS/120/record     JSON: data position, best model so far, checksum, surroundings

A save is asynchronous (the state is copied, then written while training goes on) and atomic (a
directory gets its name when it is whole).
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
from encodax.training import checkpoint_folder, distributed
from encodax.training.step import TrainState


class DamagedCheckpoint(EncodaxError):
    """A checkpoint cannot be read, or is not what was saved."""


@dataclass(frozen=True)
class Restored:
    """What a checkpoint gives back."""

    step: int
    state: TrainState
    record: dict[str, Any]


@dataclass
class Checkpoints:
    """The checkpoints of one run, in one directory."""

    directory: Path
    keep: int = 2
    """Newest that stay, and the best beside them."""
    best: Callable[[], int] = lambda: 0
    """The step that is the best so far, as whoever evaluates knows it."""

    @functools.cached_property
    def _manager(self) -> Any:
        """Orbax's; made with its directory when something is saved or read."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(n=self.keep), _OfStep(self.best)]
            ),
            cleanup_tmp_directories=True,
        )
        damaged = f"{self.directory}: a checkpoint is damaged; remove it, and go on from another"
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
        """Steps that there are checkpoints of, oldest first."""
        return sorted(self._manager.all_steps()) if self.directory.is_dir() else []

    def check(self) -> None:
        """Raise what went wrong in a save that ran beside the steps.

        Raises:
            EncodaxError: it could not be written; older checkpoints are whole.
        """
        if self._is_used and not self._manager.is_saving_in_progress():
            with self._told():
                self._manager.wait_until_finished()  # it raises what its thread has met

    def save(self, state: TrainState, record: dict[str, Any]) -> None:
        """Begin to write a checkpoint; the state may be given away as soon as this returns.

        Args:
            state: of the run.
            record: what else the run needs, as JSON.

        Raises:
            EncodaxError: this one, or one before, could not be written.
        """
        step = int(state.step)
        kind = str(jax.random.key_impl(state.key))
        self._check_room(state)
        with self._told():
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
        """Refuse to begin what the disk cannot hold: TensorStore tells of it in a hundred lines.

        Raises:
            EncodaxError: names both sizes, and the checkpoints that are whole.
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
                f"the disk has {free:,} left; whole ones: {steps}"
            )

    def restore(
        self,
        like: TrainState,
        step: int | None = None,
        check: Callable[[dict[str, Any], int], None] = lambda record, step: None,
    ) -> Restored:
        """Read the newest checkpoint, or the one of a step.

        Where that goes while it is read, because a run writes here still, it is looked again.

        Args:
            like: a state of the same shapes, laid out as the restored one is to be.
            step: which one; None for the newest.
            check: refuses a record with its step, before the state is read.

        Raises:
            EncodaxError: there is none, or it is damaged; which other ones there are is named.
        """
        steps = self.steps
        if not steps:
            raise EncodaxError(f"{self.directory}: there is no checkpoint to go on from")
        asked, step = step, steps[-1] if step is None else step
        if step not in steps:
            known = ", ".join(map(str, steps))
            raise EncodaxError(f"{self.directory}: has none of step {step}; it has: {known}")
        try:
            return self._restored(like, step, check)
        except DamagedCheckpoint:
            if not _is_going(self.directory / str(step)):
                raise
        self._manager.reload()
        return self.restore(like, asked, check)

    def _restored(
        self, like: TrainState, step: int, check: Callable[[dict[str, Any], int], None]
    ) -> Restored:
        found = self._read(step, record=ocp.args.JsonRestore())
        try:
            record = _unsealed(found["record"])
        except Exception as error:  # a record of any kind
            raise self._damaged(step, f": {_first_line(error)}") from error
        check(record, step)
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_arrays(like))
        found = self._read(step, state=ocp.args.StandardRestore(shapes))
        try:
            state = _from_arrays(found["state"], record["key"])
            whole = int(checksum(state)) == record["checksum"] and int(state.step) == step
        except Exception as error:  # whatever is not as it was saved
            raise self._damaged(step, f": {_first_line(error)}") from error
        if not whole:
            raise self._damaged(step, ": its numbers are not those that were saved")
        return Restored(step, state, record)

    def _read(self, step: int, **items: Any) -> Any:
        """Items of a checkpoint."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore have many kinds
            raise self._damaged(step, f": {_first_line(error)}") from error

    def _damaged(self, damaged: int, why: str) -> DamagedCheckpoint:
        place = self.directory / str(damaged)
        others = [step for step in self.steps if step != damaged]
        way = f"go on from an older one (--resume-step {others[-1]})" if others else "begin anew"
        return DamagedCheckpoint(f"the checkpoint {place} is damaged{why}; {way}")

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            EncodaxError: it could not be written.
        """
        if self._is_used:
            with self._told():
                self._manager.wait_until_finished()

    def abandon(self) -> None:
        """Close; what goes wrong now has been told, or is less than what has."""
        if self._is_used:
            with contextlib.suppress(Exception):
                self._manager.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What Orbax raises, as one line."""
        try:
            yield
        except Exception as error:
            steps = ", ".join(map(str, steps_on_disk(self.directory))) or "none"
            raise EncodaxError(
                f"{self.directory}: a checkpoint cannot be written: {_first_line(error)}; "
                f"whole ones: {steps}"
            ) from error


def _is_going(place: Path) -> bool:
    """Whether a checkpoint is being removed, or has been."""
    for wait in (0.0, 0.05, 0.2):
        time.sleep(wait)
        if not place.is_dir():
            return True
    return False


@dataclass(frozen=True)
class _OfStep:
    """A preservation policy that keeps one step's checkpoint: another whenever it is asked."""

    step: Callable[[], int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which ones stay."""
        return [checkpoint.step == self.step() for checkpoint in checkpoints]


def steps_on_disk(directory: Path) -> list[int]:
    """Steps of the checkpoints that are whole, oldest first, asked of no library."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first.partition(" [tensorstore_spec")[0][:300]


def _sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A copy of a record with its own checksum: what reads it need not doubt a key or a type.

    It is written while training goes on, and what was given may change with that.
    """
    copied = json.loads(json.dumps(record))
    return {**copied, "seal": _digest(copied)}


def _unsealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record that was sealed.

    Raises:
        ValueError: it is another one.
    """
    found = {name: value for name, value in record.items() if name != "seal"}
    if record.get("seal") != _digest(found):
        raise ValueError("its record is not the one that was saved")
    return found


def _digest(record: dict[str, Any]) -> str:
    """Of what JSON keeps of a record."""
    kept = json.dumps(json.loads(json.dumps(record)), sort_keys=True)
    return hashlib.sha256(kept.encode()).hexdigest()


def _as_arrays(state: TrainState) -> dict[str, Any]:
    """The state as a tree of plain arrays."""
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
    """A sum over all bits of a state that depends on where they stand.

    sum_i (2 i + 1) b_i  modulo 2^32, over the words b of each leaf in turn.

    It is made on the devices, and is the same however the state lies on them: sums of integers
    have no order.
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
    """What the bits of a run may depend on, beside its settings."""
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
    """What has changed, in words; empty where nothing has."""
    return "; ".join(
        f"{name} was {before.get(name) or 'not set'} and is {now.get(name) or 'not set'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    )
