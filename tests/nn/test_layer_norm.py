import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, normal

from encodax.config import NormConfig
from encodax.nn import LayerNorm
from encodax.nn.layer_norm import norm_of


def test_a_hand_computed_value() -> None:
    # mean 2, biased variance 8/3: (x - 2) / sqrt(8/3 + 1/3), times alpha, plus beta.
    apply = hk.transform(lambda x: LayerNorm(eps=1 / 3)(x)).apply
    params = {"norm": {"alpha": jnp.array([1.0, 2.0, 3.0]), "beta": jnp.array([0.0, 5.0, 1.0])}}
    y = apply(params, None, jnp.array([0.0, 2.0, 4.0]))
    assert_close(y, [-2 / np.sqrt(3), 5, 6 / np.sqrt(3) + 1])


def test_it_starts_as_gain_1_and_bias_0() -> None:
    params = hk.transform(lambda x: LayerNorm()(x)).init(None, jnp.zeros((2, 5)))
    assert set(params) == {"norm"}
    np.testing.assert_array_equal(params["norm"]["alpha"], np.ones(5))
    np.testing.assert_array_equal(params["norm"]["beta"], np.zeros(5))


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-1])
def test_it_is_the_formula(eps: float) -> None:
    x = 3 + 2 * normal(4, 6, 8)
    params, apply = built(lambda x: LayerNorm(eps=eps)(x), x)
    wanted = reference.layer_norm(reference.float64(x), reference.float64(params["norm"]), eps)
    assert_close(apply(params, x), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_any_axis_may_hold_the_features(axis: int) -> None:
    x = 3 + normal(4, 6, 8)
    params, apply = built(lambda x: LayerNorm(axis=axis, eps=1e-5)(x), x)
    assert params["norm"]["alpha"].shape == (x.shape[axis],)
    moved = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    wanted = reference.layer_norm(moved, reference.float64(params["norm"]), 1e-5)
    assert_close(apply(params, x), np.moveaxis(wanted, -1, axis))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_are_of_float32_whatever_comes_in(dtype: jnp.dtype) -> None:
    # In float16 the squares of these would overflow, and in both the mean would lose its digits.
    x = (300 + 10 * normal(3, 512)).astype(dtype)
    params, apply = built(lambda x: LayerNorm(eps=1e-5)(x), x)
    y = apply(params, x)
    assert y.dtype == dtype
    wanted = reference.layer_norm(reference.float64(x), reference.float64(params["norm"]), 1e-5)
    one_rounding = 0.51 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(reference.float64(y), wanted, rtol=one_rounding, atol=1e-5)


def test_float32_gives_float32() -> None:
    params, apply = built(lambda x: LayerNorm()(x), normal(2, 3))
    assert apply(params, normal(2, 3)).dtype == jnp.float32


def test_a_constant_row_gives_beta_and_finite_gradients() -> None:
    x = jnp.full((2, 4), 7.0)
    params, apply = built(lambda x: LayerNorm(eps=1e-12)(x), x)
    assert_close(apply(params, x), np.broadcast_to(params["norm"]["beta"], (2, 4)))
    gradient = jax.grad(lambda x: apply(params, x).sum())(x)
    assert np.isfinite(gradient).all()


def test_without_a_bias_there_is_a_gain_alone() -> None:
    x = 3 + 2 * normal(4, 6, 8)
    params, apply = built(lambda x: LayerNorm(eps=1e-5, bias=False)(x), x)
    assert {path: set(leaves) for path, leaves in params.items()} == {"norm": {"alpha"}}
    wanted = reference.layer_norm(reference.float64(x), reference.float64(params["norm"]), 1e-5)
    assert_close(apply(params, x), wanted)


@pytest.mark.parametrize("bias", [True, False])
def test_a_spec_gives_the_norm_that_it_says(bias: bool) -> None:
    x = 3 + 2 * normal(4, 6, 8)
    params, apply = built(lambda x: norm_of(NormConfig(0.3, bias), "here")(x), x)
    assert set(params["here"]) == ({"alpha", "beta"} if bias else {"alpha"})
    wanted = reference.layer_norm(reference.float64(x), reference.float64(params["here"]), 0.3)
    assert_close(apply(params, x), wanted)


def test_the_norm_of_the_root_mean_square_leaves_the_mean() -> None:
    x = jnp.asarray([[1.0, 2.0, 5.0]])
    params, apply = built(lambda x: LayerNorm(eps=1e-6, bias=False, centred=False)(x), x)
    assert set(params["norm"]) == {"alpha"}
    wanted = np.asarray([1, 2, 5]) / np.sqrt(10 + 1e-6)
    assert_close(apply(params, x)[0], wanted * np.asarray(params["norm"]["alpha"]))
