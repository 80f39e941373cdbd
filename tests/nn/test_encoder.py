import dataclasses
import functools
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, normal, packed

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    Placement,
)
from encodax.nn import Embeddings, Encoder, EncoderLayer
from encodax.types import EncoderOutput, PackedBatch

SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])
LAYER = LayerConfig(
    AttentionConfig(heads=2, head_width=4), FeedForwardConfig(width=12), norm=NormConfig(1e-5)
)
PRE = dataclasses.replace(LAYER, placement="pre")
EMBEDDINGS = EmbeddingsConfig(vocabulary_size=11, width=8, positions="sinusoidal")


def layer_of(placement: Placement) -> LayerConfig:
    return dataclasses.replace(LAYER, placement=placement)


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_a_layer_is_its_formula(placement: Placement) -> None:
    x, config = normal(2, 6, 8), layer_of(placement)
    params, apply = built(lambda x: EncoderLayer(config)(x, SEGMENTS), x)
    leaves = reference.below(reference.float64(params), "layer")
    assert set(leaves) == {
        *(f"attention/{name}" for name in ("query", "key", "value", "output")),
        *("attention_norm", "feed_forward/up", "feed_forward/down", "feed_forward_norm"),
    }
    mask = reference.segment_mask(np.asarray(SEGMENTS), np.asarray(SEGMENTS))
    wanted = reference.encoder_layer(
        reference.float64(x), leaves, mask, placement=placement, eps=1e-5
    )
    assert_close(apply(params, x), wanted)


def test_a_layer_without_segments_sees_the_whole_row() -> None:
    x = normal(2, 6, 8)
    params, apply = built(lambda x: EncoderLayer(LAYER)(x), x)
    leaves = reference.below(reference.float64(params), "layer")
    mask = np.ones((2, 6, 6), bool)
    wanted = reference.encoder_layer(reference.float64(x), leaves, mask, placement="post", eps=1e-5)
    assert_close(apply(params, x), wanted)


def test_the_attention_config_reaches_the_attention() -> None:
    attention = AttentionConfig(2, 4, biases=False, output_bias=False, scale=1.0, window=1)
    config = dataclasses.replace(LAYER, attention=attention)
    x = normal(2, 6, 8)
    params, apply = built(lambda x: EncoderLayer(config)(x, SEGMENTS), x)
    assert all("b" not in leaves for path, leaves in params.items() if "/attention/" in path)
    leaves = reference.below(reference.float64(params), "layer")
    mask = reference.segment_mask(np.asarray(SEGMENTS), np.asarray(SEGMENTS), window=1)
    x64 = reference.float64(x)
    attended = reference.multi_head_attention(
        x64, x64, reference.below(leaves, "attention"), mask, scale=1.0
    )
    x64 = reference.layer_norm(x64 + attended, leaves["attention_norm"], 1e-5)
    ahead = reference.feed_forward(x64, reference.below(leaves, "feed_forward"))
    wanted = reference.layer_norm(x64 + ahead, leaves["feed_forward_norm"], 1e-5)
    assert_close(apply(params, x), wanted)


def encoder_of(placement: Placement, final_norm: NormConfig | None = None) -> EncoderConfig:
    return EncoderConfig(EMBEDDINGS, (layer_of(placement),) * 2, final_norm)


def batch_of_two() -> PackedBatch:
    return packed([[5, 3, 8], [1, 10], [7, 7, 2, 4]], [[0, 1], [2]], tokens=6, slots=2)


@functools.cache
def encoded(
    config: EncoderConfig, record: frozenset[str] = frozenset()
) -> tuple[dict, EncoderOutput]:
    batch = batch_of_two()
    params, apply = built(lambda batch: Encoder(config)(batch, record=record), batch)
    return reference.float64(params), apply(params, batch)


def stages(config: EncoderConfig, params: dict) -> list[np.ndarray]:
    """The embeddings and what each layer gives, in NumPy."""
    batch, placement = batch_of_two(), config.layers[0].placement
    sinusoids = [
        [[reference.sinusoid(p, column, 8) for column in range(8)] for p in row]
        for row in np.asarray(batch.position_ids)
    ]
    x = params["encoder/embeddings/token"]["w"][batch.token_ids] + np.array(sinusoids)
    mask = reference.segment_mask(batch.segment_ids, batch.segment_ids)
    states = [x]
    for index in range(len(config.layers)):
        leaves = reference.below(params, f"encoder/layer_{index}")
        x = reference.encoder_layer(x, leaves, mask, placement=placement, eps=1e-5)
        states.append(x)
    return states


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_an_encoder_is_embeddings_and_its_layers(placement: Placement) -> None:
    config = encoder_of(placement)
    params, out = encoded(config)
    assert "encoder/final_norm" not in params
    assert_close(out.hidden, stages(config, params)[-1], 2e-6)
    assert out.records == {}


