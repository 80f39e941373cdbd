"""Files of vectors that are written one at a time are those that are written whole."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from encodax.errors import EncodaxError
from encodax.inference import vector_files

TEXTS = ["one", "two, «three»\n", "日本"]
ROWS = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


def write(path: Path, rows: np.ndarray = ROWS) -> None:
    with vector_files.opened(path, rows.shape[1], rows.dtype) as file:
        for text, row in zip(TEXTS, rows, strict=False):
            file.write(text, row)


@pytest.fixture(params=[np.float32, np.int8, np.uint8])
def stored(request: pytest.FixtureRequest) -> np.ndarray:
    rows: np.ndarray = (50 * np.abs(ROWS)).astype(request.param)
    return rows


def test_npy_is_the_file_that_numpy_writes(stored: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.npy", stored)
    np.save(tmp_path / "b.npy", stored)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_parquet_is_read_back(
    stored: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_files, "GROUP", 2)
    path = tmp_path / "a.parquet"
    write(path, stored)
    table = pyarrow.parquet.read_table(path)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 2
    assert table["text"].to_pylist() == TEXTS
    rows = table["vector"].combine_chunks()
    assert rows.type.list_size == stored.shape[1]
    flat = rows.flatten().to_numpy()
    assert flat.dtype == stored.dtype
    np.testing.assert_array_equal(flat.reshape(stored.shape), stored)


def test_json_lines_are_read_back(stored: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, stored)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    found = np.array([line["vector"] for line in lines], stored.dtype)
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize("ending", vector_files.KINDS)
def test_no_vector_is_a_file_of_none(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    write(path, np.zeros((0, 4), np.float32))
    read: dict[str, Any] = {
        "npy": lambda: np.load(path).shape == (0, 4),
        "parquet": lambda: pyarrow.parquet.read_table(path).num_rows == 0,
        "jsonl": lambda: path.read_bytes() == b"",
    }
    assert read[ending]()


@pytest.mark.parametrize("ending", vector_files.KINDS)
def test_what_was_written_before_an_error_is_a_whole_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    for written in (0, 2):
        with (
            pytest.raises(EncodaxError) as found,
            vector_files.opened(path, 5, np.float32) as file,
        ):
            for text, row in zip(TEXTS[:written], ROWS, strict=False):
                file.write(text, row)
            raise EncodaxError("a text is bad")
        told = [f"the 2 vectors that come before it are kept in {path}.partial"]
        assert getattr(found.value, "__notes__", []) == (told if written else [])
    (partial,) = tmp_path.iterdir()
    whole = io.BytesIO(partial.read_bytes())
    read: dict[str, Any] = {
        "npy": lambda: np.load(whole),
        "parquet": lambda: pyarrow.parquet.read_table(whole)["vector"].to_pylist(),
        "jsonl": lambda: [json.loads(line)["vector"] for line in whole],
    }
    np.testing.assert_array_equal(np.float32(read[ending]()), ROWS[:2])


@pytest.mark.parametrize("ending", vector_files.KINDS)
def test_a_file_that_cannot_be_written_is_told(ending: str, tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=f"no/a.{ending} cannot be written"):
        write(tmp_path / "no" / f"a.{ending}")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=r"a.txt: .* end in .npy, .parquet, .jsonl"):
        write(tmp_path / "a.txt")


def test_the_header_of_an_array_is_not_written_to_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(EncodaxError, match=r"a.npy: .* known only at .*; give a plain file"):
            write(path)
    finally:
        os.close(reader)
