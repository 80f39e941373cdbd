import functools
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import zoo
from blocks import assert_close, built, normal

from encodax.config import EncoderConfig, RotaryConfig
from encodax.nn import Encoder, MultiHeadAttention
from encodax.nn.kernels import cudnn
from encodax.nn.kernels.dispatch import (
    SHORT_ROW_IMPLEMENTATION,
    attend,
    attention,
    attention_weights,
    best_implementation,
)
from encodax.nn.kernels.plain import AttentionOptions

QUERIES = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])  # (B, T)
KEYS = jnp.array([[1, 1, 2, 2, 2, 2, 3, 0], [2, 2, 3, 0, 0, 0, 0, 0]])  # (B, S)
# The second row's first query finds no key of its segment.


def inputs(cross: bool) -> tuple[jax.Array, ...]:
    """q, k, v of H = 3 and K = 4, and the segments of queries and keys."""
    keys = KEYS if cross else QUERIES
    rows, asking = QUERIES.shape
    q = normal(rows, asking, 3, 4, seed=1)
    k, v = normal(2, rows, keys.shape[1], 3, 4, seed=2)
    return q, k, v, QUERIES, keys


def bias_of(rows: int, keys: int) -> jax.Array:
    return normal(rows, 3, QUERIES.shape[1], keys, seed=3)


CASES = {
    "self": (False, {}),
    "cross": (True, {}),
    "causal": (False, {"causal": True}),
    "window": (False, {"window": 1}),
    "window of none but oneself": (False, {"window": 0}),
    "causal window": (False, {"causal": True, "window": 1}),
    "cross window": (True, {"window": 2}),
    "bias": (False, {"bias": bias_of(2, 6)}),
    "bias for all rows": (False, {"bias": bias_of(1, 6)}),
    "cross bias": (True, {"bias": bias_of(2, 8)}),
    "scale": (False, {"scale": 1.0}),
    "everything": (True, {"scale": 0.3, "window": 2, "causal": True, "bias": bias_of(2, 8)}),
}
BY_CASE = pytest.mark.parametrize(("cross", "options"), CASES.values(), ids=CASES)


def mask_of(queries: Any, keys: Any, options: dict[str, Any]) -> np.ndarray:
    shape = {name: options[name] for name in ("causal", "window") if name in options}
    return reference.segment_mask(np.asarray(queries), np.asarray(keys), **shape)


def einsum_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: np.ndarray,
    bias: jax.Array | float = 0.0,
    scale: float = 0.5,  # 1 / sqrt(K)
) -> jax.Array:
    """All heads and rows at once, with einsum and a dense mask: no vmap in it."""
    mask = mask[:, None]  # (B, 1, T, S)
    scores = jnp.einsum("bthk,bshk->bhts", q, k) * scale + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", jnp.where(mask, weights, 0), v)


