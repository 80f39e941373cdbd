import numpy as np
import pytest
import reference
from blocks import assert_close, built, normal, packed

from encodax.config import HeadConfig
from encodax.nn import Head

BATCH = packed([[5, 3, 8], [1, 10], [7, 7, 2, 4]], [[0, 1], [2]], tokens=6, slots=2)
FIRST = [(0, 0, 0), (0, 1, 3), (1, 0, 0)]  # (row, slot, first token)


def test_a_token_head_scores_every_token() -> None:
    hidden = normal(2, 6, 4)
    params, apply = built(lambda x: Head(HeadConfig("token", classes=5))(x, BATCH), hidden)
    assert set(params) == {"head/output"}
    leaves = reference.float64(params["head/output"])
    logits = apply(params, hidden)
    assert logits.shape == (2, 6, 5)
    assert_close(logits, reference.linear(reference.float64(hidden), leaves))


def test_berts_sequence_head_is_the_first_token_dense_tanh_and_classifier() -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig("sequence", classes=3, pooling="cls", dense_width=4)
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    leaves = reference.below(reference.float64(params), "head")
    assert {path: leaf["w"].shape for path, leaf in leaves.items()} == {
        "dense": (4, 4),
        "output": (4, 3),
    }
    logits = apply(params, hidden)
    assert logits.shape == (2, 2, 3)
    for row, slot, token in FIRST:
        pooled = np.tanh(reference.linear(reference.float64(hidden[row, token]), leaves["dense"]))
        assert_close(logits[row, slot], reference.linear(pooled, leaves["output"]))


def test_a_mean_head_scores_the_mean() -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig("sequence", classes=3, pooling="mean")
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    logits = apply(params, hidden)
    for (row, slot, token), length in zip(FIRST, (3, 2, 4), strict=True):
        pooled = reference.float64(hidden[row, token : token + length]).mean(0)
        leaves = reference.float64(params["head/output"])
        assert_close(logits[row, slot], reference.linear(pooled, leaves))


@pytest.mark.parametrize("activation", ["gelu_erf", "gelu_tanh"])
def test_the_dense_layer_may_have_another_activation(activation: str) -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig("token", classes=3, dense_width=4, activation=activation)
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    leaves = reference.below(reference.float64(params), "head")
    dense = reference.GELU[activation](reference.linear(reference.float64(hidden), leaves["dense"]))
    assert_close(apply(params, hidden), reference.linear(dense, leaves["output"]))
