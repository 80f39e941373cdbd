import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, drawn, normal, packed

from encodax.config import (
    AttentionConfig,
    DisentangledConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    Placement,
    RelativeBiasConfig,
    RotaryConfig,
)
from encodax.nn import Embeddings, Encoder, EncoderLayer
from encodax.nn.relative_positions import bias_buckets
from encodax.types.batches import EncoderOutput, PackedBatch

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


def all_pairs() -> np.ndarray:
    batch = batch_of_two()
    return reference.segment_mask(batch.segment_ids, batch.segment_ids)


def positions_of(batch: PackedBatch) -> np.ndarray:
    return np.asarray(batch.position_ids)


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_a_layer_may_have_no_norm_around_attention(placement: Placement) -> None:
    config = dataclasses.replace(layer_of(placement), has_attention_norm=False)
    x = normal(2, 6, 8)

    def block(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        layer = EncoderLayer(config)
        return layer(x, SEGMENTS), layer.attention_weights(x, SEGMENTS)

    params, apply = built(block, x)
    leaves = reference.below(reference.float64(params), "layer")
    assert "attention_norm" not in leaves
    assert "feed_forward_norm" in leaves
    mask = reference.segment_mask(np.asarray(SEGMENTS), np.asarray(SEGMENTS))
    x64 = reference.float64(x)
    wanted = reference.encoder_layer(x64, leaves, mask, placement=placement, eps=1e-5)
    out, weights = apply(params, x)
    assert_close(out, wanted)
    q, k = (
        np.einsum("btd,dhk->bthk", x64, leaves[f"attention/{name}"]["w"])
        + leaves[f"attention/{name}"]["b"]
        for name in ("query", "key")
    )
    assert_close(weights, reference.attention_weights(q, k, mask))


def test_the_specs_of_a_layer_reach_its_blocks() -> None:
    config = dataclasses.replace(
        LAYER,
        feed_forward=FeedForwardConfig(12, "silu", gated=True, biases=False),
        norm=NormConfig(1e-5, bias=False),
    )
    x = normal(2, 6, 8)
    params, apply = built(lambda x: EncoderLayer(config)(x, SEGMENTS), x)
    leaves = reference.below(reference.float64(params), "layer")
    assert set(leaves["feed_forward_norm"]) == set(leaves["attention_norm"]) == {"alpha"}
    assert set(leaves["feed_forward/gate"]) == {"w"}
    mask = reference.segment_mask(np.asarray(SEGMENTS), np.asarray(SEGMENTS))
    attended = reference.float64(x) + reference.multi_head_attention(
        *(reference.float64(x),) * 2, reference.below(leaves, "attention"), mask
    )
    attended = reference.layer_norm(attended, leaves["attention_norm"], 1e-5)
    ahead = reference.feed_forward(attended, reference.below(leaves, "feed_forward"), "silu")
    wanted = reference.layer_norm(attended + ahead, leaves["feed_forward_norm"], 1e-5)
    assert_close(apply(params, x), wanted)


@pytest.mark.parametrize("dropped", ["both", "attention", "feed_forward"])
@pytest.mark.parametrize("silent", ["attention/output", "feed_forward/down"])
def test_dropout_is_of_what_the_sublayers_add_that_are_said(dropped: Any, silent: str) -> None:
    """A sublayer that adds nothing has nothing to drop."""
    config = dataclasses.replace(LAYER, dropout_rate=0.5, dropout_on=dropped)
    transformed = hk.transform(lambda x, train: EncoderLayer(config)(x, is_training=train))
    x = normal(2, 6, 8)
    shapes = jax.eval_shape(lambda key: transformed.init(key, x, False), jax.random.key(0))
    params = dict(drawn(shapes))
    params[f"layer/{silent}"] = jax.tree.map(jnp.zeros_like, params[f"layer/{silent}"])
    quiet = transformed.apply(params, None, x, False)
    trained = transformed.apply(params, jax.random.key(0), x, True)
    if dropped == "both" or not silent.startswith(dropped):
        assert np.abs(trained - quiet).max() > 1e-3
    else:
        np.testing.assert_array_equal(trained, quiet)


def test_layers_of_a_group_have_the_same_parameters() -> None:
    config = dataclasses.replace(encoder_of("post"), layers=(LAYER,) * 4)
    grouped = dataclasses.replace(config, parameter_groups=(0, 0, 1, 1))
    params, out = encoded(grouped, frozenset({"hidden"}))
    numbers = {path.split("/")[1] for path in params if "layer_" in path}
    assert numbers == {"layer_0", "layer_1"}  # one copy of each in the tree
    assert len(out.records["hidden"]) == 5

    # The same as layers that have parameters of their own, where these are copies.
    copied = {path: leaves for path, leaves in params.items() if "layer_" not in path}
    for layer, group in enumerate((0, 0, 1, 1)):
        for path, leaves in reference.below(params, f"encoder/layer_{group}").items():
            copied[f"encoder/layer_{layer}/{path}"] = leaves
    for actual, wanted in zip(out.records["hidden"], stages(config, copied), strict=True):
        assert_close(actual, wanted, 3e-6)


def test_the_gradient_of_shared_parameters_adds_up() -> None:
    batch = batch_of_two()
    config = dataclasses.replace(encoder_of("post"), layers=(LAYER,) * 3)
    grouped = dataclasses.replace(config, parameter_groups=(0, 1, 0))
    shared, apart = (
        hk.transform(lambda batch, config=each: Encoder(config)(batch).hidden)
        for each in (grouped, config)
    )
    params = drawn(jax.eval_shape(shared.init, jax.random.key(0), batch))
    copied = dict(params)
    for path, leaves in params.items():
        if path.startswith("encoder/layer_0/"):
            copied[path.replace("layer_0", "layer_2")] = leaves

    def gradient(block: hk.Transformed, params: Any) -> Any:
        loss = lambda params: jnp.sin(block.apply(params, None, batch)).sum()  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    ours, theirs = gradient(shared, params), gradient(apart, copied)
    assert ours.keys() == params.keys()
    for path, leaves in ours.items():
        second = theirs.get(path.replace("layer_0", "layer_2")) if "layer_0" in path else None
        for leaf, actual in leaves.items():
            wanted = theirs[path][leaf] + (0 if second is None else second[leaf])
            assert_close(actual, wanted, 1e-5)


def rotary(window: int | None, base: float) -> LayerConfig:
    attention = AttentionConfig(2, 4, window=window, rotary=RotaryConfig(base))
    return dataclasses.replace(LAYER, attention=attention, placement="pre")


def test_windows_and_bases_alternate_from_layer_to_layer() -> None:
    layers = (rotary(None, 1000.0), rotary(1, 10.0), rotary(1, 10.0), rotary(None, 1000.0))
    embeddings = dataclasses.replace(EMBEDDINGS, positions=None)
    config = EncoderConfig(embeddings, layers)
    params, out = encoded(config, frozenset({"attention"}))
    batch = batch_of_two()
    x = params["encoder/embeddings/token"]["w"][batch.token_ids]
    for index, layer in enumerate(layers):
        window, base = layer.attention.window, layer.attention.rotary.base
        mask = reference.segment_mask(batch.segment_ids, batch.segment_ids, window=window)
        np.testing.assert_array_equal(
            np.asarray(out.records["attention"][index]) > 0,
            np.broadcast_to(mask[:, None], (2, 2, 6, 6)),
        )
        leaves = reference.below(params, f"encoder/layer_{index}")
        turned = (positions_of(batch), base)
        x = reference.encoder_layer(x, leaves, mask, placement="pre", eps=1e-5, rotary=turned)
    assert_close(out.hidden, x, 3e-6)


SOME_TOKENS = np.array([[3, 0, 0], [2, 5, 1]])
"""Of each row of `batch_of_two`, one twice."""

READ = {
    "post": encoder_of("post"),
    "pre": encoder_of("pre", NormConfig(1e-5)),
    "shared": dataclasses.replace(encoder_of("post"), parameter_groups=(0, 0)),
    "rotary": EncoderConfig(EMBEDDINGS, (rotary(1, 10.0), rotary(None, 100.0))),
    "window": EncoderConfig(EMBEDDINGS, (rotary(None, 100.0), rotary(1, 10.0))),
    "bias": dataclasses.replace(
        encoder_of("post"), relative_positions=RelativeBiasConfig(8, 5)
    ),
    "disentangled": dataclasses.replace(
        encoder_of("post"), relative_positions=DisentangledConfig(span=3, norm=NormConfig(1e-5))
    ),
    "no layers": EncoderConfig(EMBEDDINGS, ()),
}  # fmt: skip


@pytest.mark.parametrize("config", READ.values(), ids=READ)
def test_some_tokens_alone_are_what_they_are_among_all(config: EncoderConfig) -> None:
    params, out = encoded(config)
    apply = hk.transform(lambda batch: Encoder(config)(batch, tokens=SOME_TOKENS)).apply
    found = jax.jit(apply)(params, None, batch_of_two())
    assert_close(found.hidden, np.asarray(out.hidden)[np.arange(2)[:, None], SOME_TOKENS], 2e-6)


@pytest.mark.parametrize("record", [(), ("hidden",)])
def test_the_last_layer_computes_no_token_that_is_not_wanted(record: tuple[str, ...]) -> None:
    """The widest array of the feed-forward network: of 3 tokens a row, or of all 6."""
    config = EncoderConfig(EMBEDDINGS, (LAYER,))
    transformed = hk.transform(
        lambda batch: Encoder(config)(batch, tokens=SOME_TOKENS, record=frozenset(record)).hidden
    )
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), batch_of_two()))
    text = str(jax.make_jaxpr(transformed.apply)(params, None, batch_of_two()))
    assert ("f32[2,6,12]" in text) == bool(record)


