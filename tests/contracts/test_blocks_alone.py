"""Each block stands on its own under `hk.transform`, with nothing said about shapes before."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from blocks import drawn
from zoo import LAYER, PRE, WIDTH

from encodax.config import EmbeddingsConfig, EncoderConfig
from encodax.nn import (
    Embeddings,
    Encoder,
    EncoderLayer,
    FeedForward,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    Residual,
)

SINUSOIDAL = EmbeddingsConfig(
    vocabulary_size=13, width=WIDTH, positions="sinusoidal", max_positions=None
)
OF_IDS = {
    "embeddings": lambda ids: Embeddings(SINUSOIDAL)(ids),
    "encoder": lambda ids: Encoder(EncoderConfig(SINUSOIDAL, (LAYER,)))(ids).hidden,
    "encoder, pre": lambda ids: Encoder(EncoderConfig(SINUSOIDAL, (PRE,)))(ids).hidden,
}
OF_VECTORS = {
    "linear": lambda x: Linear(WIDTH)(x),
    "layer norm": lambda x: LayerNorm()(x),
    "feed-forward": lambda x: FeedForward(12)(x),
    "attention": lambda x: MultiHeadAttention(2, 4)(x),
    "residual": lambda x: Residual(LayerNorm(), "pre")(x, FeedForward(12)),
    "layer": lambda x: EncoderLayer(LAYER)(x),
}


@pytest.mark.parametrize("block", OF_IDS.values(), ids=OF_IDS)
def test_init_on_zeros_serves_any_batch_size_and_length(block) -> None:  # type: ignore[no-untyped-def]
    transformed = hk.transform(block)
    zeros = jnp.zeros((2, 3), jnp.int32)  # (batch, seq_len)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), zeros))
    apply = jax.jit(transformed.apply)
    for shape in ((2, 3), (1, 7), (4, 1)):
        x = apply(params, None, jnp.full(shape, 12, jnp.int32))  # inference takes no key
        assert x.shape == (*shape, WIDTH)
        assert np.isfinite(x).all()


@pytest.mark.parametrize("block", OF_VECTORS.values(), ids=OF_VECTORS)
def test_vectors_come_out_as_they_went_in(block) -> None:  # type: ignore[no-untyped-def]
    transformed = hk.transform(block)
    zeros = jnp.zeros((2, 3, WIDTH))
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), zeros))
    apply = jax.jit(transformed.apply)
    for rows, tokens in ((2, 3), (4, 1)):
        assert apply(params, None, zoo.x(rows, tokens)).shape == (rows, tokens, WIDTH)


def test_hk_transform_works_as_a_decorator_and_as_a_call() -> None:
    @hk.transform
    def decorated(x: jax.Array) -> jax.Array:
        return FeedForward(12)(x)

    called = hk.transform(lambda x: FeedForward(12)(x))
    x = zoo.x()
    params = decorated.init(jax.random.key(0), x)
    assert set(params) == {"feed_forward/up", "feed_forward/down"}
    again = called.init(jax.random.key(0), x)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))
    np.testing.assert_array_equal(decorated.apply(params, None, x), called.apply(again, None, x))


def test_a_module_called_twice_shares_its_parameters() -> None:
    @hk.transform
    def twice(x: jax.Array) -> jax.Array:
        layer = EncoderLayer(LAYER)
        return layer(layer(x))

    once = hk.transform(lambda x: EncoderLayer(LAYER)(x))
    shapes = [
        jax.tree.map(jnp.shape, jax.eval_shape(block.init, jax.random.key(0), zoo.x()))
        for block in (twice, once)
    ]
    assert shapes[0] == shapes[1]


def test_two_modules_of_one_name_have_parameters_of_their_own() -> None:
    two = hk.transform(lambda x: Linear(WIDTH)(Linear(WIDTH)(x)))
    assert set(two.init(jax.random.key(0), zoo.x())) == {"linear", "linear_1"}
