"""What the benchmark runs on, and how much of it other programs take meanwhile."""

from __future__ import annotations

import os
import platform
from pathlib import Path

FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bfloat16",
            "amx_tile": "AMX"}  # fmt: skip


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def description() -> dict[str, str]:
    """Processor, cores, memory and system."""
    processor, flags = platform.processor() or platform.machine(), ""
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = [line.split(":", 1) for line in information.read_text().splitlines() if ":" in line]
        facts = {key.strip(): value.strip() for key, value in lines}
        processor, flags = facts.get("model name", processor), facts.get("flags", "")
    known = [name for flag, name in FEATURES.items() if flag in flags.split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{processor} ({', '.join(known)})" if known else processor,
        "cores": str(cores()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


class OtherWork:
    """The share of the machine's time that programs other than this one and its children take."""

    def __init__(self):
        self._clock = os.sysconf("SC_CLK_TCK")
        self._before = self._times()

    def share(self) -> float | None:
        """Since the object was made; call it when all children have ended."""
        if self._before is None:
            return None
        all_before, busy_before, own_before = self._before
        all_now, busy_now, own_now = self._times()
        others = (busy_now - busy_before) - (own_now - own_before)
        return max(0.0, others / max(all_now - all_before, 1e-9))

    def _times(self) -> tuple[float, float, float] | None:
        """Seconds of all cores, those of them that were busy, and our own."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        # Columns: user, nice, system, idle, waiting for disks, two interrupts, stolen.
        columns = [int(value) for value in path.read_text().split("\n", 1)[0].split()[1:9]]
        total = sum(columns) / self._clock
        idle = (columns[3] + columns[4]) / self._clock
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return total, total - idle, own


def told(share: float | None) -> str:
    """The share of other programs as a sentence; nothing where it is not known."""
    return "" if share is None else f" Other programs took {share:.1%} of the cores meanwhile."