def test_the_final_norm_comes_after_the_last_layer() -> None:
    config = encoder_of("pre", NormConfig(1e-5))
    params, out = encoded(config)
    last = stages(config, params)[-1]
    assert_close(out.hidden, reference.layer_norm(last, params["encoder/final_norm"], 1e-5), 2e-6)


def test_records_are_the_stages_asked_for() -> None:
    config = encoder_of("pre", NormConfig(1e-5))
    params, out = encoded(config, frozenset({"hidden", "attention"}))
    assert set(out.records) == {"hidden", "attention"}
    states = stages(config, params)
    assert len(out.records["hidden"]) == len(states) == 3
    for actual, wanted in zip(out.records["hidden"], states, strict=True):
        assert_close(actual, wanted, 2e-6)

    batch = batch_of_two()
    mask = reference.segment_mask(batch.segment_ids, batch.segment_ids)
    assert len(out.records["attention"]) == 2
    for index, actual in enumerate(out.records["attention"]):
        leaves = reference.below(params, f"encoder/layer_{index}")
        x = reference.layer_norm(states[index], leaves["attention_norm"], 1e-5)
        q, k = (
            np.einsum("btd,dhk->bthk", x, leaves[f"attention/{name}"]["w"])
            + leaves[f"attention/{name}"]["b"]
            for name in ("query", "key")
        )
        assert_close(actual, reference.attention_weights(q, k, mask))


def test_recording_changes_no_output() -> None:
    _, plain = encoded(encoder_of("post"))
    for stage in ("hidden", "attention"):
        _, out = encoded(encoder_of("post"), frozenset({stage}))
        assert set(out.records) == {stage}
        assert_close(out.hidden, plain.hidden)


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(ValueError, match="no stage logits to record; known: attention, hidden"):
        encoded(encoder_of("post"), frozenset({"logits"}))


def halves(config: EncoderConfig) -> Callable[[PackedBatch], jax.Array]:
    def block(batch: PackedBatch) -> jax.Array:
        encoder = Encoder(config)
        x = encoder.embed(batch)
        return encoder.stack(x, jnp.asarray(batch.segment_ids)).hidden

    return block


def test_the_two_halves_have_the_parameters_of_the_whole() -> None:
    config, batch = encoder_of("post"), batch_of_two()
    params, apply = built(lambda batch: Encoder(config)(batch), batch)
    apart = hk.transform(halves(config))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(apart.init, jax.random.key(0), batch))
    assert shapes == jax.tree.map(jnp.shape, params)
    assert_close(jax.jit(apart.apply)(params, None, batch), apply(params, batch).hidden)


def test_plain_ids_are_one_sequence_a_row() -> None:
    config, ids = encoder_of("post"), jnp.array([[5, 3, 8], [1, 10, 0]])
    params, apply = built(lambda ids: Encoder(config)(ids).hidden, ids)
    np.testing.assert_array_equal(apply(params, ids), apply(params, PackedBatch.from_rows(ids)))


def test_layers_may_differ() -> None:
    wide = dataclasses.replace(LAYER, feed_forward=FeedForwardConfig(width=20))
    config = EncoderConfig(EMBEDDINGS, (LAYER, wide))
    params, _ = encoded(config)
    assert params["encoder/layer_0/feed_forward/up"]["w"].shape == (8, 12)
    assert params["encoder/layer_1/feed_forward/up"]["w"].shape == (8, 20)


def test_an_encoder_without_layers_is_its_embeddings() -> None:
    config, batch = EncoderConfig(EMBEDDINGS, ()), batch_of_two()
    params, apply = built(lambda batch: Encoder(config)(batch).hidden, batch)
    embeddings, embed = built(lambda batch: Embeddings(EMBEDDINGS)(batch), batch)
    tables = dict(zip(embeddings, params.values(), strict=True))
    np.testing.assert_array_equal(apply(params, batch), embed(tables, batch))
