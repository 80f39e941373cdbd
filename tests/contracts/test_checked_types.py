"""The tests check every annotation of the library: a wrong shape, dtype or kind is an error."""

import jax.numpy as jnp
import jaxtyping
import pytest

from encodax.nn import pool, position_encoding, sinusoidal_table
from encodax.nn.kernels.dispatch import attention
from encodax.text.tokenizer import Tokenizer


def test_a_wrong_kind_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="positions"):
        sinusoidal_table(3.5, 4)  # type: ignore[arg-type]


def test_a_wrong_dtype_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="position"):
        position_encoding(jnp.float32(1), 4)


def test_shapes_that_do_not_agree_are_an_error() -> None:
    q, segments = jnp.ones((2, 3, 4, 5)), jnp.ones((2, 3), jnp.int32)
    with pytest.raises(jaxtyping.TypeCheckError, match="key_segments"):
        attention(q, q, q, segments, segments[:, :2])


def test_a_method_is_checked_too() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="kind"):
        Tokenizer.train(["a"], "unigram")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked_types")
def test_the_check_can_be_left_out_of_one_test() -> None:
    with pytest.raises(ValueError, match="pooling 'sum' is not one of"):
        pool(jnp.ones((1, 2, 3)), None, "sum")  # type: ignore[arg-type]
