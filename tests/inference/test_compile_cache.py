"""Compiled programs are found by the next process, in a folder of the user's own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from encodax.inference import compile_cache as module
from encodax.inference.compile_cache import compile_cache, private_folder
from encodax.models.encoder_model import Model

PROGRAM = """
import sys, jax
from encodax import Embedder
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
Embedder.load(sys.argv[1]).encode(["the cat sat"])
print(sum(event.endswith("/cache_hits") for event in found))
"""


@pytest.fixture(autouse=True)
def no_other_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves aside the cache that other tests share."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def test_the_next_process_finds_what_this_one_compiled(tiny_model: Model, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "model")

    def hits(cache: str) -> int:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model")]
        environment = {**os.environ, "ENCODAX_CACHE": cache}
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        assert run.stderr == ""
        return int(run.stdout)

    assert [hits(str(tmp_path / "cache")) for _ in range(2)] == [0, 1]
    assert hits("") == 0
    (folder,) = (tmp_path / "cache" / "compiled").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len([path for path in folder.iterdir() if path.name.endswith("-cache")]) == 1


def test_only_what_is_compiled_inside_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path))
    with compile_cache():
        jax.jit(lambda x: x * 17).lower(1.0).compile()
        assert jax.config.jax_compilation_cache_dir == str(private_folder())
    assert jax.config.jax_compilation_cache_dir is None
    kept = sorted(tmp_path.glob("compiled/*/*-cache"))
    jax.jit(lambda x: x * 19).lower(1.0).compile()
    assert len(kept) == 1 and sorted(tmp_path.glob("compiled/*/*-cache")) == kept


def test_a_cache_that_the_user_chose_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    with compile_cache():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert not (tmp_path / "compiled").exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are as POSIX has them")
def test_a_folder_that_others_can_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path))
    folder = private_folder()
    assert folder is not None and tmp_path in folder.parents
    folder.chmod(0o777)
    assert private_folder() is None
    assert f"others can write to {folder}" in caplog.text


def test_no_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path / "file"))
    assert private_folder() is None
    monkeypatch.setenv("ENCODAX_CACHE", "")
    assert private_folder() is None
    with compile_cache():
        assert jax.config.jax_compilation_cache_dir is None


def test_each_build_and_set_of_flags_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path))
    folders = [private_folder()]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    folders.append(private_folder())
    monkeypatch.setattr(module, "_processor", lambda: "another")
    folders.append(private_folder())
    assert len(set(folders)) == 3


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The entry of a program in a cache."""
    monkeypatch.setenv("ENCODAX_CACHE", str(tmp_path))
    assert compiled() == 0
    (entry,) = tmp_path.glob("compiled/*/*-cache")
    return entry


def compiled() -> int:
    """Compile the program, and tell how often it was found instead."""
    found: list[str] = []

    def listen(event: str, **_: object) -> None:
        found.append(event)

    jax.monitoring.register_event_listener(listen)
    jax.clear_caches()
    with compile_cache():
        program = jax.jit(lambda x: x * 23).lower(1.0).compile()
    assert program(2.0) == 46
    return sum(event.endswith("/cache_hits") for event in found)


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "a bit": lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    "the last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "longer": lambda content: content + b"0",
    "something else": lambda content: b"\xff" * 5_000,
    "without a checksum": lambda content: content[: -module.DIGEST_BYTES],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_made_anew_without_a_word(
    kept: Path, damage: Callable[[bytes], bytes], recwarn: pytest.WarningsRecorder
) -> None:
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert compiled() == 0
    assert kept.exists() and kept.read_bytes() != damage(whole)
    assert compiled() == 1
    assert not recwarn.list


@pytest.mark.parametrize("what", ["folder", "gone", "read-only"])
def test_an_entry_that_cannot_be_read_or_written_is_no_error(
    kept: Path, what: str, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.unlink()
    if what == "folder":
        kept.mkdir()
    elif what == "gone":  # between the look at the folder and the write into it
        put = module.CheckedCache.put

        def put_late(cache: module.CheckedCache, key: str, value: bytes) -> None:
            shutil.rmtree(kept.parent)
            put(cache, key, value)

        monkeypatch.setattr(module.CheckedCache, "put", put_late)
    else:
        kept.parent.chmod(0o500)
    assert compiled() == 0
    assert not recwarn.list


def test_what_could_be_written_in_part_is_removed(tmp_path: Path) -> None:
    class Full:
        def put(self, key: str, value: bytes) -> None:
            (tmp_path / f"{key}-cache").write_bytes(value[:9])
            raise OSError("no space left")

    module.CheckedCache(Full(), tmp_path).put("key", b"program" * 9)
    assert not list(tmp_path.iterdir())
