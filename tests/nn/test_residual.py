import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, normal

from encodax.nn import LayerNorm, Linear, Residual
from encodax.nn.residual import Placement


def double(x: jax.Array) -> jax.Array:
    return 2 * x


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_without_a_norm_both_are_x_plus_f_of_x(placement: Placement) -> None:
    params, apply = built(lambda x: Residual(None, placement)(x, double), normal(2, 3))
    assert params == {}
    assert_close(apply(params, normal(2, 3)), 3 * normal(2, 3))


def test_post_norms_the_sum() -> None:
    x = normal(2, 3, 8)
    params, apply = built(lambda x: Residual(LayerNorm(eps=1e-5))(x, double), x)
    norm = reference.float64(params["norm"])
    assert_close(apply(params, x), reference.layer_norm(3 * reference.float64(x), norm, 1e-5))


def test_pre_norms_what_the_sublayer_sees() -> None:
    x = normal(2, 3, 8)
    params, apply = built(lambda x: Residual(LayerNorm(eps=1e-5), "pre")(x, double), x)
    norm = reference.float64(params["norm"])
    x64 = reference.float64(x)
    assert_close(apply(params, x), x64 + 2 * reference.layer_norm(x64, norm, 1e-5))


def test_it_goes_around_a_module() -> None:
    x = normal(2, 3, 8)
    params, apply = built(lambda x: Residual()(x, Linear(8)), x)
    assert set(params) == {"linear"}
    wanted = reference.linear(reference.float64(x), reference.float64(params["linear"]))
    assert_close(apply(params, x), np.asarray(x) + wanted)


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_dropout_is_of_what_the_sublayer_adds(placement: Placement) -> None:
    def block(x: jax.Array) -> jax.Array:
        return Residual(None, placement, dropout_rate=0.5)(x, double, is_training=True)

    y = hk.transform(block).apply({}, jax.random.key(0), jnp.ones((40, 50)))
    # x alone, or x + 2 * f(x): never less than x.
    assert set(np.unique(y)) == {1.0, 5.0}


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_placement_is_an_error() -> None:
    with pytest.raises(ValueError, match="placement 'sandwich' is not one of: post, pre"):
        hk.transform(lambda x: Residual(None, "sandwich")(x, double)).init(None, jnp.ones((2, 3)))