@pytest.mark.parametrize("missing", ["segment_ids", "position_ids"])
def test_a_layer_of_some_tokens_wants_to_know_where_all_stand(missing: str) -> None:
    given = {"segment_ids": SEGMENTS, "position_ids": jnp.zeros((2, 6), jnp.int32)}
    given[missing] = None
    with pytest.raises(ValueError, match="needs segment_ids and position_ids"):
        built(
            lambda x: EncoderLayer(LAYER)(x, tokens=jnp.asarray(SOME_TOKENS), **given),
            normal(2, 6, 8),
        )


def test_one_relative_bias_enters_the_scores_of_all_layers() -> None:
    config = dataclasses.replace(encoder_of("post"), relative_positions=RelativeBiasConfig(8, 5))
    params, out = encoded(config)
    table = params["encoder/relative_bias"]["w"]  # (buckets, H)
    assert table.shape == (8, 2)
    index = np.arange(6)
    buckets = bias_buckets(index[None] - index[:, None], RelativeBiasConfig(8, 5))
    bias = np.moveaxis(table[buckets], -1, 0)[None]  # (1, H, T, T)
    plain = {path: leaves for path, leaves in params.items() if "relative" not in path}
    x = stages(encoder_of("post"), plain)[0]
    for layer in range(2):
        leaves = reference.below(params, f"encoder/layer_{layer}")
        x = reference.encoder_layer(
            x, leaves, all_pairs(), placement="post", eps=1e-5, bias=np.repeat(bias, 2, 0)
        )
    assert_close(out.hidden, x, 2e-6)


