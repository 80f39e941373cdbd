"""What the processor reaches at best: FLOP/s of float32 products that JAX compiled."""

from __future__ import annotations

import statistics

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.timing import seconds_of

LARGE = 2_048
"""Rows and columns of a product that is large enough."""
REPEATS = 8


class Product:
    """A compiled product of matrices (rows, depth) and (depth, columns)."""

    def __init__(self, rows: int, depth: int, columns: int):
        random = np.random.default_rng(0)
        shapes = (rows, depth), (depth, columns)
        self._operands = [jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes]
        self._multiply = jax.jit(jnp.matmul).lower(*self._operands).compile()
        self._flops = 2 * rows * depth * columns

    def __call__(self) -> None:
        self._multiply(*self._operands).block_until_ready()

    def rate(self) -> float:
        """FLOP/s, in the median of some repeats."""
        return self._flops / statistics.median(seconds_of(self) for _ in range(REPEATS))


class LargeProduct(Product):
    """What shares of the peak are of."""

    def __init__(self) -> None:
        super().__init__(LARGE, LARGE, LARGE)
        self._operands = self._operands[:1] * 2
        self()  # the first call is slower

    def rate(self) -> float:
        """FLOP/s of four products in a row."""
        return 4 * self._flops / seconds_of(lambda: [self() for _ in range(4)])
