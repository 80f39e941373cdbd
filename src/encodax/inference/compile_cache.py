"""Compiled programs on disk, so that the next process need not compile them again.

JAX keeps and checks them; here is where they lie. A compiled program is code: the folder is the
user's alone, and there is one for each jaxlib, processor and set of XLA flags.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

logger = logging.getLogger(__name__)

VARIABLE = "ENCODAX_CACHE"
"""The folder of all caches; empty for none. By default `encodax` in the user's cache folder."""
_changing = threading.RLock()
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@contextlib.contextmanager
def compile_cache() -> Iterator[None]:
    """While it lasts, what is compiled is kept, and taken from there.

    Where the user has given JAX a cache, that one is used. A folder that others can write to is
    not, nor one that cannot be written.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    with _changing:
        folder = private_folder()
        if folder is None:
            yield
            return
        wanted = {"jax_compilation_cache_dir": str(folder), **_SETTINGS}
        before = {name: getattr(jax.config, name) for name in wanted}
        try:
            _set(wanted)
            yield
        finally:
            _set(before)


def _set(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # else the folder that was seen first is kept


def private_folder() -> Path | None:
    """The folder for this jaxlib, processor and flags, made for the user alone; None without."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "":
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (Path(chosen) if chosen else caches / "encodax") / "compiled" / _key()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:  # a home that cannot be written, or none at all
        logger.info("compiled programs are not kept: %s", error)
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & others):
        logger.warning("compiled programs are not kept: others can write to %s", folder)
        return None
    return folder


def _key() -> str:
    """One for each build that a compiled program is good for."""
    device = jax.local_devices()[0]
    jaxlib = importlib.metadata.version("jaxlib")
    parts = (jaxlib, device.platform, device.device_kind, _processor())
    flags = os.environ.get("XLA_FLAGS", "")
    digest = hashlib.sha256("\n".join([*parts, flags]).encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib}-{device.platform}-{digest}"


def _processor() -> str:
    """What programs for the CPU depend on: its kind and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
