"""Weights files are read strictly, and written in the names and layouts of the family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from encodax.config import ModelConfig
from encodax.errors import EncodaxError
from encodax.families.tensors import Tensor
from encodax.model_files import weights

PARAMS = {
    "attention/query": {
        "w": jnp.arange(24, dtype=jnp.float32).reshape(4, 2, 3),
        "b": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    },
    "gate": {"w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3)},
    "norm": {"alpha": jnp.ones(4)},
    "up": {"w": 10 + jnp.arange(6, dtype=jnp.float32).reshape(2, 3)},
}
SHAPES = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), PARAMS)


class Toy:
    """A family with two fused tensors, one copy, and strays; its files may have a prefix."""

    MODEL_TYPE = "toy"
    tensor_aliases: ClassVar[dict[str, str]] = {"decoder": "norm.alpha"}

    def tensor(self, config: ModelConfig, path: str, leaf: str) -> Tensor:
        if path in ("gate", "up"):
            return Tensor("inner.w", "transposed", part=int(path == "up"), parts=2)
        layouts = {"w": "transposed", "b": "flat", "alpha": "same"}
        return Tensor(f"{path}.{leaf}", layouts[leaf])  # type: ignore[arg-type]

    def canonical(self, stored: str) -> str:
        return stored.removeprefix("toy.")

    def stored_name(self, config: ModelConfig, name: str) -> str:
        return f"toy.{name}" if config.head else name

    def is_ignored(self, config: ModelConfig, name: str) -> bool:
        return name.startswith("pooler.") or name.endswith("position_ids")

    read_config = write_config = new_head = has = lambda self, *arguments: None


TOY, CONFIG = Toy(), goldens.read("bert/encoder")


def load(directory: Path) -> weights.Loaded:
    return weights.load(directory, SHAPES, TOY, CONFIG)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    weights.save(tmp_path / "model.safetensors", PARAMS, TOY, CONFIG)
    return tmp_path / "model.safetensors"


def rewrite(file: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the tensors of a file."""
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file)


def test_load_after_save_is_the_identity(file: Path) -> None:
    loaded = load(file.parent)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, PARAMS)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(PARAMS)
    assert loaded.extra_tensors == {}


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


def test_fused_parameters_stand_one_after_the_other(file: Path) -> None:
    inner = safetensors.numpy.load_file(file)["inner.w"]
    np.testing.assert_array_equal(inner, np.concatenate([PARAMS[p]["w"].T for p in ("gate", "up")]))


def test_every_problem_is_reported_at_once(file: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        del tensors["norm.alpha"]
        tensors["attention/query.w"] = tensors["attention/query.w"].T.copy()
        tensors["attention/query.b"] = tensors["attention/query.b"].astype(np.int32)
        tensors["inner.w"][0, 0] = np.nan
        tensors["stray"] = np.zeros(1, np.float32)

    rewrite(file, spoil)
    with pytest.raises(EncodaxError) as caught:
        load(file.parent)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "norm.alpha is missing (wanted (4,))" in message
    assert "attention/query.w is F32 (4, 6), wanted F32, F16, BF16 (6, 4)" in message
    assert "attention/query.b is I32 (6,), wanted F32, F16, BF16 (6,)" in message
    assert message.count("inner.w holds a value that is not finite") == 1  # of its two parts
    assert "stray belongs to no parameter" in message
    assert message.count(";") == 4
    assert "\n" not in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(file: Path, bad: float) -> None:
    rewrite(file, lambda tensors: tensors["norm.alpha"].__setitem__(2, bad))
    with pytest.raises(EncodaxError, match=r"norm\.alpha holds a value that is not finite"):
        load(file.parent)


def test_half_precision_is_read_as_float32(file: Path) -> None:
    def halve(tensors: dict[str, np.ndarray]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].astype(np.float16)

    rewrite(file, halve)
    loaded = load(file.parent).params
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {"float32"}
    jax.tree.map(np.testing.assert_array_equal, loaded, PARAMS)  # small whole numbers


def test_bfloat16_is_read_as_float32(file: Path) -> None:
    tensors = safetensors.numpy.load_file(file)
    cast = {name: np.asarray(jnp.asarray(array, jnp.bfloat16)) for name, array in tensors.items()}
    header, body = {}, b""
    for name, array in cast.items():
        data = array.view(np.uint16).tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)
    loaded = load(file.parent).params
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {"float32"}
    jax.tree.map(np.testing.assert_array_equal, loaded, PARAMS)


