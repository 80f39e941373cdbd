"""A row with nothing to attend to gives zeros, and gradients without NaN, in every dtype."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from blocks import built, drawn, normal
from zoo import EMBEDDINGS, LAYER, PRE

from encodax.config import EncoderConfig, LayerConfig, NormConfig
from encodax.nn import Encoder, EncoderLayer
from encodax.nn.kernels.dispatch import attention, attention_weights
from encodax.types.batches import PackedBatch

DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
# Row 0 is all padding, row 1 has padding at its end, row 2 has none.
SEGMENTS = jnp.array([[0, 0, 0, 0], [1, 1, 2, 0], [1, 1, 1, 1]])


def all_finite(tree: object) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


@DTYPES
def test_attention_of_padding_is_zeros_with_finite_gradients(dtype: jnp.dtype) -> None:
    q, k, v = (30 * normal(3, 3, 4, 2, 8)).astype(dtype)
    bias = normal(3, 2, 4, 4, seed=1).astype(dtype)

    def total(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        return attention(q, k, v, SEGMENTS, SEGMENTS, bias=bias).astype(jnp.float32).sum()

    out = attention(q, k, v, SEGMENTS, SEGMENTS, bias=bias)
    assert out.dtype == dtype
    assert all_finite(out)
    padding = np.asarray(SEGMENTS) == 0
    np.testing.assert_array_equal(out[padding], 0)
    assert np.asarray(out[~padding] != 0).any((-2, -1)).all()
    gradients = jax.jit(jax.grad(total, range(4)))(q, k, v, bias)
    assert all_finite(gradients)
    for gradient in gradients[:3]:
        np.testing.assert_array_equal(gradient[padding], 0)
    assert np.any(gradients[2] != 0)


@DTYPES
def test_weights_of_padding_are_zeros(dtype: jnp.dtype) -> None:
    q, k = (30 * normal(2, 3, 4, 2, 8)).astype(dtype)
    weights = attention_weights(q, k, SEGMENTS, SEGMENTS)
    assert weights.dtype == jnp.float32
    np.testing.assert_array_equal(weights[0], 0)
    np.testing.assert_allclose(weights[2].sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "dtype"),
    [(LAYER, jnp.float32), (LAYER, jnp.bfloat16), (LAYER, jnp.float16), (PRE, jnp.float16)],
    ids=["post, float32", "post, bfloat16", "post, float16", "pre, float16"],
)
def test_a_layer_stays_finite_on_padding(config: LayerConfig, dtype: jnp.dtype) -> None:
    params, apply = built(lambda x: EncoderLayer(config)(x, SEGMENTS), zoo.x(3, 4))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def total(params: object, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = apply(params, x)
        return out.astype(jnp.float32).sum(), out

    x = zoo.x(3, 4).astype(dtype)
    gradients, out = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, x)
    assert out.dtype == dtype
    assert all_finite((gradients, out))


def test_a_row_of_padding_alone_changes_no_gradient() -> None:
    config = EncoderConfig(EMBEDDINGS, (LAYER,), NormConfig(1e-12))
    transformed = hk.transform(lambda batch: Encoder(config)(batch).hidden)
    ids = jnp.array([[3, 4, 5], [6, 7, 0], [8, 9, 2]])
    with_padding = PackedBatch.from_rows(ids, jnp.array([3, 2, 0]))
    with_another_row = PackedBatch.from_rows(ids, jnp.array([3, 2, 3]))
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), with_padding))
    counted = with_padding.segment_ids[..., None] > 0  # (B, T, 1)

    @jax.jit
    @jax.value_and_grad
    def loss(params: object, batch: PackedBatch) -> jax.Array:
        hidden = transformed.apply(params, None, batch)
        return jnp.where(counted, jnp.sin(hidden), 0).sum()

    value, gradient = loss(params, with_padding)
    other_value, other_gradient = loss(params, with_another_row)
    np.testing.assert_allclose(value, other_value, rtol=1e-6)
    assert all_finite(gradient)
    for one, other in zip(*map(jax.tree.leaves, (gradient, other_gradient)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
