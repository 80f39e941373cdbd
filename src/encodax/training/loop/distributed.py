"""Several processes, on one host or many, as one run; they are joined by JAX."""

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
"""Number of seconds without a sign of life after which a process is considered lost."""


def join(
    coordinator: str | None = None, processes: int | None = None, index: int | None = None
) -> None:
    """Join the other processes of a run; call it before anything else uses a device.

    JAX finds what is not given under SLURM, Kubernetes, Open MPI or in a TPU pod; the coordinator
    also from JAX_COORDINATOR_ADDRESS.

    Args:
        coordinator: HOST:PORT of the first process, which listens there.
        processes: number of processes.
        index: index of this process, from 0.

    Raises:
        EncodaxError: the other processes cannot be found, or do not join.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise EncodaxError(
            f"the processes of the run cannot connect: {first}; give --coordinator HOST:PORT, "
            "--processes N and --process I, or run under SLURM or Kubernetes"
        ) from error


def is_first() -> bool:
    """Return whether this process is the first, which writes the common files."""
    return jax.process_index() == 0


def broadcast_from_first(value: bool) -> bool:
    """Return the first process's value in all processes, which must all call this."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


@contextmanager
def exit_on_lost_process() -> Iterator[None]:
    """Report the loss of another process in one line, and exit: the rest cannot continue alone.

    This process exits here, with exit code 2: JAX would wait for the others in vain.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        first = str(error).strip().splitlines()[0]
        print(
            f"error: another process of the run has ended ({first}); start all of them again with "
            "--resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)
