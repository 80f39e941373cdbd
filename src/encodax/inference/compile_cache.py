"""Cache of compiled programs on disk, so that the next process need not compile them again.

JAX keeps them; this module chooses the folder and checks that the entries are intact. A compiled
program is code: the folder is private to the user, and there is one for each jaxlib, processor and
set of XLA flags. Each entry ends in its checksum. A damaged entry is removed, compiled again and
rewritten; JAX by itself would warn of it in every run, or run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import logging
import os
import platform
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

logger = logging.getLogger(__name__)

VARIABLE = "ENCODAX_CACHE"
"""Name of the environment variable for the folder of all caches; empty for none. Without it,
`encodax` in the user's cache folder."""
_changing = threading.RLock()
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
DIGEST_BYTES = hashlib.sha256().digest_size


@contextlib.contextmanager
def compile_cache() -> Iterator[None]:
    """Keep compiled programs in the cache inside this context, and read them from there.

    If the user has given JAX a cache, that one is used. A folder that others can write to, or that
    cannot be written to, is not used.
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
            with _checked():
                _set(wanted)
                yield
        finally:
            _set(before)


class CheckedCache:
    """Cache of JAX whose entries each end in a checksum; a failure is logged, never raised."""

    def __init__(self, cache: Any, folder: Path | str):
        """Wrap a cache.

        Args:
            cache: cache of JAX, which keeps bytes by key.
            folder: folder of its entries.
        """
        self._cache = cache
        self._path = Path(folder)  # JAX reads this attribute

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key; None if there are none, or if they are damaged."""
        try:
            entry = self._cache.get(key)
        except OSError as error:
            logger.info("a compiled program cannot be read: %s", error)
            return None
        if entry is None:
            return None
        content, digest = entry[:-DIGEST_BYTES], entry[-DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return bytes(content)
        logger.info("a compiled program is damaged, and compiled again: %s", key)
        self._remove(key)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Store the bytes of a key, complete or not at all."""
        try:
            self._cache.put(key, value + hashlib.sha256(value).digest())
        except OSError as error:  # the disk is full, the folder is gone or is read-only
            logger.info("a compiled program is not kept: %s", error)
            self._remove(key)

    def _remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            (self._path / f"{key}-cache").unlink()


@contextlib.contextmanager
def _checked() -> Iterator[None]:
    """Make JAX wrap its cache of a folder in a `CheckedCache` inside this context.

    The function that is replaced is private to JAX: if it does not exist, JAX's own cache is used.
    """
    jax_cache = importlib.import_module("jax._src.compilation_cache")
    make = getattr(jax_cache, "get_file_cache", None)
    if make is None:
        yield
        return

    def make_checked(path: str) -> tuple[CheckedCache, str] | None:
        made = make(path)
        return made and (CheckedCache(made[0], made[1]), made[1])

    vars(jax_cache)["get_file_cache"] = make_checked
    try:
        yield
    finally:
        vars(jax_cache)["get_file_cache"] = make


def _set(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # otherwise JAX keeps the folder that it saw first


def private_folder() -> Path | None:
    """Return the private folder for this jaxlib, processor and flags, made if needed, or None."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "":
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (Path(chosen) if chosen else caches / "encodax") / "compiled" / _key()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:  # the home cannot be written to, or there is none
        logger.info("compiled programs are not kept: %s", error)
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & others):
        logger.warning("compiled programs are not kept: others can write to %s", folder)
        return None
    return folder


def _key() -> str:
    """Return a name that is different for builds that cannot share compiled programs."""
    device = jax.local_devices()[0]
    jaxlib = importlib.metadata.version("jaxlib")
    parts = (jaxlib, device.platform, device.device_kind, _processor())
    flags = os.environ.get("XLA_FLAGS", "")
    digest = hashlib.sha256("\n".join([*parts, flags]).encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib}-{device.platform}-{digest}"


def _processor() -> str:
    """Describe the processor, as far as compiled CPU programs depend on it: model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
