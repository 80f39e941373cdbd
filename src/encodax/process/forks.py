"""Objects of one process: JAX does not run in a fork of a process in which it has run.

JAX's threads are not in the fork, and code that waits for them waits for ever.
"""

from __future__ import annotations

import os
import sys

from encodax.errors import EncodaxError

_is_forked = False


def check() -> None:
    """Refuse to run in a process that was forked after JAX had started; it only reads a flag.

    Raises:
        EncodaxError: it was; the message names the ways out.
    """
    if _is_forked:
        raise EncodaxError(
            f"process {os.getpid()} was forked from one that had used JAX, which does not run in "
            "forks: load the model only after the fork (gunicorn without --preload), or start "
            'processes by multiprocessing.get_context("spawn")'
        )


def _after_fork() -> None:
    global _is_forked
    bridge = sys.modules.get("jax._src.xla_bridge")
    # The public function takes a lock, which a thread that no longer exists may hold.
    _is_forked = _is_forked or bool(getattr(bridge, "_backends", False))


if hasattr(os, "register_at_fork"):  # on systems with forks
    os.register_at_fork(after_in_child=_after_fork)


class NotPicklable:
    """Object that holds compiled programs and device buffers, and so cannot be pickled."""

    def __getstate__(self) -> object:
        """Refuse to pickle the object, by its name.

        Raises:
            EncodaxError: always; the message names the way out.
        """
        name = type(self).__name__
        raise EncodaxError(
            f"{name} belongs to the process that made it, and cannot be pickled or copied: pickle "
            f"its model, and make {name}(model) in the other process, or load it there"
        )
