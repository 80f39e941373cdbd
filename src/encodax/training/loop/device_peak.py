"""Peak speed of the device, to report a run's share of it."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

SIZES = {"cpu": 1_024}
"""N of the N x N matrix products, by platform."""
SIZE_OF_ACCELERATORS = 8_192
ROUNDS = 4


@functools.cache
def matmul_peak(dtype: Any = jnp.float32, *, size: int | None = None) -> float:
    """Return the FLOP/s of a large matrix product on one device, best of a few; measured once.

    Args:
        dtype: data type of the matrices.
        size: N of the N x N product; None for a size that suits the device.
    """
    size = size or SIZES.get(jax.default_backend(), SIZE_OF_ACCELERATORS)
    device = jax.local_devices()[0]
    a = jax.device_put(jnp.ones((size, size), dtype), device)
    multiply = jax.jit(lambda x: x @ x).lower(a).compile()
    multiply(a).block_until_ready()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        multiply(a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return float(2 * size**3 / best)