@functools.cache
def both_forms(case: str) -> tuple[list[jax.Array], list[jax.Array]]:
    """What the vmap form and the einsum form give: the output, and gradients of q, k, v, bias."""
    cross, options = CASES[case]
    *qkv, queries, keys = inputs(cross)
    mask = mask_of(queries, keys, options)
    options = {"bias": jnp.zeros((1, 3, *mask.shape[1:]))} | options
    bias = options.pop("bias")
    dense_options = {name: options[name] for name in ("scale",) if name in options}
    cotangent = normal(*qkv[0].shape, seed=4)

    def lifted(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        return attention(q, k, v, queries, keys, bias=bias, **options, implementation="plain")

    def dense(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        return einsum_attention(q, k, v, mask, bias, **dense_options)

    @jax.jit
    def forwards_and_backwards(*arguments: jax.Array) -> list[list[jax.Array]]:
        results = []
        for form in (lifted, dense):
            output, pull_back = jax.vjp(form, *arguments)
            results.append([output, *pull_back(cotangent)])
        return results

    first, second = forwards_and_backwards(*qkv, bias)
    return first, second


@pytest.mark.parametrize("case", CASES)
def test_the_vmap_form_is_the_einsum_form(case: str) -> None:
    (output, *_), (wanted, *_) = both_forms(case)
    assert np.abs(wanted).max() > 0.1
    assert_close(output, wanted)


@pytest.mark.parametrize("case", CASES)
def test_the_vmap_form_is_the_einsum_form_backwards(case: str) -> None:
    (_, *gradients), (_, *wanted) = both_forms(case)
    assert np.abs(wanted[2]).max() > 0.1
    for actual, gradient in zip(gradients, wanted, strict=True):
        assert_close(actual, gradient)


@pytest.mark.parametrize("case", CASES)
def test_attention_is_its_formula(case: str) -> None:
    cross, options = CASES[case]
    *qkv, queries, keys = inputs(cross)
    dense = {name: options[name] for name in ("bias", "scale") if name in options}
    numbers = {name: np.asarray(value, np.float64) for name, value in dense.items()}
    mask = mask_of(queries, keys, options)
    wanted = reference.attention(*map(reference.float64, qkv), mask, **numbers)
    assert_close(both_forms(case)[0][0], wanted)


@BY_CASE
def test_the_weights_to_look_at_are_those_that_act(cross: bool, options: dict[str, Any]) -> None:
    q, k, v, queries, keys = inputs(cross)
    weights = attention_weights(q, k, queries, keys, **options)  # (B, H, T, S)
    acted = jnp.einsum("bhts,bshk->bthk", weights, v)
    assert_close(attention(q, k, v, queries, keys, **options), acted)
    mask = mask_of(queries, keys, options)
    np.testing.assert_array_equal(weights > 0, np.broadcast_to(mask[:, None], weights.shape))
    assert_close(weights.sum(-1), np.broadcast_to(mask.any(-1)[:, None], weights.shape[:3]))


def test_a_hand_computed_value() -> None:
    # Scores 0 and ln 3 after the scale: weights 1/4 and 3/4.
    q = jnp.array([[[[2.0]]]])
    k = jnp.array([[[[0.0]], [[np.log(3) / 2]]]])
    v = jnp.array([[[[4.0]], [[8.0]]]])
    ones = jnp.ones((1, 2), jnp.int32)
    assert_close(attention(q, k, v, ones[:, :1], ones), [[[[7.0]]]])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_scores_are_of_float32_whatever_comes_in(dtype: jnp.dtype) -> None:
    *_, v, queries, keys = inputs(False)
    even = 256 + 2 * np.random.default_rng(0).integers(0, 8, (2, 6, 3, 4))  # exact in both dtypes
    q, k = jnp.full(even.shape, 256, dtype), jnp.asarray(even, dtype)
    # Their products are exact in float32, too large for float16 and too long for bfloat16.
    wanted = reference.attention_weights(
        np.full(even.shape, 256.0), even, mask_of(queries, keys, {}), scale=1 / 256
    )
    assert_close(attention_weights(q, k, queries, keys, scale=1 / 256), wanted)
    out = attention(q, k, v, queries, keys, scale=1 / 256)
    assert_close(out, np.einsum("bhts,bshk->bthk", wanted, v))
    assert attention(q, k, v.astype(dtype), queries, keys).dtype == dtype


def test_an_unknown_implementation_is_an_error() -> None:
    with pytest.raises(ValueError, match="'flash' is not one of: auto, plain, xla, blocked, cudnn"):
        attention(*inputs(False), implementation="flash")


CHOICES: dict[str, tuple[tuple[int, int, int], dict[str, Any], str]] = {
    "short rows": ((1, 128, 12), {}, SHORT_ROW_IMPLEMENTATION),
    "many short rows": ((64, 128, 12), {}, SHORT_ROW_IMPLEMENTATION),
    "a long row, few scores": ((1, 512, 12), {}, SHORT_ROW_IMPLEMENTATION),
    "long rows": ((4, 512, 12), {}, "blocked"),
    "a longer row": ((1, 1024, 12), {}, "blocked"),
    "short rows, a window": ((4, 256, 12), {"window": 64}, SHORT_ROW_IMPLEMENTATION),
    "a long row, a window": ((1, 512, 12), {"window": 64}, "blocked"),
}


def chosen(shape: tuple[int, int, int], dtype: Any, options: dict[str, Any]) -> str:
    q = jnp.zeros((*shape, 8), dtype)
    segments = jnp.ones(shape[:2], jnp.int32)
    return best_implementation(q, q, q, AttentionOptions(segments, segments, 0.5, **options))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("case", CHOICES)
def test_a_form_is_chosen_by_length_on_cpu(case: str, dtype: Any) -> None:
    shape, options, wanted = CHOICES[case]
    assert chosen(shape, dtype, options) == wanted


def test_the_kernel_is_chosen_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn, "why_device_unsupported", lambda: None)
    assert chosen((1, 128, 12), jnp.bfloat16, {}) == "cudnn"
    assert chosen((1, 1024, 12), jnp.float16, {"causal": True}) == "cudnn"
    assert chosen((1, 128, 12), jnp.float32, {}) == SHORT_ROW_IMPLEMENTATION
    assert chosen((1, 1024, 12), jnp.float32, {}) == "blocked"
    assert chosen((1, 1024, 12), jnp.bfloat16, {"window": 64}) == "blocked"


@pytest.mark.parametrize("options", [{}, {"window": 64}])
def test_what_is_chosen_for_long_rows_is_the_plain_form(options: dict[str, Any]) -> None:
    q, k, v = normal(3, 4, 515, 4, 8) if not options else normal(3, 1, 515, 2, 8)
    lengths = jnp.array([200, 1, 14, 280, 20])
    row = jnp.repeat(jnp.array([1, 2, 3, 4, 0]), lengths, total_repeat_length=515)
    segments = jnp.broadcast_to(row, q.shape[:2])
    plain = attention(q, k, v, segments, segments, **options, implementation="plain")
    assert_close(attention(q, k, v, segments, segments, **options), plain)


def test_the_encoder_says_how_many_segments_there_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = []

    def recorded(*heads: jax.Array) -> jax.Array:
        *qkv, options = heads
        said.append(options.max_segments)
        return attend(*qkv, options)

    monkeypatch.setattr("encodax.nn.attention.attend", recorded)
    config = EncoderConfig(zoo.EMBEDDINGS, (zoo.LAYER, zoo.LAYER))
    built(lambda batch: Encoder(config)(batch).hidden, zoo.BATCH)
    built(lambda x: MultiHeadAttention(3, 4)(x), normal(2, 6, 12))
    assert said == [2, 2, 1]  # the slots of the batch, and one sequence where nobody says


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("output_bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
def test_multi_head_attention_is_its_formula(biases: bool, output_bias: bool, cross: bool) -> None:
    x = normal(2, 6, 12, seed=1)
    y = normal(2, 8, 10, seed=2) if cross else None  # (B, S, E), of another width
    segments = {"query_segments": QUERIES} | ({"key_segments": KEYS} if cross else {})

    def block(x: jax.Array, y: jax.Array | None) -> jax.Array:
        module = MultiHeadAttention(3, 4, biases=biases, output_bias=output_bias)
        return module(x, y, **segments)

    params, apply = built(block, x, y)
    width = 10 if cross else 12
    shapes = {path: {k: v.shape for k, v in leaves.items()} for path, leaves in params.items()}
    assert shapes == {
        f"attention/{name}": {"w": (rows, 3, 4)} | ({"b": (3, 4)} if biases else {})
        for name, rows in (("query", 12), ("key", width), ("value", width))
    } | {"attention/output": {"w": (12, 12)} | ({"b": (12,)} if output_bias else {})}

    leaves = reference.below(reference.float64(params), "attention")
    mask = mask_of(QUERIES, KEYS if cross else QUERIES, {})
    source = reference.float64(x if y is None else y)
    wanted = reference.multi_head_attention(reference.float64(x), source, leaves, mask)
    assert_close(apply(params, x, y), wanted)


def test_cross_attention_without_segments_is_of_everything_to_everything() -> None:
    x, y = normal(2, 6, 12, seed=1), normal(2, 8, 12, seed=2)
    params, apply = built(lambda x, y: MultiHeadAttention(3, 4)(x, y), x, y)
    leaves = reference.below(reference.float64(params), "attention")
    mask = np.ones((2, 6, 8), bool)
    wanted = reference.multi_head_attention(*map(reference.float64, (x, y)), leaves, mask)
    assert_close(apply(params, x, y), wanted)


@pytest.mark.parametrize("options", [{"causal": True}, {"window": 1}, {"scale": 1.0}])
def test_the_options_of_the_module_are_those_of_the_function(options: dict[str, Any]) -> None:
    x, bias = normal(2, 6, 12, seed=1), bias_of(1, 6)
    params, apply = built(lambda x: MultiHeadAttention(3, 4, **options)(x, bias=bias), x)
    leaves = reference.below(reference.float64(params), "attention")
    ones = np.ones((2, 6), int)
    scale = {name: options[name] for name in ("scale",) if name in options}
    wanted = reference.multi_head_attention(
        reference.float64(x),
        reference.float64(x),
        {name: part for name, part in leaves.items()},
        mask_of(ones, ones, options),
        bias=0.0,
        **scale,
    )
    assert np.abs(apply(params, x) - wanted).max() > 1e-3  # the bias differs from head to head
    unbiased = hk.transform(lambda x: MultiHeadAttention(3, 4, **options)(x)).apply
    assert_close(unbiased(params, None, x), wanted)


def test_the_module_shows_the_weights_of_the_same_call() -> None:
    x = normal(2, 6, 12)

    def block(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        module = MultiHeadAttention(3, 4, window=2)
        return module(x, query_segments=QUERIES), module.weights(x, query_segments=QUERIES)

    params, apply = built(block, x)
    out, weights = apply(params, x)
    assert weights.shape == (2, 3, 6, 6)
    leaves = reference.float64(params)
    v = np.einsum("btd,dhk->bthk", x, leaves["attention/value"]["w"])
    joined = np.einsum("bhts,bshk->bthk", weights, v + leaves["attention/value"]["b"])
    assert_close(out, reference.linear(joined.reshape(2, 6, 12), leaves["attention/output"]))


@pytest.mark.parametrize("given", [True, False])
def test_rotary_attention_turns_queries_and_keys_and_no_values(given: bool) -> None:
    x, ones = normal(2, 6, 12), np.ones((2, 6), int)
    positions = np.array([[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 0, 1]])
    at = jnp.asarray(positions) if given else None

    def block(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        module = MultiHeadAttention(3, 4, rotary=RotaryConfig(100.0))
        return module(x, position_ids=at), module.weights(x, position_ids=at)

    params, apply = built(block, x)
    leaves = reference.below(reference.float64(params), "attention")
    x64, mask = reference.float64(x), reference.segment_mask(ones, ones)
    if not given:
        positions = np.tile(np.arange(6), (2, 1))
    wanted = reference.multi_head_attention(x64, x64, leaves, mask, rotary=(positions, 100.0))
    out, weights = apply(params, x)
    assert_close(out, wanted)
    values = np.einsum("btd,dhk->bthk", x64, leaves["value"]["w"]) + leaves["value"]["b"]
    joined = np.einsum("bhts,bshk->bthk", weights, values).reshape(2, 6, 12)
    assert_close(out, reference.linear(joined, leaves["output"]))


def test_rotary_attention_knows_differences_of_positions_alone() -> None:
    x = normal(2, 6, 12)

    def block(x: jax.Array, positions: jax.Array) -> jax.Array:
        return MultiHeadAttention(3, 4, rotary=RotaryConfig())(x, position_ids=positions)

    positions = jnp.tile(jnp.arange(6), (2, 1))
    params, apply = built(block, x, positions)
    out = apply(params, x, positions)
    for shift in (1, 7, 40):
        assert_close(apply(params, x, positions + shift), out, 1e-5)
    assert np.abs(apply(params, x, 2 * positions) - out).max() > 1e-3


def test_rotary_positions_of_another_sequence_are_wanted() -> None:
    x, y = normal(2, 6, 12), normal(2, 8, 12)
    with pytest.raises(ValueError, match="need key_position_ids"):
        built(lambda x, y: MultiHeadAttention(3, 4, rotary=RotaryConfig())(x, y), x, y)


def test_a_bias_of_the_module_is_added_to_the_scores_of_each_head() -> None:
    x, bias, ones = normal(2, 6, 12), bias_of(1, 6), np.ones((2, 6), int)
    params, apply = built(lambda x: MultiHeadAttention(3, 4)(x, bias=bias), x)
    leaves = reference.below(reference.float64(params), "attention")
    wanted = reference.multi_head_attention(
        *(reference.float64(x),) * 2,
        leaves,
        reference.segment_mask(ones, ones),
        bias=reference.float64(bias),
    )
    assert_close(apply(params, x), wanted)
