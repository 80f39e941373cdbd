"""Where the minutes of a test run went: seconds of each file, and how many of them compiled."""

from __future__ import annotations

import collections
import time
from typing import Any

import jax
import pytest

SHOWN = 15
"""Files in the table at the end of a run."""
COMPILING = "seconds that JAX compiled"
COMPILES = frozenset(
    f"/jax/core/compile/{part}_duration" for part in ("jaxpr_to_mlir_module", "backend_compile")
)
"""Events whose seconds count: to lower a program, and to compile it or read it from the cache."""


class Minutes:
    """Adds up the seconds of each test file, of all workers of a run."""

    def __init__(self) -> None:
        self._compiled = 0.0
        self._begin = time.monotonic()
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._compiling: dict[str, float] = collections.defaultdict(float)
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, seconds: float, **_: Any) -> None:
        if event in COMPILES:
            self._compiled += seconds

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> None:
        """Give the report of a phase what was compiled in it; a worker sends it with the report."""
        others = [entry for entry in item.user_properties if entry[0] != COMPILING]
        item.user_properties[:] = [*others, (COMPILING, self._compiled)]
        self._compiled = 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the seconds of a phase to those of its file."""
        file = report.nodeid.split("::")[0]
        self._seconds[file] += report.duration
        self._compiling[file] += float(dict(report.user_properties).get(COMPILING, 0.0))

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Print the slowest files; with `-q`, nothing."""
        if config.get_verbosity() < 0 or not self._seconds:
            return
        slowest = sorted(self._seconds.items(), key=lambda found: -found[1])[:SHOWN]
        total, compiling = sum(self._seconds.values()), sum(self._compiling.values())
        terminalreporter.section("where the minutes went")
        terminalreporter.write_line("seconds  compiling  file")
        for file, seconds in slowest:
            terminalreporter.write_line(f"{seconds:7.1f}  {self._compiling[file]:9.1f}  {file}")
        terminalreporter.write_line(
            f"{total:7.1f}  {compiling:9.1f}  all files, in {time.monotonic() - self._begin:.0f} s"
        )
