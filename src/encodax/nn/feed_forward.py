"""Position-wise feed-forward network."""

from __future__ import annotations

import haiku as hk
from jaxtyping import Array, Float

from encodax.nn import functional
from encodax.nn.linear import Linear


class FeedForward(hk.Module):
    """Feed-forward network: y = activation(x w_up + b_up) w_down + b_down at every position.

    Vaswani et al. 2017, section 3.3, with a GELU in place of the ReLU. Gated (Shazeer 2020,
    arXiv:2002.05202, section 2), the inner layer is activation(x w_gate + b_gate) (x w_up + b_up).
    Parameters: `up` and, where it is gated, `gate` with w (D, F) and b (F,), `down` with w (F, D)
    and b (D,).
    """

    def __init__(
        self,
        width: int,
        activation: str = "gelu_erf",
        *,
        gated: bool = False,
        biases: bool = True,
        dropout_rate: float = 0.0,
        name: str = "feed_forward",
    ):
        """Set the shape and the options.

        Args:
            width: F, the width of the inner layer.
            activation: a name in `functional.ACTIVATIONS`.
            gated: whether a second projection multiplies the activated one.
            biases: whether the projections have biases.
            dropout_rate: share of inner features dropped in training.
            name: last part of the parameters' path.
        """
        super().__init__(name=name)
        self.width = width
        self.activation = functional.activation(activation)
        self.gated = gated
        self.biases = biases
        self.dropout_rate = dropout_rate

    def __call__(
        self, x: Float[Array, "*rows D"], *, is_training: bool = False
    ) -> Float[Array, "*rows D"]:
        """Apply the network: (..., D) -> (..., D)."""
        up = Linear(self.width, bias=self.biases, name="up")(x)  # (..., F)
        if self.gated:
            inner = self.activation(Linear(self.width, bias=self.biases, name="gate")(x)) * up
        else:
            inner = self.activation(up)
        inner = functional.dropout(inner, self.dropout_rate, is_training)
        return Linear(x.shape[-1], bias=self.biases, name="down")(inner)
