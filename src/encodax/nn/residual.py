"""Residual connection around a sublayer, with its layer norm."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
from jaxtyping import Array, Float

from encodax.config import Placement
from encodax.nn import functional
from encodax.nn.layer_norm import LayerNorm


class Residual(hk.Module):
    """Residual connection: adds the output of a sublayer f to its input x.

    post: LN(x + dropout(f(x)))     Vaswani et al. 2017, sections 3.1 and 5.4; BERT
    pre:  x + dropout(f(LN(x)))     Xiong et al. 2020, arXiv:2002.04745

    Without a norm both are x + dropout(f(x)). It has no parameters.
    """

    def __init__(
        self,
        norm: LayerNorm | None = None,
        placement: Placement = "post",
        *,
        dropout_rate: float = 0.0,
        name: str = "residual",
    ):
        super().__init__(name=name)
        if placement not in ("post", "pre"):
            raise ValueError(f"placement {placement!r} is not one of: post, pre")
        self.norm = norm or (lambda x: x)
        self.placement = placement
        self.dropout_rate = dropout_rate

    def __call__(
        self,
        x: Float[Array, "*rows D"],
        sublayer: Callable[[Array], Array],
        *,
        is_training: bool = False,
    ) -> Float[Array, "*rows D"]:
        """Apply `sublayer`, a function (or module) of x, and add the result to x."""
        added = sublayer(self.norm(x) if self.placement == "pre" else x)
        y = x + functional.dropout(added, self.dropout_rate, is_training)
        return self.norm(y) if self.placement == "post" else y
