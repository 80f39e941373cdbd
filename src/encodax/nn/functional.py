"""Pure functions shared by the blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32

from encodax.errors import EncodaxError
from encodax.types.batches import AnyArray, Int8Weight, Weight

MASK_VALUE = -1e30
"""Score of a masked key: softmax gives it 0; finite, as -inf gives NaN where all are masked."""


def gelu(x: Float[Array, "*dims"]) -> Float[Array, "*dims"]:
    """Apply GELU: x * Phi(x), with the error function.

    Not `jax.nn.gelu`: its complementary error function takes twice the time on CPU, for the
    relative precision of values that are almost 0.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_erf": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "elu": jax.nn.elu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_swish,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
}
"""Activations by name. The two forms of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415) differ
by up to 5e-4: x * Phi(x) with the error function, and its approximation with tanh."""

SCORE_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **ACTIVATIONS,
    "log_softmax": jax.nn.log_softmax,
    "softmax": jax.nn.softmax,
}
"""Activations of a cross-encoder's scores by name: of one text, over its classes."""


def activation(name: str) -> Callable[[Array], Array]:
    """Return the activation called `name`; a ValueError lists the known ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; choose from {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def linear(x: Float[Array, "*rows D"], weights: Mapping[str, Weight]) -> Array:
    """Return x w + b over the last axis of x.

    Every dense product of the library goes through here. The type of the weight selects the
    arithmetic: in the dtype of w, accumulated in float32 where that is narrower, or in integers
    (`int8_product`). With a narrow w, the result keeps the dtype of x.

    Args:
        x: (..., D).
        weights: `w` of shape (D, *out), and optionally `b` of shape (*out).

    Returns:
        (..., *out): a (D, H, K) weight gives each token one vector of width K for each head.
    """
    w = weights["w"]
    if isinstance(w, Int8Weight):
        y = int8_product(x, w)  # (..., *out)
    elif is_narrow(w):
        y = jnp.tensordot(x.astype(w.dtype), w, axes=1, preferred_element_type=jnp.float32)
        y = y.astype(x.dtype)
    else:
        y = product(x, w)
    return y + jnp.asarray(weights["b"]) if "b" in weights else y


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


def is_narrow(w: Weight) -> bool:
    """Return True if products with this weight have fewer bits than float32."""
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
    least, greatest = (f(x32, axis=-1, keepdims=True) for f in (jnp.min, jnp.max))  # (..., 1)
    middle = (greatest + least) / 2
    step = jnp.maximum(greatest - least, 1e-30) / 254  # a row of equal values stays as it is
    steps = jnp.round((x32 - middle) / step).astype(jnp.int8)  # (..., D)
    total = jnp.tensordot(steps, w.values, axes=1, preferred_element_type=jnp.int32)  # (..., *out)
    middle, step = (a.reshape(*x.shape[:-1], *(1 for _ in w.scale.shape)) for a in (middle, step))
    return ((total.astype(jnp.float32) * step + middle * w.total) * w.scale).astype(x.dtype)


def dropout(x: Array, rate: float, is_training: bool) -> Array:
    """Apply inverted dropout (Srivastava et al. 2014) in training, the identity otherwise."""
    if not is_training or rate == 0.0:
        return x
    return drop(hk.next_rng_key(), rate, x)


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


def at_tokens(x: Shaped[Array, "B T *D"], tokens: Int[AnyArray, "B M"]) -> Array:
    """Return the states of x at M tokens of each row: (B, M, ...)."""
    places = jnp.asarray(tokens).reshape(*tokens.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, places, axis=1)  # where rows are sharded, each on its device


def rotate(
    x: Float[Array, "B T H K"], position_ids: Int[Array, "B T"], base: float
) -> Float[Array, "B T H K"]:
    """Apply rotary positions: rotate each pair of features by an angle that grows with position.

    (x_i, x_{i+K/2}) -> (x_i cos a - x_{i+K/2} sin a, x_{i+K/2} cos a + x_i sin a),
    a = position * base^(-2i/K)

    The product of a query and a key rotated so depends only on the difference of their
    positions. Su et al. 2021, arXiv:2104.09864, section 3.4.2, with the pairs half a head apart.
    """
    half = x.shape[-1] // 2
    frequency = jnp.asarray(1.0 / base ** (np.arange(half) / half), jnp.float32)  # (K/2,)
    angle = position_ids[:, :, None, None] * frequency  # (B, T, 1, K/2), radians
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def unit(x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """Normalize to length 1: x / |x| over the last axis; zeros stay zeros."""
    squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    # The limit is inside the root, whose slope at 0 is infinite.
    return (x / jnp.sqrt(jnp.maximum(squares, 1e-24))).astype(x.dtype)


def position_encoding(position: Int[Array, ""], width: int) -> Float[Array, " D"]:
    """Return the sinusoidal encoding of one position.

    PE(pos, 2i) = sin(pos / 10000^(2i/D)),  PE(pos, 2i+1) = cos(pos / 10000^(2i/D)).

    Vaswani et al. 2017, section 3.5. A sine and the cosine after it share one frequency: the
    exponent is 2 * floor(column / 2) / D.
    """
    column = np.arange(width)
    turns = 10_000.0 ** (-2 * (column // 2) / width) / (2 * np.pi)  # (D,), of one position
    # An angle of hundreds of radians has too few digits in float32. So whole turns are subtracted
    # from products that are exact there, of positions below 2^13 and 11 digits each.
    angle = jnp.zeros(width, jnp.float32)  # (D,), in turns
    for unit in (2.0**-11, 2.0**-22):
        digits = np.floor(turns / unit) * unit
        turns = turns - digits
        angle += (position * jnp.asarray(digits, jnp.float32)) % 1
    angle = 2 * np.pi * (angle + position * jnp.asarray(turns, jnp.float32))  # radians
    return jnp.where(column % 2 == 0, jnp.sin(angle), jnp.cos(angle))  # (D,)


def sinusoidal_table(positions: int, width: int, *, halves: bool = False) -> Float[Array, "T D"]:
    """Return `position_encoding` of positions 0 .. T-1, mapped with `jax.vmap`.

    Args:
        positions: T.
        width: D.
        halves: all sines first, then the cosines (Marian), instead of alternating.
    """
    table = jax.vmap(position_encoding, in_axes=(0, None))(jnp.arange(positions), width)  # (T, D)
    return jnp.concatenate([table[:, 0::2], table[:, 1::2]], axis=1) if halves else table


def check_below(name: str, ids: AnyArray, limit: int) -> None:
    """Raise where an id is negative or not below the limit.

    JAX clamps an index that is out of range silently, so this is checked on the host. Under a
    transformation the values are not known: `Model.batch` has checked them before.

    Raises:
        EncodaxError: an id is out of range; the message gives the id and the limit.
    """
    if isinstance(ids, jax.core.Tracer) or ids.size == 0:
        return
    known = np.asarray(ids)  # under jit, reductions of a known JAX array would be traced
    smallest, largest = int(known.min()), int(known.max())
    if smallest < 0 or largest >= limit:
        bad = smallest if smallest < 0 else largest
        raise EncodaxError(f"{name} {bad} is outside 0..{limit - 1}")
