import numpy as np
import pytest

from encodax.families.tensors import LINEAR, NORM, Tensor, labels_of, look_up

TABLE = {"layer_{}/query": ("blocks.{}.q", LINEAR), "norm": ("ln", NORM)}


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
        ("norm", "alpha", Tensor("ln.weight")),
    ],
)
def test_a_table_gives_the_name_and_the_layout(path: str, leaf: str, tensor: Tensor) -> None:
    assert look_up(TABLE, path, leaf) == tensor


@pytest.mark.parametrize(("path", "leaf"), [("layer_0/key", "w"), ("norm", "w"), ("other", "w")])
def test_what_a_table_does_not_have_is_a_key_error(path: str, leaf: str) -> None:
    with pytest.raises(KeyError):
        look_up(TABLE, path, leaf)


def test_labels_are_in_the_order_of_their_numbers() -> None:
    names = {str(index): chr(97 + index) for index in (10, 2, 0, 1, 9, 3, 4, 5, 6, 7, 8)}
    assert labels_of({"id2label": names}) == tuple("abcdefghijk")


def test_labels_that_are_missing_are_those_said() -> None:
    assert labels_of({}) == ()
    assert labels_of({}, ("x", "y")) == ("x", "y")
    assert labels_of({"id2label": {}}, ("x", "y")) == ()
