"""Linear layer: parameters for `functional.linear`."""

from __future__ import annotations

import math

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.nn import functional
from encodax.types.batches import Weight


class Linear(hk.Module):
    """Linear layer y = x w + b over the last axis of x."""

    def __init__(self, *out_shape: int, bias: bool = True, name: str = "linear"):
        """Set the shape.

        Args:
            out_shape: axes that replace D: `(F,)`, or `(H, K)` for one vector for each head.
            bias: whether there is a b.
            name: last part of the parameters' path.
        """
        super().__init__(name=name)
        self.out_shape = out_shape
        self.bias = bias

    def weights(self, in_width: int) -> dict[str, Weight]:
        """Return `w` of shape (in_width, *out_shape), and `b` of shape out_shape where used.

        w is drawn by Glorot & Bengio 2010 over in_width and the last axis: for (D, H, K) each
        head is a separate D -> K layer. (Haiku's initializers would read three axes as a
        convolution kernel and draw it about twice too small.)
        """
        limit = math.sqrt(6 / (in_width + self.out_shape[-1]))
        glorot = hk.initializers.RandomUniform(-limit, limit)
        w = hk.get_parameter("w", (in_width, *self.out_shape), jnp.float32, glorot)
        return {"w": w, **self._bias()}

    def tied_to(self, table: Float[Array, "V D"]) -> dict[str, Weight]:
        """Return the table's rows as w of shape (D, V), and this layer's b where it has one."""
        return {"w": table.T, **self._bias()}

    def _bias(self) -> dict[str, Weight]:
        if not self.bias:
            return {}
        return {"b": hk.get_parameter("b", self.out_shape, jnp.float32, jnp.zeros)}

    def __call__(self, x: Float[Array, "*rows D"]) -> Array:
        """Apply the layer: (..., D) -> (..., *out_shape)."""
        return functional.linear(x, self.weights(x.shape[-1]))
