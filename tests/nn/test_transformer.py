"""Encoder and decoder together: parameters, scores, and a token at a time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, drawn, packed

from encodax.config import TransformerConfig
from encodax.nn import Transformer
from encodax.options.presets import TRANSFORMERS, TransformerSize, transformer_config
from encodax.types.batches import PackedBatch, PairBatch, Params

SMALL = TransformerSize(layers=2, width=8, heads=2, feed_forward_width=12, dropout_rate=0.1)
VOCABULARY = 11


def pairs() -> PairBatch:
    """Three pairs in two rows."""
    source = packed([[5, 3, 8, 2], [1, 10], [7, 7, 2]], [[0, 1], [2]], tokens=6, slots=2)
    target = packed([[2, 3, 4], [9, 8], [1, 2, 3, 4]], [[0, 1], [2]], tokens=5, slots=2)
    return PairBatch(source, target)


def shapes_of(config: TransformerConfig) -> Any:
    init = hk.transform(lambda batch: Transformer(config)(batch)).init
    return jax.eval_shape(init, jax.random.key(0), pairs())


def count(config: TransformerConfig) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of(config)))


@pytest.mark.parametrize(("name", "wanted"), [("base", 63_082_496), ("big", 214_245_376)])
def test_sizes_of_the_paper_have_so_many_parameters(name: str, wanted: int) -> None:
    assert count(transformer_config(TRANSFORMERS[name], 37_000)) == wanted


def test_the_tiny_one_has_about_as_many_as_wu_et_al_say() -> None:
    assert count(transformer_config(TRANSFORMERS["tiny"], 10_000)) == pytest.approx(2.6e6, rel=0.02)


@pytest.mark.parametrize(
    ("shared", "tied", "bias", "tables"),
    [
        (True, True, False, {"encoder/embeddings/token"}),
        (False, True, True, {"encoder/embeddings/token", "decoder/embeddings/token", "output"}),
        (False, False, True, {"encoder/embeddings/token", "decoder/embeddings/token", "output"}),
        (True, False, False, {"encoder/embeddings/token", "output"}),
    ],
)
def test_tables_are_shared_where_the_config_says(
    shared: bool, tied: bool, bias: bool, tables: set[str]
) -> None:
    config = transformer_config(SMALL, VOCABULARY)
    config = dataclasses.replace(
        config, shared_embeddings=shared, tied_output=tied, output_bias=bias
    )
    shapes = shapes_of(config)
    assert {path for path in shapes if path == "output" or path.endswith("/token")} == tables
    if "output" in shapes:
        assert set(shapes["output"]) == {*({"b"} if bias else ()), *(() if tied else {"w"})}


@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_token_at_a_time_gives_the_scores_of_the_whole(placement: Any, tied: bool) -> None:
    config = transformer_config(SMALL, VOCABULARY, placement=placement)
    config = dataclasses.replace(config, tied_output=tied, shared_embeddings=tied)
    params = drawn(shapes_of(config))
    source = PackedBatch.from_rows(jnp.array([[5, 3, 8, 2], [1, 10, 0, 0]]), jnp.array([4, 2]))
    ids = jnp.array([[2, 3, 4], [9, 8, 1]])
    whole = PairBatch(source, PackedBatch.from_rows(ids))
    wanted = applied(params, lambda: Transformer(config)(whole).logits)
    segments = jnp.asarray(source.segment_ids)

    def one_by_one() -> list[Any]:
        model = Transformer(config)
        cache = model.begin(model.encode(source), segments, room=3)
        found = []
        for place in range(3):
            scores, cache = model.step(ids[:, place], cache)
            found.append(scores)
        return found

    for place, scores in enumerate(applied(params, one_by_one)):
        assert scores.shape == (2, VOCABULARY)
        assert_close(scores, wanted[:, place], 1e-5)


def applied(params: Params, block: Any) -> Any:
    return jax.jit(lambda params: hk.transform(block).apply(params, None))(params)


def test_packed_pairs_are_pairs_alone() -> None:
    config = transformer_config(SMALL, VOCABULARY)
    params = drawn(shapes_of(config))
    together = applied(params, lambda: Transformer(config)(pairs()).logits)
    alone = [
        (0, slice(0, 3), [5, 3, 8, 2], [2, 3, 4]),
        (0, slice(3, 5), [1, 10], [9, 8]),
        (1, slice(0, 4), [7, 7, 2], [1, 2, 3, 4]),
    ]
    for row, span, source, target in alone:
        pair = PairBatch(
            *(packed([ids], [[0]], tokens=len(ids), slots=1) for ids in (source, target))
        )
        found = applied(params, lambda pair=pair: Transformer(config)(pair).logits)
        assert_close(together[row, span], found[0], 1e-5)


def test_it_learns_to_copy() -> None:
    """A gradient goes through encoder, decoder and shared table."""
    import optax

    config = transformer_config(dataclasses.replace(SMALL, width=16, dropout_rate=0.0), VOCABULARY)
    random = np.random.default_rng(0)
    ids = jnp.asarray(random.integers(2, VOCABULARY, (16, 5)))
    given = jnp.concatenate([jnp.ones((16, 1), ids.dtype), ids[:, :-1]], axis=1)
    batch = PairBatch(PackedBatch.from_rows(ids), PackedBatch.from_rows(given))
    transformed = hk.transform(
        lambda batch, train: Transformer(config)(batch, is_training=train).logits
    )
    params = transformed.init(jax.random.key(0), batch, False)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params: Params, state: Any, key: jax.Array) -> Any:
        def loss(params: Params) -> jax.Array:
            scores = transformed.apply(params, key, batch, True)
            return optax.softmax_cross_entropy_with_integer_labels(scores, ids).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(1), 150):
        params, state, value = step(params, state, key)
    assert float(value) < 0.2
