"""The decoder: its formula, what it may look at, and a token at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, drawn, normal, packed
from hypothesis import given
from hypothesis import strategies as st

from encodax.config import (
    AttentionConfig,
    DecoderConfig,
    EmbeddingsConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    Placement,
    RotaryConfig,
)
from encodax.nn import Decoder, DecoderLayer
from encodax.types.batches import PackedBatch, Params

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])
SOURCE_SEGMENTS = jnp.array([[1, 1, 2, 2, 2], [1, 1, 2, 3, 0]])
LAYER = LayerConfig(AttentionConfig(2, 4), FeedForwardConfig(12, "relu"), NormConfig(1e-5))
EMBEDDINGS = EmbeddingsConfig(
    11, 8, positions="sinusoidal", max_positions=None, scale_by_sqrt_width=True
)


def layer_of(placement: Placement) -> LayerConfig:
    return dataclasses.replace(LAYER, placement=placement)


def decoder_layer(
    x: np.ndarray, source: np.ndarray, leaves: dict[str, Any], masks: Any, placement: str
) -> np.ndarray:
    """Vaswani et al. 2017, section 3.1, in NumPy; `masks` are of the two attentions."""
    below = reference.below
    sublayers = {
        "attention": lambda z: reference.multi_head_attention(
            z, z, below(leaves, "attention"), masks[0]
        ),
        "cross_attention": lambda z: reference.multi_head_attention(
            z, source, below(leaves, "cross_attention"), masks[1]
        ),
        "feed_forward": lambda z: reference.feed_forward(z, below(leaves, "feed_forward"), "relu"),
    }
    for name, sublayer in sublayers.items():
        norm = leaves[f"{name}_norm"]
        if placement == "post":
            x = reference.layer_norm(x + sublayer(x), norm, 1e-5)
        else:
            x = x + sublayer(reference.layer_norm(x, norm, 1e-5))
    return x


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_a_layer_is_its_formula(placement: Placement) -> None:
    x, source = normal(2, 6, 8), normal(2, 5, 8, seed=1)

    def block(x: jax.Array, source: jax.Array) -> jax.Array:
        layer = DecoderLayer(layer_of(placement))
        return layer(x, source, segment_ids=SEGMENTS, source_segments=SOURCE_SEGMENTS)

    params, apply = built(block, x, source)
    leaves = reference.below(reference.float64(params), "layer")
    assert {path.split("/")[0] for path in leaves} == {
        *("attention", "cross_attention", "feed_forward"),
        *("attention_norm", "cross_attention_norm", "feed_forward_norm"),
    }
    targets, sources = np.asarray(SEGMENTS), np.asarray(SOURCE_SEGMENTS)
    masks = (
        reference.segment_mask(targets, targets, causal=True),
        reference.segment_mask(targets, sources),
    )
    wanted = decoder_layer(*reference.float64({"x": x, "s": source}).values(), leaves, masks,
                           placement)  # fmt: skip
    assert_close(apply(params, x, source), wanted, 2e-6)


def decoder_of(kind: str) -> DecoderConfig:
    """A decoder of two layers, of each kind that there is."""
    rotary = AttentionConfig(2, 4, rotary=RotaryConfig(100.0))
    return {
        "post": DecoderConfig(EMBEDDINGS, (LAYER,) * 2),
        "pre": DecoderConfig(EMBEDDINGS, (layer_of("pre"),) * 2, NormConfig(1e-5)),
        "learned": DecoderConfig(
            dataclasses.replace(EMBEDDINGS, positions="learned", max_positions=8), (LAYER,) * 2
        ),
        "rotary": DecoderConfig(
            dataclasses.replace(EMBEDDINGS, positions=None),
            (dataclasses.replace(layer_of("pre"), attention=rotary),) * 2,
        ),
    }[kind]


KINDS = ("post", "pre", "learned", "rotary")
TARGETS = np.array([[5, 3, 8, 1, 9, 2, 10, 4], [7, 7, 2, 4, 1, 6, 3, 2]], np.int32)
SOURCE_LENGTHS = np.array([5, 3])


def whole(config: DecoderConfig) -> tuple[Params, Any]:
    """Parameters of a decoder, and its states of rows of one target and one source each."""
    source = normal(2, 5, 8, seed=1)
    segments = jnp.asarray(np.arange(5) < SOURCE_LENGTHS[:, None], jnp.int32)

    def block(targets: jax.Array, lengths: jax.Array) -> jax.Array:
        batch = PackedBatch.from_rows(targets, lengths)
        return Decoder(config)(batch, source, segments).hidden

    return built(block, jnp.asarray(TARGETS), jnp.asarray([8, 8]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_at_a_time_is_the_whole_row_at_every_step(kind: str) -> None:
    config = decoder_of(kind)
    params, apply = whole(config)
    wanted = apply(params, jnp.asarray(TARGETS), jnp.asarray([8, 8]))
    source = normal(2, 5, 8, seed=1)
    segments = jnp.asarray(np.arange(5) < SOURCE_LENGTHS[:, None], jnp.int32)
    begin = hk.transform(lambda: Decoder(config).begin(source, segments, room=8)).apply
    step = jax.jit(hk.transform(lambda ids, cache: Decoder(config).step(ids, cache)).apply)
    cache = jax.jit(begin)(params, None)
    for place in range(TARGETS.shape[1]):
        found, cache = step(params, None, jnp.asarray(TARGETS[:, place]), cache)
        assert_close(found, wanted[:, place], 1e-5)
    assert int(cache.length) == 8
    assert step._cache_size() == 1  # one program, however long the sequence


@given(place=st.integers(0, 7), token=st.integers(0, 10), kind=st.sampled_from(KINDS))
def test_nothing_after_a_position_changes_what_stands_before_it(
    place: int, token: int, kind: str
) -> None:
    params, apply = whole_once(kind)
    lengths = jnp.asarray([8, 8])
    changed = TARGETS.copy()
    changed[0, place] = token
    before, after = (np.asarray(apply(params, jnp.asarray(t), lengths)) for t in (TARGETS, changed))
    np.testing.assert_array_equal(before[0, :place], after[0, :place])
    np.testing.assert_array_equal(before[1], after[1])
    if changed[0, place] != TARGETS[0, place]:
        assert np.abs(before[0, place:] - after[0, place:]).max() > 1e-4


MADE: dict[str, Any] = {}


def whole_once(kind: str) -> Any:
    """`whole` of a kind, compiled once."""
    if kind not in MADE:
        MADE[kind] = whole(decoder_of(kind))
    return MADE[kind]


@pytest.mark.parametrize("kind", ["post", "pre"])
def test_pairs_that_share_a_row_are_what_they_are_alone(kind: str) -> None:
    config = decoder_of(kind)
    targets, lengths = [[5, 3, 8], [1, 10], [7, 7, 2, 4]], [4, 2, 3]
    sources = [normal(1, length, 8, seed=i) for i, length in enumerate(lengths)]
    source = jnp.concatenate([*sources[:2], jnp.zeros((1, 2, 8)), sources[2]], axis=1)
    source = jnp.concatenate(
        [source[:, :8], jnp.pad(sources[2], ((0, 0), (0, 5), (0, 0)))], axis=0
    )  # rows of 8: the sources 0 and 1, and the source 2
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
    batch = packed(targets, [[0, 1], [2]], tokens=6, slots=2)
    transformed = hk.transform(lambda batch, *source: Decoder(config)(batch, *source).hidden)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), batch, source, segments))
    apply = jax.jit(lambda *args: transformed.apply(params, None, *args))
    together = apply(batch, source, segments)
    for index, (row, span) in enumerate([(0, slice(0, 3)), (0, slice(3, 5)), (1, slice(0, 4))]):
        alone = packed(targets, [[index]], tokens=len(targets[index]), slots=1)
        ones = jnp.ones((1, lengths[index]), jnp.int32)
        assert_close(together[row, span], apply(alone, sources[index], ones)[0], 1e-5)


def test_dropout_is_in_training_alone() -> None:
    attention = dataclasses.replace(LAYER.attention, dropout_rate=0.2)
    layer = dataclasses.replace(LAYER, attention=attention, dropout_rate=0.3)
    config = DecoderConfig(dataclasses.replace(EMBEDDINGS, dropout_rate=0.1), (layer,))
    batch, source = PackedBatch.from_rows(jnp.asarray(TARGETS)), normal(2, 5, 8)
    segments = jnp.ones((2, 5), jnp.int32)
    run = hk.transform(
        lambda train: Decoder(config)(batch, source, segments, is_training=train).hidden
    )
    params = drawn(jax.eval_shape(lambda key: run.init(key, False), jax.random.key(0)))
    quiet = run.apply(params, None, False)
    first, second = (run.apply(params, jax.random.key(seed), True) for seed in (0, 1))
    assert np.abs(first - quiet).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


def test_a_window_is_refused() -> None:
    layer = dataclasses.replace(LAYER, attention=AttentionConfig(2, 4, window=2))
    with pytest.raises(ValueError, match="has no window"):
        built(lambda: Decoder(DecoderConfig(EMBEDDINGS, (layer,))).token_table())
