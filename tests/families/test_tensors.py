from typing import Any

import numpy as np
import pytest

from encodax.families.tensors import LINEAR, NORM, Tensor, look_up, part_of, split

TABLE = {
    "layer_{}/query": ("blocks.{}.q", LINEAR),
    "layer_{}/value": ("blocks.{}.qv", part_of(LINEAR, 1, 2)),
    "norm": ("ln", NORM),
    "output": ("lm.decoder", split(LINEAR, "lm.bias")),
}


@pytest.mark.parametrize(
    ("layout", "shape", "stored"),
    [
        ("same", (4,), (4,)),
        ("same", (7, 4), (7, 4)),
        ("flat", (2, 3), (6,)),
        ("transposed", (4, 6), (6, 4)),
        ("transposed", (4, 2, 3), (6, 4)),
    ],
)
def test_the_two_layouts_are_inverse(
    layout: str, shape: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    tensor = Tensor("x", layout)  # type: ignore[arg-type]
    parameter = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    file = tensor.to_file(parameter)
    assert file.shape == tensor.file_shape(shape) == stored
    assert file.flags.c_contiguous
    np.testing.assert_array_equal(tensor.to_parameter(file, shape), parameter)


def test_the_rows_of_a_transposed_weight_are_its_outputs_head_by_head() -> None:
    w = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)  # (D, H, K)
    file = Tensor("x", "transposed").to_file(w)
    for head in range(2):
        for column in range(3):
            np.testing.assert_array_equal(file[3 * head + column], w[:, head, column])


@pytest.mark.parametrize(
    ("path", "leaf", "tensor"),
    [
        ("layer_0/query", "w", Tensor("blocks.0.q.weight", "transposed")),
        ("layer_12/query", "b", Tensor("blocks.12.q.bias", "flat")),
        ("layer_3/value", "w", Tensor("blocks.3.qv.weight", "transposed", part=1, parts=2)),
        ("norm", "alpha", Tensor("ln.weight")),
        ("output", "w", Tensor("lm.decoder.weight", "transposed")),
        ("output", "b", Tensor("lm.bias", "flat")),
    ],
)
def test_a_table_gives_the_name_and_the_layout(path: str, leaf: str, tensor: Tensor) -> None:
    assert look_up(TABLE, path, leaf) == tensor


@pytest.mark.parametrize(("path", "leaf"), [("layer_0/key", "w"), ("norm", "w"), ("other", "w")])
def test_what_a_table_does_not_have_is_a_key_error(path: str, leaf: str) -> None:
    with pytest.raises(KeyError):
        look_up(TABLE, path, leaf)


@pytest.mark.parametrize(
    ("layout", "shape"), [("transposed", (4, 2, 3)), ("flat", (2, 3)), ("same", (6,))]
)
def test_parts_stand_one_after_the_other(layout: Any, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    parameters = [random.standard_normal(shape).astype(np.float32) for _ in range(3)]
    parts = [Tensor("x", layout, part=part, parts=3) for part in range(3)]
    whole = [Tensor("x", layout).to_file(parameter) for parameter in parameters]
    fused = np.concatenate(
        [tensor.to_file(each) for tensor, each in zip(parts, parameters, strict=True)]
    )
    np.testing.assert_array_equal(fused, np.concatenate(whole))
    for tensor, parameter in zip(parts, parameters, strict=True):
        assert tensor.file_shape(shape) == fused.shape
        np.testing.assert_array_equal(tensor.to_parameter(fused, shape), parameter)
