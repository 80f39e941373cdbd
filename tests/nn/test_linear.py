import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, built, normal

from encodax.nn import Linear, functional


def test_linear_is_x_w_plus_b() -> None:
    x = normal(2, 3, 5)
    params, apply = built(lambda x: Linear(7)(x), x)
    leaves = params["linear"]
    assert {name: leaf.shape for name, leaf in leaves.items()} == {"w": (5, 7), "b": (7,)}
    wanted = np.asarray(x, np.float64) @ np.asarray(leaves["w"], np.float64) + leaves["b"]
    assert_close(apply(params, x), wanted)


def test_linear_without_a_bias_has_none() -> None:
    params, _ = built(lambda x: Linear(7, bias=False)(x), normal(2, 5))
    assert set(params["linear"]) == {"w"}


@pytest.mark.parametrize("out_shape", [(64,), (8, 64)])
def test_each_head_is_drawn_by_glorot_over_d_and_k(out_shape: tuple[int, ...]) -> None:
    init = hk.transform(lambda x: Linear(*out_shape)(x)).init
    leaves = init(jax.random.key(0), jnp.zeros((1, 128)))["linear"]
    limit = math.sqrt(6 / (128 + 64))
    w = np.asarray(leaves["w"]).reshape(128, -1, 64)
    for h in range(w.shape[1]):
        assert 0.999 * limit < np.abs(w[:, h]).max() <= limit
        assert w[:, h].std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert abs(w[:, h].mean()) < 0.02 * limit
    np.testing.assert_array_equal(leaves["b"], np.zeros(out_shape))


@pytest.mark.parametrize("bias", [True, False])
def test_tied_to_a_table_it_has_the_rows_for_columns_and_a_bias_alone(bias: bool) -> None:
    x, table = normal(2, 3, 5), normal(7, 5, seed=1)

    def block(x: jax.Array, table: jax.Array) -> jax.Array:
        return functional.linear(x, Linear(7, bias=bias).tied_to(table))

    params, apply = built(block, x, table)
    assert {path: set(leaves) for path, leaves in params.items()} == (
        {"linear": {"b"}} if bias else {}
    )
    wanted = np.einsum("btd,vd->btv", np.asarray(x, np.float64), np.asarray(table, np.float64))
    assert_close(apply(params, x, table), wanted + (params["linear"]["b"] if bias else 0))
