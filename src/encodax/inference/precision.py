"""Parameters in fewer bits, for speed; docs/precision.md measures the cost in quality."""

from __future__ import annotations

import re
from typing import get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.errors import EncodaxError
from encodax.options.training import Precision as Precision
from encodax.types.batches import Int8Weight, Params, Weight

_LAYER = r"(encoder|decoder)/layer_\d+/(attention|cross_attention|feed_forward)/"
_DENSE = re.compile(rf"({_LAYER}|encoder/embeddings/projection$|head/(dense|output)$|output$)")
# Value projections stay in bfloat16: their errors add up over a whole text instead of cancelling.
# The least cosine with float32 of a sentence of all-MiniLM-L6-v2 is 0.995 so, and 0.992 otherwise.
_INTEGER = re.compile(rf"{_LAYER}(?!(position_)?value$)")


def default_precision() -> Precision:
    """Return float32 on CPU, where it is the reference, and bfloat16 on accelerators."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def cast(params: Params, precision: Precision) -> Params:
    """Convert the parameters to a precision.

    - `float32`: unchanged.
    - `bfloat16`: the weights of dense products are in bfloat16, and so are the products; their sums
      are in float32.
    - `int8`: the products of the layers are in integers (`numerics.int8_product`), except those
      of the attention's value projections; these, and all others, are in bfloat16.

    Tables of embeddings, norms and biases stay in float32.

    Raises:
        EncodaxError: there is no such precision.
    """
    if precision not in get_args(Precision):
        raise EncodaxError(
            f"precision {precision!r} is not one of: {', '.join(get_args(Precision))}"
        )
    if precision == "float32":
        return params
    return {
        path: {leaf: _narrow(path, leaf, weight, precision) for leaf, weight in leaves.items()}
        for path, leaves in params.items()
    }


def quantize(w: Float[Array, "D *out"]) -> Int8Weight:
    """Round each output channel to 255 steps between plus and minus its largest absolute value."""
    largest = jnp.max(jnp.abs(w), axis=0)  # (*out)
    scale = jnp.where(largest > 0, largest, 1.0) / 127
    values = jnp.round(w / scale).astype(jnp.int8)  # (D, *out)
    return Int8Weight(values, scale, jnp.sum(values, axis=0, dtype=jnp.int32).astype(jnp.float32))


def _narrow(path: str, leaf: str, weight: Weight, precision: Precision) -> Weight:
    if leaf != "w" or isinstance(weight, Int8Weight) or not _DENSE.match(path):
        return weight
    if precision == "int8" and _INTEGER.match(path):
        return quantize(weight)
    return jnp.asarray(weight, jnp.bfloat16)
