"""Blocks as pure functions with explicit parameters, without their Haiku modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodax.types.batches import PackedBatch, Params


def drawn(shapes: Any, seed: int = 0) -> Params:
    """Normal numbers for every leaf: no bias is 0 and no gain 1, so that a forgotten one shows.

    They are of NumPy, because to compile a module's own initializers takes XLA seconds.
    """
    random = np.random.default_rng(seed)

    def draw(leaf: Any) -> jax.Array:
        return jnp.asarray(0.4 * random.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)


def built(block: Callable[..., Any], *args: Any) -> tuple[Params, Callable[..., Any]]:
    """Parameters of a block for these arguments, and its function (params, *args), under jit."""
    transformed = hk.transform(block)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), *args))
    return params, jax.jit(lambda params, *args: transformed.apply(params, None, *args))


def normal(*shape: int, seed: int = 0) -> jax.Array:
    """Normal numbers of a shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def packed(
    sequences: list[list[int]], rows: list[list[int]], *, tokens: int, slots: int
) -> PackedBatch:
    """Token ids in rows, written out without the library's packer."""
    arrays = np.zeros((4, len(rows), tokens), np.int32)
    starts, lengths = np.zeros((2, len(rows), slots), np.int32)
    for b, row in enumerate(rows):
        t = 0
        for n, index in enumerate(row):
            starts[b, n], lengths[b, n] = t, len(sequences[index])
            for position, token in enumerate(sequences[index]):
                arrays[:, b, t] = token, position, n + 1, 0
                t += 1
    token_ids, position_ids, segment_ids, type_ids = arrays
    return PackedBatch(token_ids, position_ids, segment_ids, type_ids, starts, lengths)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Equal within tolerance * max(1, |expected|)."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    excess = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
    assert np.all(excess <= tolerance), f"differs by {excess.max()}"
