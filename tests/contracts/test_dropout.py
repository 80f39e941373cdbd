"""Dropout acts in training alone, everywhere it is configured, and row by row and head by head."""

import dataclasses
import itertools
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import drawn
from zoo import BATCH, EMBEDDINGS, LAYER, SEQUENCE_HEAD

from encodax.config import EncoderConfig
from encodax.models.encoder_model import Model
from encodax.nn import Encoder, Head, MultiHeadAttention
from encodax.nn.kernels.dispatch import attention

RATE = 0.4


def attention_of_equals(rate: float, rows: int = 3, heads: int = 4, keys: int = 24) -> np.ndarray:
    """Weights that act, (B, H, T, S): equal rows and heads, and values that single keys out."""
    q = jnp.ones((rows, keys, heads, keys))
    eye = jnp.broadcast_to(jnp.eye(keys)[None, :, None], (rows, keys, heads, keys))
    ones = jnp.ones((rows, keys), jnp.int32)
    out = attention(
        q, q, eye, ones, ones, dropout_key=jax.random.key(0), dropout_rate=rate
    )  # (B, T, H, S)
    return np.moveaxis(np.asarray(out), 2, 1)


def test_attention_dropout_differs_by_row_and_head_and_query() -> None:
    kept = attention_of_equals(RATE) > 0
    rows, heads, queries, _ = kept.shape
    masks = kept.reshape(rows * heads * queries, -1)
    assert len(np.unique(masks, axis=0)) == len(masks)
    # Two masks agree as often as independent ones do.
    agree = (1 - RATE) ** 2 + RATE**2
    by_head = kept.reshape(rows * heads, -1)
    for one, other in itertools.combinations(by_head, 2):
        spread = math.sqrt(agree * (1 - agree) / one.size)
        assert abs((one == other).mean() - agree) < 5 * spread


def test_attention_dropout_has_its_rate_and_keeps_the_expectation() -> None:
    weights = attention_of_equals(RATE)
    values = np.unique(weights)
    np.testing.assert_allclose(values, [0, 1 / 24 / (1 - RATE)], rtol=1e-6)
    spread = math.sqrt(RATE * (1 - RATE) / weights.size)
    assert abs((weights == 0).mean() - RATE) < 4 * spread
    assert abs(weights.sum(-1).mean() - 1) < 4 * spread / (1 - RATE)


def test_no_rate_drops_nothing() -> None:
    np.testing.assert_allclose(attention_of_equals(0.0), 1 / 24, rtol=1e-6)


def site(name: str) -> Any:
    """A function of (batch, is_training) in which dropout stands at one place alone."""
    embeddings, layer, head = EMBEDDINGS, LAYER, SEQUENCE_HEAD
    if name == "embeddings":
        embeddings = dataclasses.replace(embeddings, dropout_rate=RATE)
    if name == "attention":
        attention = dataclasses.replace(layer.attention, dropout_rate=RATE)
        layer = dataclasses.replace(layer, attention=attention)
    if name == "feed-forward":
        feed_forward = dataclasses.replace(layer.feed_forward, dropout_rate=RATE)
        layer = dataclasses.replace(layer, feed_forward=feed_forward)
    if name == "sublayers":
        layer = dataclasses.replace(layer, dropout_rate=RATE)
    if name == "head":
        head = dataclasses.replace(head, dropout_rate=RATE)

    def model(is_training: bool) -> jax.Array:
        encoded = Encoder(EncoderConfig(embeddings, (layer,)))(BATCH, is_training=is_training)
        return Head(head)(encoded.hidden, BATCH, is_training=is_training)

    return model


@pytest.mark.parametrize("name", ["embeddings", "attention", "feed-forward", "sublayers", "head"])
def test_it_acts_wherever_it_is_configured_and_in_training_alone(name: str) -> None:
    transformed = hk.transform(site(name))
    apply = transformed.apply
    params = drawn(jax.eval_shape(lambda key: transformed.init(key, False), jax.random.key(0)))
    key = jax.random.key(0)
    quiet = apply(params, None, False)
    np.testing.assert_array_equal(apply(params, key, False), quiet)
    trained = apply(params, key, True)
    assert np.abs(trained - quiet).max() > 1e-3
    np.testing.assert_array_equal(apply(params, key, True), trained)
    assert np.abs(apply(params, jax.random.key(1), True) - trained).max() > 1e-3


def test_training_without_a_rate_needs_no_key() -> None:
    transformed = hk.transform(site("nowhere"))
    apply = transformed.apply
    params = drawn(jax.eval_shape(lambda key: transformed.init(key, False), jax.random.key(0)))
    np.testing.assert_array_equal(apply(params, None, True), apply(params, None, False))


def test_two_equal_rows_of_a_batch_are_dropped_apart() -> None:
    def block(x: jax.Array) -> jax.Array:
        return MultiHeadAttention(2, 4, dropout_rate=RATE)(x, is_training=True)

    transformed = hk.transform(block)
    x = jnp.broadcast_to(jnp.arange(6.0)[None, :, None] / 6, (2, 6, 8))
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), x))
    first, second = transformed.apply(params, jax.random.key(0), x)
    assert np.abs(first - second).max() > 1e-3


def test_a_model_in_training_wants_a_key(tiny_model: Model) -> None:
    batch = tiny_model.batch(["a cat"])
    with pytest.raises(ValueError, match="PRNG"):
        tiny_model.apply(tiny_model.params, batch, is_training=True)
