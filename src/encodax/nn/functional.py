"""Pure functions shared by the blocks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Set

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from encodax.errors import EncodaxError
from encodax.nn.kernels.numerics import drop, has_reduced_precision, int8_product, product
from encodax.types.batches import AnyArray, Int8Weight, Weight


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
    elif has_reduced_precision(w):
        y = jnp.tensordot(x.astype(w.dtype), w, axes=1, preferred_element_type=jnp.float32)
        y = y.astype(x.dtype)
    else:
        y = product(x, w)
    return y + jnp.asarray(weights["b"]) if "b" in weights else y


def dropout(x: Array, rate: float, is_training: bool) -> Array:
    """Apply inverted dropout (Srivastava et al. 2014) in training, the identity otherwise."""
    if not is_training or rate == 0.0:
        return x
    return drop(hk.next_rng_key(), rate, x)


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


def check_stages(record: Set[str], known: Set[str]) -> None:
    """Raise where a stage to record is unknown.

    Raises:
        ValueError: names the stage, and the known ones.
    """
    if unknown := record - known:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"no stage {names} to record; known: {', '.join(sorted(known))}")