def test_strays_are_carried_and_saved_back(file: Path, tmp_path: Path) -> None:
    pooler = np.arange(3, dtype=np.float32)
    rewrite(file, lambda tensors: tensors.update({"pooler.w": pooler}))
    loaded = load(file.parent)
    assert set(loaded.extra_tensors) == {"pooler.w"}
    again = tmp_path / "again"
    again.mkdir()
    weights.save(again / "model.safetensors", loaded.params, TOY, CONFIG, loaded.extra_tensors)
    np.testing.assert_array_equal(load(again).extra_tensors["pooler.w"], pooler)
    jax.tree.map(np.testing.assert_array_equal, load(again).params, PARAMS)


def test_buffers_are_let_pass_and_not_carried(file: Path) -> None:
    rewrite(file, lambda tensors: tensors.update({"embeddings.position_ids": np.arange(9)}))
    assert load(file.parent).extra_tensors == {}


def test_a_copy_is_let_pass_where_it_repeats_the_other(file: Path) -> None:
    rewrite(file, lambda tensors: tensors.update(decoder=np.ones(4, np.float32)))
    assert load(file.parent).extra_tensors == {}


@pytest.mark.parametrize("copy", [np.zeros(4, np.float32), np.ones(3, np.float32)])
def test_a_copy_that_differs_is_refused(file: Path, copy: np.ndarray) -> None:
    rewrite(file, lambda tensors: tensors.update(decoder=copy))
    with pytest.raises(EncodaxError, match=r"decoder should repeat norm\.alpha, and does not"):
        load(file.parent)


def test_names_of_another_form_are_read(file: Path) -> None:
    tensors = safetensors.numpy.load_file(file)
    named = {f"toy.{name}": tensor for name, tensor in tensors.items()}
    safetensors.numpy.save_file(named, file)
    jax.tree.map(np.testing.assert_array_equal, load(file.parent).params, PARAMS)


def test_two_forms_of_one_name_are_refused(file: Path) -> None:
    rewrite(file, lambda tensors: tensors.update({"toy.norm.alpha": np.ones(4, np.float32)}))
    with pytest.raises(EncodaxError, match=r"norm\.alpha .*are the same tensor"):
        load(file.parent)


def sharded(file: Path, **changes: Any) -> Path:
    """The file in two, with an index."""
    tensors = safetensors.numpy.load_file(file)
    places = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(sorted(tensors))}
    for part in set(places.values()):
        held = {name: tensors[name] for name, place in places.items() if place == part}
        safetensors.numpy.save_file(held, file.with_name(part))
    file.unlink()
    index = file.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {**places, **changes}}))
    return index


def test_several_files_with_an_index_are_one_model(file: Path) -> None:
    sharded(file)
    jax.tree.map(np.testing.assert_array_equal, load(file.parent).params, PARAMS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.alpha": "../part-0.safetensors"}, "is not a safetensors file of this directory"),
        ({"norm.alpha": "part-0.bin"}, "is not a safetensors file of this directory"),
        ({"norm.alpha": "part-7.safetensors"}, r"part-7\.safetensors does not exist"),
        ({"more": "part-0.safetensors"}, "the index and the file do not agree on 'more'"),
    ],
)
def test_an_index_that_does_not_agree_is_refused(
    file: Path, changes: dict[str, str], message: str
) -> None:
    sharded(file, **changes)
    with pytest.raises(EncodaxError, match=message):
        load(file.parent)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index_is_refused(file: Path, content: str) -> None:
    sharded(file).write_text(content)
    with pytest.raises(EncodaxError, match="is not an index of weights files"):
        load(file.parent)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "tf_model.h5"])
def test_a_pickle_is_named_and_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(EncodaxError, match=rf"{name} is not read: such a file can run code"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, b"\xff" * 64, b"\x10" + b"\x00" * 30],
    ids=["empty", "short", "huge header", "no JSON"],
)
def test_a_broken_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(EncodaxError, match="cannot be read"):
        load(file.parent)


def test_a_cut_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EncodaxError, match="cannot be read"):
        load(file.parent)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=r"nowhere/model\.safetensors does not exist"):
        load(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        weights.save(tmp_path / "nowhere" / "model.safetensors", PARAMS, TOY, CONFIG)
