"""Freed memory stays with the process, and is used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from encodax.process import host_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.full(1 << 23, 1.5)  # 64 MB, which go again at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    assert host_memory.keep_freed_memory()
faults(1)
print(faults(4))
"""
PAGES = 4 * (1 << 26) // 4096


def faults(how: str) -> int:
    """Pages that the system handed out for four arrays, after a first one."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wants glibc, which has mallopt")
def test_memory_that_was_freed_is_used_again() -> None:
    assert faults("kept") < PAGES / 100 < faults("given back")


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from encodax.process import host_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert host_memory.keep_freed_memory() is False
