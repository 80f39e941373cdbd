import itertools
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, normal
from hypothesis import given
from hypothesis import strategies as st

from encodax.errors import EncodaxError
from encodax.nn import functional, position_encoding, sinusoidal_table
from encodax.nn.kernels import numerics


@pytest.mark.parametrize("width", [64, 7, 2])
def test_the_sinusoidal_table_is_section_3_5_within_the_rounding_of_float32(width: int) -> None:
    table = np.asarray(sinusoidal_table(32, width), np.float64)
    assert table.shape == (32, width)
    for position, column in itertools.product(range(32), range(width)):
        angle = position / 10_000 ** (2 * (column // 2) / width)
        wanted = reference.sinusoid(position, column, width)
        assert table[position, column] == pytest.approx(wanted, abs=1.2e-7 * (angle + 1))


def test_far_positions_are_as_exact_as_near_ones() -> None:
    position, column = np.arange(1_024)[:, None], np.arange(64)
    angle = position / 10_000 ** (2 * (column // 2) / 64)
    wanted = np.where(column % 2, np.cos(angle), np.sin(angle))
    assert_close(sinusoidal_table(1_024, 64), wanted)


def test_a_sine_and_the_cosine_beside_it_share_one_frequency() -> None:
    table = np.asarray(sinusoidal_table(32, 64))
    assert_close(table[:, 0::2] ** 2 + table[:, 1::2] ** 2, np.ones((32, 32)))
    # The founding article's raw exponent would put the cosine of column 1 at 10000^(1/64).
    assert table[1, 1] == pytest.approx(math.cos(1), abs=1e-7)


def test_position_0_is_sines_of_0_and_cosines_of_0() -> None:
    np.testing.assert_array_equal(position_encoding(jnp.int32(0), 6), [0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("name", functional.ACTIVATIONS)
def test_an_activation_is_its_formula(name: str) -> None:
    x = np.linspace(-6, 6, 241)
    actual = functional.activation(name)(jnp.asarray(x, jnp.float32))
    assert_close(actual, reference.ACTIVATIONS[name](np.asarray(x, np.float32).astype(np.float64)))


def test_the_two_forms_of_gelu_differ_by_up_to_5e_4() -> None:
    x = jnp.linspace(-4, 4, 2_001)
    forms = [functional.activation(name)(x) for name in ("gelu_erf", "gelu_tanh")]
    assert 4e-4 < float(jnp.abs(forms[0] - forms[1]).max()) < 5e-4


def test_an_unknown_activation_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'sine' is not known; choose from gelu_erf, gelu_tanh"):
        functional.activation("sine")


def test_linear_maps_the_last_axis_to_all_output_axes() -> None:
    x, w, b = normal(2, 3, 5), normal(5, 4, 6, seed=1), normal(4, 6, seed=2)
    wanted = np.einsum("btd,dhk->bthk", *reference.float64({"x": x, "w": w}).values())
    assert_close(functional.linear(x, {"w": w}), wanted)
    assert_close(functional.linear(x, {"w": w, "b": b}), wanted + np.asarray(b))


@pytest.mark.parametrize("out", [(4,), (2, 3)])
def test_the_gradient_of_a_product_is_the_one_that_jax_derives(out: tuple[int, ...]) -> None:
    x, w, slope = normal(2, 3, 5), normal(5, *out, seed=1), normal(2, 3, *out, seed=2)
    own, wanted = (
        jax.vjp(product, x, w)[1](slope)
        for product in (numerics.product, lambda x, w: jnp.tensordot(x, w, axes=1))
    )
    for found, derived in zip(own, wanted, strict=True):
        assert found.shape == derived.shape
        assert_close(found, derived)


def test_the_gradient_of_a_product_survives_vmap_and_jit() -> None:
    x, w = normal(4, 2, 5), normal(5, 3, seed=1)

    def total(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(numerics.product(x, w)))

    each = jax.jit(jax.vmap(jax.grad(total, argnums=1), in_axes=(0, None)))(x, w)
    assert_close(each, np.einsum("nbd,nbk->ndk", x, 2 * np.asarray(x) @ np.asarray(w)))


def test_of_each_row_its_own_tokens_are_taken() -> None:
    x = jnp.arange(12).reshape(2, 3, 2)
    found = functional.at_tokens(x, np.array([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(found, [[[4, 5], [0, 1]], [[8, 9], [8, 9]]])
    np.testing.assert_array_equal(
        functional.at_tokens(x[..., 0], np.array([[1], [2]])), [[2], [10]]
    )


def dropped(rate: float, is_training: bool, shape: tuple[int, ...] = (400, 500)) -> np.ndarray:
    apply = hk.transform(lambda x: functional.dropout(x, rate, is_training)).apply
    return np.asarray(apply({}, jax.random.key(0), jnp.ones(shape)))


def test_dropout_zeroes_its_rate_and_scales_the_rest() -> None:
    y = dropped(0.3, True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / y.size))
    assert y.mean() == pytest.approx(1, abs=4 * math.sqrt(0.3 / 0.7 / y.size))


def test_dropout_needs_no_key_where_it_does_nothing() -> None:
    for rate, is_training in ((0.3, False), (0.0, True)):
        apply = hk.transform(lambda x, r=rate, t=is_training: functional.dropout(x, r, t)).apply
        np.testing.assert_array_equal(apply({}, None, jnp.ones(9)), np.ones(9))


def test_hashed_bits_are_a_bijection_and_each_bit_is_fair() -> None:
    bits = np.asarray(numerics.hashed_bits(jax.random.key(3), (4, 16, 4096)))
    assert len(np.unique(bits)) == bits.size
    for place in range(32):
        share = (bits >> place & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(bits.size)


def test_masks_of_steps_and_of_neighbours_are_independent() -> None:
    rate = 0.1

    def kept(step: int) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(0), step)
        dropped = numerics.drop(key, rate, jnp.ones((64, 32, 32)))
        return np.asarray(dropped > 0).ravel() - (1 - rate)

    masks = np.array([kept(step) for step in range(16)])  # each element has mean 0
    spread = rate * (1 - rate) * math.sqrt(masks.shape[1])
    between = (masks @ masks.T)[np.triu_indices(16, 1)]
    assert np.abs(between).max() < 5 * spread
    for lag in (1, 2, 31, 32, 33, 1024, 2048):  # beside, below, of the next row
        assert abs(masks[0] @ np.roll(masks[0], lag)) < 5 * spread
    spectrum = np.fft.rfft(masks, axis=1)  # and no mask is another one shifted
    shifted = np.fft.irfft(spectrum[:-1] * np.conj(spectrum[1:]), n=masks.shape[1])
    assert np.abs(shifted).max() < 7 * spread


def test_a_share_of_an_array_is_dropped_as_in_the_whole() -> None:
    x, key = jnp.ones((4, 6, 8)), jax.random.key(1)
    whole = numerics.drop(key, 0.3, x)
    np.testing.assert_array_equal(numerics.drop(key, 0.3, x[:2]), whole[:2])
    under_jit = jax.jit(lambda key, x: numerics.drop(key, 0.3, x))
    np.testing.assert_array_equal(under_jit(key, x), whole)


@pytest.mark.parametrize("ids", [np.array([[0, 9]]), jnp.array([[0, 9]]), np.zeros((0, 3), int)])
def test_ids_below_the_limit_pass(ids: np.ndarray) -> None:
    functional.check_below("token id", ids, 10)


@pytest.mark.parametrize(("ids", "bad"), [([3, 10, 4], "10"), ([3, -1, 4], "-1")])
@pytest.mark.parametrize("module", [np, jnp])
def test_an_id_outside_is_named_with_its_limit(ids: list[int], bad: str, module: object) -> None:
    with pytest.raises(EncodaxError, match=rf"^token id {bad} is outside 0\.\.9$"):
        functional.check_below("token id", module.array(ids), 10)  # type: ignore[attr-defined]


def test_ids_that_a_function_under_jit_closes_over_are_known() -> None:
    good, bad = jnp.array([3, 9]), jnp.array([3, 10])
    jax.jit(lambda: functional.check_below("token id", good, 10))()
    with pytest.raises(EncodaxError, match="token id 10 is outside"):
        jax.jit(lambda: functional.check_below("token id", bad, 10))()


def test_ids_that_are_not_known_yet_pass() -> None:
    jax.jit(lambda ids: functional.check_below("token id", ids, 10))(jnp.array([11]))


POSITIONS = np.array([[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 4, 500]])


@pytest.mark.parametrize(("width", "base"), [(4, 10_000.0), (8, 1_000.0), (2, 160_000.0)])
def test_rotary_positions_turn_pairs_half_a_head_apart(width: int, base: float) -> None:
    x = normal(2, 6, 3, width)
    turned = functional.rotate(x, jnp.asarray(POSITIONS), base)
    # An angle of 500 radians keeps 5 decimals in float32.
    wanted = reference.rotate(reference.float64(x), POSITIONS, base)
    assert_close(turned[:1], wanted[:1])
    assert_close(turned[1, :5], wanted[1, :5])
    assert_close(turned, wanted, 1e-4)


def test_position_0_turns_nothing_and_no_position_changes_a_length() -> None:
    x = normal(2, 6, 3, 4)
    turned = functional.rotate(x, jnp.asarray(POSITIONS), 10_000.0)
    np.testing.assert_array_equal(turned[POSITIONS == 0], x[POSITIONS == 0])
    lengths, wanted = (jnp.linalg.norm(array, axis=-1) for array in (turned, x))
    assert_close(lengths, wanted)


@given(
    seed=st.integers(0, 2**32 - 1),
    positions=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    shift=st.integers(0, 60),
)
def test_a_product_of_turned_vectors_knows_the_difference_of_positions_alone(
    seed: int, positions: tuple[int, int], shift: int
) -> None:
    q, k = normal(2, 1, 1, 2, 8, seed=seed)

    def product(first: int, second: int) -> jax.Array:
        at = (jnp.full((1, 1), position, jnp.int32) for position in (first, second))
        turned = (functional.rotate(z, t, 10_000.0) for z, t in zip((q, k), at, strict=True))
        return jnp.einsum("bthk,bshk->bhts", *turned)

    first, second = positions
    assert_close(product(first + shift, second + shift), product(first, second), 3e-5)
    if first != second:
        assert jnp.abs(product(first, first) - product(first, second)).max() > 1e-6


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_what_is_turned_keeps_its_dtype(dtype: jnp.dtype) -> None:
    x = normal(2, 6, 3, 4).astype(dtype)
    assert functional.rotate(x, jnp.asarray(POSITIONS), 10_000.0).dtype == dtype


def test_a_unit_vector_has_length_1_and_the_same_direction() -> None:
    x = 5 * normal(3, 4, 7)
    x64 = reference.float64(x)
    assert_close(functional.unit(x), x64 / np.linalg.norm(x64, axis=-1, keepdims=True))


def test_zeros_stay_zeros_with_gradients_that_are_finite() -> None:
    x = jnp.stack([jnp.zeros(4), jnp.ones(4)])
    np.testing.assert_array_equal(functional.unit(x)[0], np.zeros(4))
    gradient = jax.grad(lambda x: jnp.sin(functional.unit(x)).sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_lengths_are_of_float32_whatever_comes_in(dtype: jnp.dtype) -> None:
    x = jnp.full((2, 4), 300, dtype)  # whose square is too large for float16
    y = functional.unit(x)
    assert y.dtype == dtype
    assert_close(y.astype(jnp.float32), np.full((2, 4), 0.5))