def test_one_table_of_relative_positions_serves_all_layers() -> None:
    relative = DisentangledConfig(span=3, norm=NormConfig(1e-5))
    config = dataclasses.replace(encoder_of("post"), relative_positions=relative)
    params, out = encoded(config, frozenset({"hidden", "attention"}))
    assert [path for path in params if "relative" in path] == [
        "encoder/relative_embeddings",
        "encoder/relative_embeddings/norm",
    ]
    rows = reference.layer_norm(
        params["encoder/relative_embeddings"]["w"], params["encoder/relative_embeddings/norm"], 1e-5
    )
    for layer in range(2):
        leaves = reference.below(params, f"encoder/layer_{layer}/attention")
        x = reference.float64(out.records["hidden"][layer])
        (q, k), (position_q, position_k) = (
            [
                np.einsum("...d,dhk->...hk", source, leaves[name]["w"]) + leaves[name]["b"]
                for name in ("query", "key")
            ]
            for source in (x, rows)
        )
        bias = np.zeros((2, 2, 6, 6))
        for b, h, i, j in np.ndindex(bias.shape):
            row = min(max(i - j + 3, 0), 5)
            bias[b, h, i, j] = q[b, i, h] @ position_k[row, h] + k[b, j, h] @ position_q[row, h]
        scale = 1 / np.sqrt(3 * 4)
        wanted = reference.attention_weights(q, k, all_pairs(), bias * scale, scale)
        assert_close(out.records["attention"][layer], wanted, 2e-6)


def test_the_encoder_shows_the_table_that_it_embeds_with() -> None:
    def block(batch: PackedBatch) -> tuple[jax.Array, jax.Array]:
        encoder = Encoder(EncoderConfig(EMBEDDINGS, ()))
        return encoder(batch).hidden, encoder.token_table()

    params, apply = built(block, batch_of_two())
    assert set(params) == {"encoder/embeddings/token"}
    np.testing.assert_array_equal(
        apply(params, batch_of_two())[1], params["encoder/embeddings/token"]["w"]
    )
