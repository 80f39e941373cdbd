from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, normal, packed

from encodax.config import HeadConfig, NormConfig
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


@pytest.mark.parametrize("kind", ["span", "token"])
def test_a_norm_follows_the_activation(kind: Any) -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig(kind, 2, dense_width=7, dense_bias=False, norm=NormConfig(1e-5, bias=False))
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    leaves = reference.below(reference.float64(params), "head")
    assert {path: {k: v.shape for k, v in leaf.items()} for path, leaf in leaves.items()} == {
        "dense": {"w": (4, 7)},
        "norm": {"alpha": (7,)},
        "output": {"w": (7, 2), "b": (2,)},
    }
    x = np.tanh(reference.linear(reference.float64(hidden), leaves["dense"]))
    x = reference.layer_norm(x, leaves["norm"], 1e-5)
    logits = apply(params, hidden)
    assert logits.shape == (2, 6, 2)
    assert_close(logits, reference.linear(x, leaves["output"]))


@pytest.mark.parametrize("bias", [True, False])
def test_a_tied_output_is_the_token_table_with_a_bias_alone(bias: bool) -> None:
    hidden, table = normal(2, 6, 4), normal(11, 3, seed=1)
    config = HeadConfig("vocabulary", 11, dense_width=3, tied=True, output_bias=bias)

    def block(hidden: jax.Array, table: jax.Array) -> jax.Array:
        return Head(config)(hidden, BATCH, token_table=lambda: table)

    params, apply = built(block, hidden, table)
    leaves = reference.below(reference.float64(params), "head")
    assert {path: set(leaf) for path, leaf in leaves.items()} == {"dense": {"w", "b"}} | (
        {"output": {"b"}} if bias else {}
    )
    x = np.tanh(reference.linear(reference.float64(hidden), leaves["dense"]))
    wanted = x @ reference.float64(table).T + (leaves["output"]["b"] if bias else 0)
    logits = apply(params, hidden, table)
    assert logits.shape == (2, 6, 11)
    assert_close(logits, wanted)


def test_a_tied_output_without_a_table_is_an_error() -> None:
    config = HeadConfig("vocabulary", 11, tied=True)
    with pytest.raises(ValueError, match="a tied output needs the table of token embeddings"):
        built(lambda x: Head(config)(x, BATCH), normal(2, 6, 4))


@pytest.mark.parametrize("normalize", [False, True])
def test_an_embedding_head_gives_vectors_and_has_no_parameters(normalize: bool) -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig("embedding", pooling="mean", normalize=normalize)
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    assert params == {}
    vectors = apply(params, hidden)
    assert vectors.shape == (2, 2, 4)
    np.testing.assert_array_equal(vectors[1, 1], np.zeros(4))  # an empty slot
    for (row, slot, token), length in zip(FIRST, (3, 2, 4), strict=True):
        pooled = reference.float64(hidden[row, token : token + length]).mean(0)
        wanted = pooled / np.linalg.norm(pooled) if normalize else pooled
        assert_close(vectors[row, slot], wanted)


def test_an_embedding_may_have_a_dense_layer() -> None:
    hidden = normal(2, 6, 4)
    config = HeadConfig("embedding", pooling="cls", dense_width=3, normalize=True)
    params, apply = built(lambda x: Head(config)(x, BATCH), hidden)
    assert set(params) == {"head/dense"}
    vectors = apply(params, hidden)
    for row, slot, token in FIRST:
        x = reference.float64(hidden[row, token])
        x = np.tanh(reference.linear(x, reference.float64(params["head/dense"])))
        assert_close(vectors[row, slot], x / np.linalg.norm(x))


def test_an_empty_slot_leaves_gradients_of_unit_vectors_finite() -> None:
    config = HeadConfig("embedding", pooling="mean", normalize=True)
    params, apply = built(lambda x: Head(config)(x, BATCH), normal(2, 6, 4))
    gradient = jax.grad(lambda x: jnp.sin(apply(params, x)).sum())(normal(2, 6, 4))
    assert np.isfinite(gradient).all()
