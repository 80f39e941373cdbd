"""One folder of compiled programs for all processes of a test run, kept for the next run.

JAX writes an entry in place, so that another process may read half of it. Here an entry is written
beside, and renamed. Processes that do not call `install` read the folder, and add nothing.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path

import jax

MOST_BYTES = 2**30
"""Size from which a folder is emptied when a run begins: old programs are never asked for again."""
VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
WORTH_KEEPING = 0.05
"""Seconds of compilation from which a program is kept."""


class WholeEntries:
    """A cache of files, as JAX asks for one, whose entries appear whole or not at all."""

    def __init__(self, folder: str):
        self._path = Path(folder)  # JAX asks for it by this name

    def get(self, key: str) -> bytes | None:
        """Return the program of a key, or None."""
        try:
            return (self._path / f"{key}-cache").read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, value: bytes) -> None:
        """Keep a program."""
        with tempfile.NamedTemporaryFile(dir=self._path, delete=False) as file:
            file.write(value)
        os.replace(file.name, self._path / f"{key}-cache")


def install() -> None:
    """Let this process add to the folder that its variables name."""
    folder = os.environ[VARIABLES[0]]
    jax_cache = importlib.import_module("jax._src.compilation_cache")
    vars(jax_cache)["get_file_cache"] = lambda path: (WholeEntries(path), path)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)


def choose(folder: Path) -> None:
    """Make a folder the one of this process, and of those that it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [entry.stat().st_size for entry in os.scandir(folder)]
    if sum(entries) > MOST_BYTES:
        for path in folder.glob("*-cache"):
            path.unlink(missing_ok=True)
    os.environ[VARIABLES[0]] = str(folder)
    os.environ[VARIABLES[1]] = "1e9"  # processes that do not install read alone
    install()
