"""Relative positions against scalar formulas and plain loops."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, drawn, normal

from encodax.config import DisentangledConfig, NormConfig, RelativeBiasConfig
from encodax.nn import MultiHeadAttention, RelativeBias, RelativeEmbeddings
from encodax.nn.relative_positions import (
    RelativeTable,
    bias_buckets,
    disentangled_bias,
    disentangled_buckets,
    disentangled_scale,
)

TOKENS = 6


def bias_bucket(distance: int, buckets: int, max_distance: int) -> int:
    """Raffel et al. 2020, of one distance, in whole numbers: no logarithm is rounded."""
    half = buckets // 2
    exact, far = half // 2, abs(distance)
    bucket = far
    if far >= exact:
        bucket = exact
        # far / exact >= (max_distance / exact) ^ (steps / (half - exact))
        while bucket < half - 1 and (
            far ** (half - exact) * exact ** (bucket + 1 - exact)
            >= max_distance ** (bucket + 1 - exact) * exact ** (half - exact)
        ):
            bucket += 1
    return bucket + (half if distance > 0 else 0)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (16, 100)])
def test_a_bias_bucket_is_its_formula(buckets: int, max_distance: int) -> None:
    distances = np.arange(-300, 301)[:, None]
    found = bias_buckets(distances, RelativeBiasConfig(buckets, max_distance))
    wanted = [bias_bucket(int(distance), buckets, max_distance) for distance in distances[:, 0]]
    assert found[:, 0].tolist() == wanted
    assert set(wanted) == set(range(buckets)) - {buckets // 2}  # 0 itself is with those before


def test_the_nearest_distances_have_a_bucket_each_and_the_farthest_share_one() -> None:
    found = bias_buckets(np.arange(-200, 201)[:, None], RelativeBiasConfig(32, 128))[:, 0]
    by_distance = dict(zip(range(-200, 201), found.tolist(), strict=True))
    assert [by_distance[-d] for d in range(8)] == list(range(8))
    assert [by_distance[d] for d in range(1, 8)] == list(range(17, 24))
    assert {by_distance[-d] for d in range(128, 201)} == {15}
    assert {by_distance[d] for d in range(128, 201)} == {31}


def test_a_relative_bias_is_the_row_of_the_distance_from_query_to_key() -> None:
    config = RelativeBiasConfig(buckets=8, max_distance=5)
    params, _ = built(lambda: RelativeBias(config, 3)(TOKENS))
    assert {path: leaves["w"].shape for path, leaves in params.items()} == {"relative_bias": (8, 3)}
    bias = hk.transform(lambda: RelativeBias(config, 3)(TOKENS)).apply(params, None)
    assert bias.shape == (1, 3, TOKENS, TOKENS)
    for h, i, j in np.ndindex(bias.shape[1:]):
        assert bias[0, h, i, j] == params["relative_bias"]["w"][bias_bucket(j - i, 8, 5), h]


def disentangled_bucket(distance: int, config: DisentangledConfig) -> int:
    """The row of one distance, in whole numbers."""
    if config.buckets is not None and abs(distance) > config.buckets // 2:
        middle, limit, steps = config.buckets // 2, config.max_distance - 1, 0
        # abs(distance) / middle <= (limit / middle) ^ (steps / (middle - 1))
        while limit**steps * middle ** (middle - 1) < abs(distance) ** (middle - 1) * middle**steps:
            steps += 1
        distance = int(math.copysign(middle + steps, distance))
    return min(max(distance + config.span, 0), 2 * config.span - 1)


DISENTANGLED = {
    "each its own": DisentangledConfig(span=4),
    "each its own, none too far": DisentangledConfig(span=300, max_distance=300),
    "buckets": DisentangledConfig(span=8, buckets=8, max_distance=24),
    "buckets of v3": DisentangledConfig(span=256, buckets=256, max_distance=512),
}


@pytest.mark.parametrize("config", DISENTANGLED.values(), ids=DISENTANGLED)
def test_a_disentangled_bucket_is_its_formula(config: DisentangledConfig) -> None:
    distances = np.arange(-290, 290)[:, None]
    found = disentangled_buckets(distances, config)[:, 0]
    wanted = [disentangled_bucket(int(distance), config) for distance in distances[:, 0]]
    assert found.tolist() == wanted
    assert min(wanted) >= 0
    assert max(wanted) < 2 * config.span


TERMS = {"both": (True, True), "c2p": (True, False), "p2c": (False, True)}
BY_TERMS = pytest.mark.parametrize(("to_position", "to_content"), TERMS.values(), ids=TERMS)


@BY_TERMS
def test_the_disentangled_terms_are_three_loops(to_position: bool, to_content: bool) -> None:
    config = DisentangledConfig(span=3)
    q, k = normal(2, 2, TOKENS, 3, 4)
    position_q, position_k = normal(2, 6, 3, 4, seed=1)
    bias = disentangled_bias(
        q, k, position_q if to_content else None, position_k if to_position else None, config
    )
    wanted = np.zeros((2, 3, TOKENS, TOKENS))
    for b, h, i, j in np.ndindex(wanted.shape):
        row = disentangled_bucket(i - j, config)
        if to_position:
            wanted[b, h, i, j] += np.dot(np.float64(q[b, i, h]), np.float64(position_k[row, h]))
        if to_content:
            wanted[b, h, i, j] += np.dot(np.float64(k[b, j, h]), np.float64(position_q[row, h]))
    assert_close(bias, wanted)


@pytest.mark.parametrize(
    ("terms", "scale"), [((True, True), 12), ((True, False), 8), ((False, False), 4)]
)
def test_the_scale_counts_the_terms(terms: tuple[bool, bool], scale: int) -> None:
    config = DisentangledConfig(8, content_to_position=terms[0], position_to_content=terms[1])
    assert disentangled_scale(4, config) == 1 / math.sqrt(scale)


@pytest.mark.parametrize("norm", [None, NormConfig(1e-5)])
def test_the_table_has_a_row_for_each_distance_and_a_norm_where_it_is_said(
    norm: NormConfig | None,
) -> None:
    config = DisentangledConfig(span=5, norm=norm)
    block = hk.transform(lambda: RelativeEmbeddings(config, 8)().rows)
    params = drawn(jax.eval_shape(block.init, jax.random.key(0)))
    leaves = reference.float64(params)
    assert leaves["relative_embeddings"]["w"].shape == (10, 8)
    assert set(leaves) == {"relative_embeddings"} | (
        {"relative_embeddings/norm"} if norm else set()
    )
    wanted = leaves["relative_embeddings"]["w"]
    if norm:
        wanted = reference.layer_norm(wanted, leaves["relative_embeddings/norm"], 1e-5)
    assert_close(block.apply(params, None), wanted)


SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])


@BY_TERMS
@pytest.mark.parametrize("shared", [True, False])
def test_disentangled_attention_is_its_formula(
    to_position: bool, to_content: bool, shared: bool
) -> None:
    """He et al. 2021, equation 4, with content to content, and the scale of all terms."""
    config = DisentangledConfig(
        3,
        content_to_position=to_position,
        position_to_content=to_content,
        shared_projections=shared,
    )
    x, rows = normal(2, TOKENS, 12), normal(6, 12, seed=1)

    def block(x: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        module, relative = MultiHeadAttention(3, 4), RelativeTable(config, rows)
        given = {"query_segments": SEGMENTS, "relative": relative}
        return module(x, **given), module.weights(x, **given)

    params, apply = built(block, x, rows)
    own = {"position_query": to_content, "position_key": to_position}
    assert set(params) == {
        f"attention/{name}"
        for name in ("query", "key", "value", "output", *own)
        if name not in own or (own[name] and not shared)
    }

    leaves = reference.below(reference.float64(params), "attention")
    projected = {
        name: np.einsum("...d,dhk->...hk", reference.float64(source), leaves[place]["w"])
        + leaves[place]["b"]
        for name, source, place in (
            ("query", x, "query"),
            ("key", x, "key"),
            ("value", x, "value"),
            ("position_query", rows, "position_query" if not shared and to_content else "query"),
            ("position_key", rows, "position_key" if not shared and to_position else "key"),
        )
    }
    bias = np.zeros((2, 3, TOKENS, TOKENS))
    for b, h, i, j in np.ndindex(bias.shape):
        row = disentangled_bucket(i - j, config)
        if to_position:
            bias[b, h, i, j] += projected["query"][b, i, h] @ projected["position_key"][row, h]
        if to_content:
            bias[b, h, i, j] += projected["key"][b, j, h] @ projected["position_query"][row, h]
    scale = 1 / math.sqrt(4 * (1 + to_position + to_content))
    mask = reference.segment_mask(np.asarray(SEGMENTS), np.asarray(SEGMENTS))
    weights = reference.attention_weights(
        projected["query"], projected["key"], mask, bias * scale, scale
    )
    out, shown = apply(params, x, rows)
    assert_close(shown, weights)
    joined = np.einsum("bhts,bshk->bthk", weights, projected["value"]).reshape(2, TOKENS, 12)
    assert_close(out, reference.linear(joined, leaves["output"]), 2e-6)
