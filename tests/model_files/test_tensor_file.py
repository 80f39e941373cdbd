"""Safetensors files read as the library reads them, and refused as it refuses them."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from directories import load_refusal, published

from encodax.model_files import tensor_file
from encodax.model_files.tensor_file import SafetensorError, opened

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.arange(3, dtype=np.float16),
    "c.w": np.arange(4).astype(ml_dtypes.bfloat16).reshape(2, 2, 1),
    "d": np.array([True, False]),
    "empty": np.zeros((0, 3), np.int64),
    "number": np.array(7.0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    safetensors.numpy.save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    return tmp_path / "x.safetensors"


def test_it_reads_what_the_library_reads(path: Path) -> None:
    with opened(path) as ours, safetensors.safe_open(path, framework="numpy") as theirs:
        assert sorted(ours.keys()) == sorted(theirs.keys()) == sorted(TENSORS)
        for name in TENSORS:
            ours_of, theirs_of = ours.get_slice(name), theirs.get_slice(name)
            assert ours_of.get_dtype() == theirs_of.get_dtype()
            assert ours_of.get_shape() == theirs_of.get_shape()
            found = ours.get_tensor(name)
            assert found.dtype == TENSORS[name].dtype
            np.testing.assert_array_equal(found, TENSORS[name])


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Another file: bytes of its header changed, a value of it, or its end."""
    length = int.from_bytes(content[:8], "little")
    kind = chance.randrange(4)
    if kind == 0:
        at = chance.randrange(8 + length)
        return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
    if kind == 1:
        return content[: chance.randrange(len(content))] + b"\0" * chance.randrange(3)
    header = json.loads(content[8 : 8 + length])
    told = header[chance.choice(sorted(TENSORS))]
    key = chance.choice(["dtype", "shape", "data_offsets"])
    odd: list[Any] = [None, -1, 1.0, True, "F32", "I8", "F4", [], [1], [0, 2**63], [2**40] * 3, {}]
    if kind == 2:
        told[key] = chance.choice(odd)
    else:
        place = told[key] if isinstance(told[key], list) and told[key] else told
        index: Any = chance.randrange(len(place)) if isinstance(place, list) else key
        place[index] = chance.choice([*odd, *range(5)])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def test_it_refuses_what_the_library_refuses(path: Path) -> None:
    content, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(1_500):
        path.write_bytes(mutated(content, chance))
        tensor_file._slices.cache_clear()
        try:
            with safetensors.safe_open(path, framework="numpy") as theirs:
                wanted = {name: theirs.get_slice(name).get_shape() for name in theirs.keys()}  # noqa: SIM118
        except SafetensorError:
            wanted = None
        try:
            with opened(path) as ours:
                found = {name: ours.get_slice(name).get_shape() for name in ours.keys()}  # noqa: SIM118
        except SafetensorError:
            found = None
        assert found == wanted, path.read_bytes()
        refused += found is None
    assert refused > 1_000


def test_a_file_that_gets_shorter_while_it_is_read_is_refused_and_kills_nobody(path: Path) -> None:
    """As `cp` does; with the library's mapping the process would end by SIGBUS."""
    with opened(path) as file:
        os.truncate(path, 100)
        with pytest.raises(SafetensorError, match="it ends within b"):
            file.get_tensor("b")


def test_a_file_that_was_changed_is_read_anew(path: Path) -> None:
    with opened(path) as file:
        assert len(file.keys()) == len(TENSORS)
    safetensors.numpy.save_file({"b": TENSORS["b"]}, path)
    with opened(path) as file:
        assert file.keys() == ["b"]


def test_a_weights_file_that_is_cut_is_named(tmp_path: Path) -> None:
    file = published(tmp_path / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert load_refusal(file.parent).startswith(f"{file} cannot be read: its header describes ")


@pytest.mark.parametrize("content", [b"", b"\1", b"\0" * 8, b"\2" + b"\0" * 7 + b"[]", b"\xff" * 9])
def test_what_is_no_such_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SafetensorError), opened(path):
        pass
