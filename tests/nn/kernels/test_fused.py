"""The forms for devices without a kernel: the numbers of the plain form, in other orders."""

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, normal

from encodax.nn.kernels import fused as attention_fused
from encodax.nn.kernels.dispatch import attention
from encodax.nn.kernels.plain import AttentionOptions

TOKENS = 11  # no multiple of a block
SEGMENTS = jnp.array(
    [[1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3], [1, 1, 0, 0, 2, 2, 2, 3, 0, 0, 0], [0] * TOKENS]
)  # (B, T): full, with padding within and at the end, all padding
KEYS = jnp.array([[2, 2, 2, 3, 3, 4, 0], [1, 2, 2, 3, 3, 3, 3], [1, 1, 1, 1, 1, 1, 1]])  # (B, S)
LONGER = jnp.pad(SEGMENTS, ((0, 0), (0, 6)), constant_values=3)

CASES: dict[str, tuple[jax.Array, dict[str, Any]]] = {
    "self": (SEGMENTS, {}),
    "cross": (KEYS, {}),
    "causal": (SEGMENTS, {"causal": True}),
    "window of none but oneself": (SEGMENTS, {"window": 0}),
    "window": (SEGMENTS, {"window": 1}),
    "causal window of more than a block": (SEGMENTS, {"causal": True, "window": 3}),
    "window to fewer keys": (KEYS, {"window": 1}),
    "window to more keys": (LONGER, {"window": 2}),
    "bias": (SEGMENTS, {"bias": normal(3, 2, TOKENS, TOKENS, seed=3)}),
    "bias for all rows and window": (
        SEGMENTS,
        {"bias": normal(1, 2, TOKENS, TOKENS, seed=3), "window": 1},
    ),
    "everything": (
        KEYS,
        {"bias": normal(3, 2, TOKENS, 7, seed=3), "window": 1, "causal": True, "scale": 0.3},
    ),
}
BY_FORM = pytest.mark.parametrize("form", ["xla", "blocked"])
BY_CASE = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_fused, "_block_size", lambda *_: 2)


