"""Several processes, on one host or on many, as one run: JAX's own engine joins them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from encodax.errors import EncodaxError

HEARTBEAT_SECONDS = 30
"""Silence after which a process counts as gone."""


def join(
    coordinator: str | None = None, processes: int | None = None, index: int | None = None
) -> None:
    """Join the other processes of a run; before anything else touches a device.

    What is not given, JAX finds out where SLURM, Kubernetes, Open MPI or a TPU pod tell it; the
    coordinator also from JAX_COORDINATOR_ADDRESS.

    Args:
        coordinator: HOST:PORT of the first process, which listens there.
        processes: how many there are.
        index: which one this is, from 0.

    Raises:
        EncodaxError: they cannot be found, or do not come.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise EncodaxError(
            f"the processes of the run do not come together: {first}; give --coordinator "
            "HOST:PORT, --processes N and --process I, or run under SLURM or Kubernetes"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes what all have in common."""
    return jax.process_index() == 0


def agreed(value: bool) -> bool:
    """What the first process says, in all of them, which call this together."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


@contextmanager
def watched() -> Iterator[None]:
    """Say in one line that another process has gone, and end: what is left cannot go on alone.

    The process ends here, with exit code 2: JAX would wait for the others in vain.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        first = str(error).strip().splitlines()[0]
        print(
            f"error: another process of the run has gone ({first}); start all of them again with "
            "--resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)
