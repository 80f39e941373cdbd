"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import platform
import sys

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
"""Parameters of glibc's `mallopt` (malloc.h)."""


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, to use it again; True where that worked.

    A step on CPU asks for its activations and gives them back, hundreds of megabytes each time.
    glibc returns blocks of that size to the system, which then hands over fresh pages one by one,
    filled with zeros: a fifth of the time of a step. Kept, they are there for the next step. What
    the process occupies does not fall before it ends.

    `encodax train`, `pretrain` and `demo` call this. A program of your own can, before it uses JAX:
    threads keep the rules under which they began. Without glibc (macOS, Windows, Alpine) nothing
    happens.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    # One heap, none beside it for large blocks, and none of it ever given back.
    options = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}
    return all(set_option(name, value) == 1 for name, value in options.items())