def inputs(keys: int, dtype: Any = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v of H = 2 and K = 4."""
    q = normal(3, TOKENS, 2, 4, seed=1)
    k, v = normal(2, 3, keys, 2, 4, seed=2)
    return tuple(z.astype(dtype) for z in (q, k, v))


def forwards_and_backwards(form: str, case: str, dtype: Any) -> list[jax.Array]:
    """The output, and the gradients of q, k, v and bias."""
    keys, options = CASES[case]
    bias = jnp.zeros((1, 2, TOKENS, keys.shape[1])) if "bias" not in options else options["bias"]
    rest = {name: value for name, value in options.items() if name != "bias"}
    has_bias = "bias" in options

    def of(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
        given = bias if has_bias else None
        return attention(q, k, v, SEGMENTS, keys, bias=given, **rest, implementation=form)

    @jax.jit
    def run(*arguments: jax.Array) -> list[jax.Array]:
        output, pull_back = jax.vjp(of, *arguments)
        return [output, *pull_back(normal(*output.shape, seed=4).astype(output.dtype))]

    return run(*inputs(keys.shape[1], dtype), bias)


@functools.cache
def plain(case: str) -> list[jax.Array]:
    return forwards_and_backwards("plain", case, jnp.float32)


@BY_FORM
@BY_CASE
def test_a_form_is_the_plain_form(form: str, case: str) -> None:
    wanted = plain(case)
    for actual, expected in zip(
        forwards_and_backwards(form, case, jnp.float32), wanted, strict=True
    ):
        assert_close(actual, expected, 1e-6)
    assert np.abs(wanted[0]).max() > 0.1


@BY_FORM
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 4e-2), (jnp.float16, 5e-3)])
def test_a_form_is_the_plain_form_in_half_precision(
    form: str, dtype: Any, tolerance: float
) -> None:
    case = "bias for all rows and window"
    results = forwards_and_backwards(form, case, dtype)
    assert results[0].dtype == dtype
    for actual, expected in zip(results, plain(case), strict=True):
        assert_close(actual, expected, tolerance)


@functools.cache
def random_form(form: str, window: int | None) -> Any:
    def gradients(segments: jax.Array) -> list[jax.Array]:
        def of(*qkv: jax.Array) -> jax.Array:
            return attention(*qkv, segments, segments, window=window, implementation=form)

        output, pull_back = jax.vjp(of, *(z[:1] for z in inputs(TOKENS)))
        return [output, *pull_back(normal(*output.shape, seed=4))]

    return jax.jit(gradients)


@hypothesis.given(st.lists(st.integers(1, 5), max_size=6), st.sampled_from([None, 1]), st.data())
def test_forms_agree_over_any_segments(
    lengths: list[int], window: int | None, data: st.DataObject
) -> None:
    gaps = data.draw(st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)))
    row: list[int] = []
    for number, (length, gap) in enumerate(zip(lengths, gaps, strict=True), 1):
        row += [0] * gap + [number] * length
    segments = jnp.array([(row + [0] * TOKENS)[:TOKENS]])
    wanted = random_form("plain", window)(segments)
    for form in ("xla", "blocked"):
        for actual, expected in zip(random_form(form, window)(segments), wanted, strict=True):
            assert_close(actual, expected, 1e-6)


def test_fused_dropout_has_the_bits_of_the_plain_form() -> None:
    @functools.partial(jax.jit, static_argnums=0)
    def results(form: str, *qkv: jax.Array) -> list[jax.Array]:
        def of(*qkv: jax.Array) -> jax.Array:
            drop = {"dropout_key": jax.random.key(5), "dropout_rate": 0.4}
            return attention(*qkv, SEGMENTS, SEGMENTS, **drop, implementation=form)

        output, pull_back = jax.vjp(of, *qkv)
        return [output, *pull_back(normal(*output.shape, seed=4))]

    fused, plain = (results(form, *inputs(TOKENS)) for form in ("xla", "plain"))
    for actual, expected in zip(fused, plain, strict=True):
        assert_close(actual, expected, 1e-6)


def blocked_weights(rate: float, window: int | None = None, tokens: int = 16) -> Any:
    """The linear function of v that dropout leaves, of equal scores."""
    q, ones = jnp.ones((2, tokens, 3, tokens)), jnp.ones((2, tokens), jnp.int32)
    key = jax.random.key(1)
    drop = {"dropout_key": key, "dropout_rate": rate, "implementation": "blocked"}
    return jax.jit(lambda v: attention(q, q, v, ones, ones, window=window, **drop))


def test_blocked_dropout_draws_by_block_and_keeps_the_expectation() -> None:
    rate, tokens = 0.4, 16
    eye = jnp.broadcast_to(jnp.eye(tokens)[None, :, None], (2, tokens, 3, tokens))
    weights = np.moveaxis(blocked_weights(rate)(eye), 2, 1)  # (B, H, T, S)
    masks = (weights > 0).reshape(-1, tokens)
    assert len(np.unique(masks, axis=0)) == len(masks)  # rows, heads, blocks and queries differ
    np.testing.assert_allclose(weights[weights > 0], 1 / tokens / (1 - rate), rtol=1e-5)
    assert abs(masks.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / masks.size)


@pytest.mark.parametrize("window", [None, 3])
def test_blocked_dropout_draws_the_same_again_backwards(window: int | None) -> None:
    of = blocked_weights(0.4, window)
    v, other, cotangent = normal(3, 2, 16, 3, 16)
    backwards = jax.jit(lambda v, cotangent: jax.vjp(of, v)[1](cotangent)[0])
    # Linear in v, so that the transposed map of the same bits gives the same product.
    forwards = jnp.vdot(of(other), cotangent)
    assert_close(jnp.vdot(other, backwards(v, cotangent)), forwards, 1e-4)


def largest_array(jaxpr: Any) -> int:
    """Elements of the largest array that a program makes, in its loops too."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(out.aval.shape)) for out in equation.outvars]
        for parameter in equation.params.values():
            parts = parameter if isinstance(parameter, tuple | list) else [parameter]
            inner = [part for part in parts if hasattr(getattr(part, "jaxpr", part), "eqns")]
            sizes += [largest_array(part) for part in inner]
    return max(sizes)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("window", "drop"), [(None, False), (16, False), (None, True), (16, True)])
def test_the_blocked_form_has_no_matrix_of_tokens_by_tokens(
    backwards: bool, window: int | None, drop: bool
) -> None:
    tokens = 512
    q, segments = jnp.ones((1, tokens, 1, 8)), jnp.ones((1, tokens), jnp.int32)
    options = {"dropout_key": jax.random.key(0), "dropout_rate": 0.5} if drop else {}

    def of(form: str) -> int:
        def run(*qkv: jax.Array) -> jax.Array:
            result = attention(
                *qkv, segments, segments, window=window, **options, implementation=form
            )
            return result.sum()

        program = jax.grad(run, (0, 1, 2)) if backwards else run
        return largest_array(jax.make_jaxpr(program)(q, q, q))

    assert of("xla") >= tokens * tokens  # the walk sees what there is
    # The keys of 17 blocks of two stand side by side where there is a window of 16.
    assert of("blocked") <= (17 if window else 1) * tokens * 8


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("matrices", [1, 12, 96])
def test_blocks_are_of_64_or_128_queries(
    matrices: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    size = attention_fused._block_size(matrices, 4096, window)
    assert size in (64, 128)
    keys = 256 if window else 4096
    assert size == 64 or size * keys * matrices <= attention_fused.BLOCK_SCORES


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("block", [1, 4, 11, 16])
def test_blocks_of_any_size_give_the_same(block: int, window: int | None) -> None:
    q, k, v = inputs(TOKENS)
    options = AttentionOptions(SEGMENTS, SEGMENTS, scale=0.5, window=window)
    wanted = attention(q, k, v, SEGMENTS, SEGMENTS, window=window, implementation="plain")
    actual = attention_fused.blocked_attention(q, k, v, options, block=block)
    assert_close(actual, wanted)
