"""Gradients of every block, against finite differences."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from blocks import drawn

STEP = 0.04
# The central difference of the fourth order: f'(0) h = sum of weight * f(shift * h), error O(h^4).
STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}


def float_leaves(tree: Any) -> list[int]:
    return [i for i, leaf in enumerate(jax.tree.leaves(tree)) if leaf.dtype == np.float32]


# The post-norm encoder is its embeddings and layers, which are here apart.
BLOCKS = {name: case for name, case in zoo.BLOCKS.items() if name != "encoder"}


@pytest.mark.parametrize(("block", "arguments"), BLOCKS.values(), ids=BLOCKS)
def test_gradients_are_finite_differences(block: Any, arguments: tuple[Any, ...]) -> None:
    transformed = hk.transform(block)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), *arguments))
    leaves, structure = jax.tree.flatten((params, arguments))
    moving = float_leaves((params, arguments))
    random = np.random.default_rng(0)

    def outputs(moved: list[jax.Array]) -> jax.Array:
        given = list(leaves)
        for index, leaf in zip(moving, moved, strict=True):
            given[index] = leaf
        params, arguments = jax.tree.unflatten(structure, given)
        return transformed.apply(params, None, *arguments).ravel()

    # One direction of unit length for each leaf, in which that leaf alone moves.
    point = [np.asarray(leaves[index]) for index in moving]
    ways = [random.standard_normal(leaf.shape) for leaf in point]
    ways = [way / np.linalg.norm(way) for way in ways]
    shifted = [
        np.stack(
            [
                leaf + STEP * shift * way * (index == moved)
                for moved in range(len(point))
                for shift in STENCIL
            ]
        ).astype(np.float32)
        for index, (leaf, way) in enumerate(zip(point, ways, strict=True))
    ]
    values = np.asarray(
        jax.jit(jax.vmap(outputs))(shifted), np.float64
    )  # (leaves * shifts, outputs)
    cotangent = random.standard_normal(values.shape[1]) / np.sqrt(values.shape[1])
    weights = np.array(list(STENCIL.values()))
    differences = (values @ cotangent).reshape(len(ways), -1) @ weights / STEP

    gradients = jax.jit(jax.grad(lambda moved: jnp.vdot(cotangent, outputs(moved))))(
        [jnp.asarray(leaf) for leaf in point]
    )
    slopes = [np.vdot(way, gradient) for way, gradient in zip(ways, gradients, strict=True)]
    assert np.isfinite(slopes).all()
    np.testing.assert_allclose(slopes, differences, rtol=1e-4, atol=2e-5)
