"""The configuration of the article that this library began with."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
)
from encodax.nn import Encoder

CONFIG = EncoderConfig(
    EmbeddingsConfig(
        vocabulary_size=84,
        width=64,
        positions="sinusoidal",
        max_positions=None,
        scale_by_sqrt_width=True,
    ),
    (
        LayerConfig(
            AttentionConfig(heads=4, head_width=16, biases=False), FeedForwardConfig(width=256)
        ),
    ),
)
SHAPES = {
    "encoder/embeddings/token": {"w": (84, 64)},
    "encoder/layer_0/attention/query": {"w": (64, 4, 16)},
    "encoder/layer_0/attention/key": {"w": (64, 4, 16)},
    "encoder/layer_0/attention/value": {"w": (64, 4, 16)},
    "encoder/layer_0/attention/output": {"w": (64, 64), "b": (64,)},
    "encoder/layer_0/attention_norm": {"alpha": (64,), "beta": (64,)},
    "encoder/layer_0/feed_forward/up": {"w": (64, 256), "b": (256,)},
    "encoder/layer_0/feed_forward/down": {"w": (256, 64), "b": (64,)},
    "encoder/layer_0/feed_forward_norm": {"alpha": (64,), "beta": (64,)},
}


@pytest.fixture(scope="module")
def encoder() -> hk.Transformed:
    return hk.transform(lambda ids: Encoder(CONFIG)(ids).hidden)


@pytest.fixture(scope="module")
def params(encoder: hk.Transformed) -> hk.Params:
    return encoder.init(jax.random.key(0), jnp.zeros((32, 10), jnp.int32))


def test_it_has_55_168_parameters_at_the_canonical_paths(params: hk.Params) -> None:
    shapes = {path: {k: v.shape for k, v in leaves.items()} for path, leaves in params.items()}
    assert shapes == SHAPES
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 55_168


def test_every_parameter_is_of_float32(params: hk.Params) -> None:
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}


def test_it_takes_another_batch_size_and_length(encoder: hk.Transformed, params: hk.Params) -> None:
    apply = jax.jit(encoder.apply)
    for rows, tokens in ((32, 10), (3, 17), (1, 1)):
        hidden = apply(params, None, jnp.full((rows, tokens), 83))
        assert hidden.shape == (rows, tokens, 64)
        assert np.isfinite(hidden).all()


def test_the_same_key_draws_the_same_parameters(encoder: hk.Transformed, params: hk.Params) -> None:
    ids = jnp.zeros((1, 1), jnp.int32)
    again, other = (encoder.init(jax.random.key(seed), ids) for seed in (0, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))
    assert not np.array_equal(params["encoder/embeddings/token"]["w"],
                              other["encoder/embeddings/token"]["w"])  # fmt: skip


def test_each_head_is_drawn_at_its_own_scale(params: hk.Params) -> None:
    for name in ("query", "key", "value"):
        w = params[f"encoder/layer_0/attention/{name}"]["w"]  # (D, H, K)
        wanted = np.sqrt(2 / (64 + 16))  # Glorot over D and K, not over D * H and K
        np.testing.assert_allclose(np.asarray(w).std((0, 2)), wanted, rtol=0.05)
