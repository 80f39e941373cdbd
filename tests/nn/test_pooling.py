import numpy as np
import pytest
from blocks import assert_close, normal, packed

from encodax.nn import pool
from encodax.types import PackedBatch


def batch_of_two() -> PackedBatch:
    """Row 0: sequences of 3 and 1 tokens and an empty slot; row 1: one of 4; one of padding."""
    sequences = [[5, 3, 8], [1], [7, 7, 2, 4]]
    return packed(sequences, [[0, 1], [2], []], tokens=6, slots=3)


def test_cls_is_the_first_token_of_each_sequence() -> None:
    hidden = normal(3, 6, 4)
    pooled = pool(hidden, batch_of_two(), "cls")
    wanted = np.zeros((3, 3, 4), np.float32)
    wanted[0, 0], wanted[0, 1], wanted[1, 0] = hidden[0, 0], hidden[0, 3], hidden[1, 0]
    np.testing.assert_array_equal(pooled, wanted)


def test_mean_is_over_the_tokens_of_each_sequence() -> None:
    hidden = normal(3, 6, 4)
    pooled = pool(hidden, batch_of_two(), "mean")
    x = np.asarray(hidden, np.float64)
    wanted = np.zeros((3, 3, 4))
    wanted[0, 0], wanted[0, 1], wanted[1, 0] = x[0, :3].mean(0), x[0, 3], x[1, :4].mean(0)
    assert_close(pooled, wanted)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pooled_vector_has_the_dtype_of_its_tokens(pooling: str, dtype: str) -> None:
    assert pool(normal(3, 6, 4).astype(dtype), batch_of_two(), pooling).dtype == dtype


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="pooling 'max' is not one of: cls, mean"):
        pool(normal(3, 6, 4), batch_of_two(), "max")
