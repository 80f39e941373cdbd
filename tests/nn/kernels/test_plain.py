from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, normal

from encodax.nn.kernels.numerics import MASK_VALUE
from encodax.nn.kernels.plain import attention_mask, masked_softmax

QUERIES = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])  # (B, T)
KEYS = jnp.array([[1, 1, 2, 2, 2, 2, 3, 0], [2, 2, 3, 0, 0, 0, 0, 0]])  # (B, S)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 1, 3])
def test_the_mask_is_same_segment_and_not_padding(causal: bool, window: int | None) -> None:
    for queries, keys in ((QUERIES, QUERIES), (QUERIES, KEYS)):
        wanted = reference.segment_mask(
            np.asarray(queries), np.asarray(keys), causal=causal, window=window
        )
        for row in range(2):
            mask = attention_mask(queries[row], keys[row], causal=causal, window=window)
            np.testing.assert_array_equal(mask, wanted[row])


@pytest.mark.parametrize(
    "options", [{"causal": True}, {"window": 1}, {"causal": True, "window": 2}]
)
def test_the_mask_of_a_part_of_a_row_is_that_part_of_the_mask(options: dict[str, Any]) -> None:
    whole = attention_mask(QUERIES[1], KEYS[0], **options)
    part = attention_mask(QUERIES[1, 2:5], KEYS[0, 1:], **options, offset=1)
    np.testing.assert_array_equal(part, whole[2:5, 1:])


def test_a_softmax_with_nothing_to_choose_is_zeros() -> None:
    weights = masked_softmax(normal(2, 3), jnp.array([[True, False, True], [False] * 3]))
    np.testing.assert_array_equal(weights[1], np.zeros(3))
    assert weights[0, 1] == 0
    assert float(weights[0].sum()) == pytest.approx(1, abs=1e-7)


def test_a_softmax_is_of_float32_whatever_comes_in() -> None:
    scores = (5 * normal(4, 200)).astype(jnp.bfloat16)
    weights = masked_softmax(scores, jnp.ones((4, 200), bool))
    assert weights.dtype == jnp.float32
    exponentials = np.exp(reference.float64(scores))
    assert_close(weights, exponentials / exponentials.sum(-1, keepdims=True))


def test_the_masking_number_is_finite() -> None:
    assert np.isfinite(np.float32(MASK_VALUE))
