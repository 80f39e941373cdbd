"""Products of matrices in float32 and in integers, and cheap random bits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from encodax.types.batches import Int8Weight, Weight

MASK_VALUE = -1e30
"""Score of a masked key: softmax gives it 0; finite, as -inf gives NaN where all are masked."""


@jax.custom_vjp
def product(x: Float[Array, "*rows D"], w: Float[Array, "D *out"]) -> Array:
    """Return x w over the last axis of x, with a gradient of two matrix products.

    dX = dY W^T,  dW = X^T dY

    JAX derives the same gradient; but it computes dW of several axes as dY^T X and transposes it,
    and XLA on CPU then also transposes all that the optimizer keeps for W. The price: no
    forward-mode derivative (`jax.jvp`) goes through it.
    """
    return jnp.tensordot(x, w, axes=1)


def _product_forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, w), (x, w)


def _product_backward(inputs: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, w = inputs
    rows, dy = x.reshape(-1, x.shape[-1]), slope.reshape(-1, math.prod(w.shape[1:]))
    dx = dy @ w.reshape(x.shape[-1], -1).T
    return dx.reshape(x.shape), (rows.T @ dy).reshape(w.shape)


product.defvjp(_product_forward, _product_backward)


def has_reduced_precision(w: Weight) -> bool:
    """Return True where products with this weight have fewer bits than float32."""
    return isinstance(w, Int8Weight) or w.dtype == jnp.bfloat16


def int8_product(x: Float[Array, "*rows D"], w: Int8Weight) -> Array:
    """Return x w in integers: each row of x is rounded to 255 steps between its extremes.

        x_ik ~ m_i + s_i q_ik,  q_ik = round((x_ik - m_i) / s_i) in -127 .. 127
        y_ij = s_i t_j sum_k q_ik w_kj + m_i t_j sum_k w_kj

    with m_i the middle of row i, s_i its range divided by 254 and t_j the step of column j.
    Values after a GELU lie on one side of 0, so steps centred at 0 would waste a bit. Sums are
    exact (int32). Dettmers et al. 2022, arXiv:2208.07339, section 2.
    """
    x32 = x.astype(jnp.float32)
    low, high = (f(x32, axis=-1, keepdims=True) for f in (jnp.min, jnp.max))  # (..., 1)
    middle = (high + low) / 2
    step = jnp.maximum(high - low, 1e-30) / 254  # a row of equal values stays as it is
    steps = jnp.round((x32 - middle) / step).astype(jnp.int8)  # (..., D)
    total = jnp.tensordot(steps, w.values, axes=1, preferred_element_type=jnp.int32)  # (..., *out)
    middle, step = (a.reshape(*x.shape[:-1], *(1 for _ in w.scale.shape)) for a in (middle, step))
    return ((total.astype(jnp.float32) * step + middle * w.total) * w.scale).astype(x.dtype)


def drop(key: Array, rate: float, x: Float[Array, "*dims"]) -> Float[Array, "*dims"]:
    """Set each element of x to 0 with probability `rate`, and divide it by 1 - rate otherwise."""
    kept = hashed_bits(key, x.shape) >= np.uint32(rate * 2**32)
    return jnp.where(kept, x / (1 - rate), 0)


def hashed_bits(key: Array, shape: tuple[int, ...]) -> UInt32[Array, "*dims"]:
    """Return 32 random bits for each element: a keyed hash of its index, which is a bijection.

    r_i = h(i; a, b),  a and b two words drawn from the key

    Counter-based, as in Salmon et al. 2011 (doi:10.1145/2063384.2063405): an element depends only
    on the key and its index, so that shards of an array on many devices draw what the whole array
    would. For dropout masks only: 3 rounds of multiply and xor-shift (the finalizer of
    MurmurHash3 has 2), with the key added between them, take a fiftieth of the time of the 20
    rounds of Threefry on CPU. Constants: C. Wellons' `triple32`, searched for least bias.
    """
    start, middle = jax.random.bits(key, (2,), jnp.uint32)
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    bits = place ^ start
    bits = (bits ^ (bits >> 17)) * np.uint32(0xED5AD4BB)
    bits = (bits ^ (bits >> 11)) * np.uint32(0xAC4C1B51) + middle
    bits = (bits ^ (bits >> 15)) * np.uint32(0x31848BAB)
    return bits ^ (bits >> 14)
