"""Weights files are read strictly, and written in the names and layouts of the family."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from encodax import weights
from encodax.errors import EncodaxError
from encodax.families.tensors import Tensor

PARAMS = {
    "attention/query": {
        "w": jnp.arange(24, dtype=jnp.float32).reshape(4, 2, 3),
        "b": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    },
    "norm": {"alpha": jnp.ones(4)},
}
SHAPES = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), PARAMS)


def tensor_of(path: str, leaf: str) -> Tensor:
    layouts = {"w": "transposed", "b": "flat", "alpha": "same"}
    return Tensor(f"{path}.{leaf}", layouts[leaf])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    weights.save(tmp_path / "model.safetensors", PARAMS, tensor_of)
    return tmp_path / "model.safetensors"


def rewrite(file: Path, change) -> None:
    """Change the tensors of a file."""
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file)


def test_load_after_save_is_the_identity(file: Path) -> None:
    loaded = weights.load(file, SHAPES, tensor_of)
    jax.tree.map(np.testing.assert_array_equal, loaded, PARAMS)
    assert jax.tree.structure(loaded) == jax.tree.structure(PARAMS)


def test_a_projection_is_stored_with_its_outputs_first_and_flat(file: Path) -> None:
    tensors = safetensors.numpy.load_file(file)
    w, b = tensors["attention/query.w"], tensors["attention/query.b"]
    assert w.shape == (6, 4)
    assert b.shape == (6,)
    x = np.arange(4, dtype=np.float32)
    stored = w @ x + b  # as PyTorch computes it
    query = PARAMS["attention/query"]
    ours = jnp.einsum("d,dhk->hk", x, query["w"]) + query["b"]
    np.testing.assert_array_equal(stored.reshape(2, 3), ours)


def test_every_problem_is_reported_at_once(file: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        del tensors["norm.alpha"]
        tensors["attention/query.w"] = tensors["attention/query.w"].T.copy()
        tensors["attention/query.b"] = tensors["attention/query.b"].astype(np.float16)
        tensors["stray"] = np.zeros(1, np.float32)

    rewrite(file, spoil)
    with pytest.raises(EncodaxError) as caught:
        weights.load(file, SHAPES, tensor_of)
    message = str(caught.value)
    assert "norm.alpha is missing" in message
    assert "attention/query.w is float32 (4, 6), wanted float32 (6, 4)" in message
    assert "attention/query.b is float16 (6,), wanted float32 (6,)" in message
    assert "stray belongs to no parameter" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, b"\xff" * 64, b"\x10" + b"\x00" * 30],
    ids=["empty", "short", "huge header", "no JSON"],
)
def test_a_broken_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(EncodaxError, match="cannot be read"):
        weights.load(file, SHAPES, tensor_of)


def test_a_cut_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EncodaxError, match="cannot be read"):
        weights.load(file, SHAPES, tensor_of)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=r"nowhere\.safetensors does not exist"):
        weights.load(tmp_path / "nowhere.safetensors", SHAPES, tensor_of)


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        weights.save(tmp_path / "nowhere" / "model.safetensors", PARAMS, tensor_of)
