"""Layer normalization."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.config import NormConfig


class LayerNorm(hk.Module):
    """Layer normalization with learned scale and shift, over any one feature axis.

    y = alpha * (x - mean) / sqrt(var + eps) + beta

    mean and var (the biased one) are taken over the feature axis only, in float32 whatever the
    dtype of x; y has the dtype of x. Ba et al. 2016, arXiv:1607.06450, section 3, where alpha is
    the gain g and beta the bias b.

    Where it is not centred, the mean is taken as 0 and var is the mean square: RMSNorm (Zhang &
    Sennrich 2019, arXiv:1910.07467, equation 4).
    """

    def __init__(
        self,
        axis: int = -1,
        eps: float = 1e-5,
        *,
        bias: bool = True,
        centred: bool = True,
        name: str = "norm",
    ):
        """Set the axis and the options.

        Args:
            axis: the feature axis; counted from the end where negative.
            eps: number added to the variance before the root.
            bias: whether there is a beta.
            centred: whether the mean is subtracted.
            name: last part of the parameters' path.
        """
        super().__init__(name=name)
        self.axis = axis
        self.eps = eps
        self.bias = bias
        self.centred = centred

    def __call__(self, x: Float[Array, "*dims"]) -> Float[Array, "*dims"]:
        """Normalize x; `alpha` and `beta` have the shape (x.shape[axis],)."""
        features = x.shape[self.axis]
        alpha = hk.get_parameter("alpha", (features,), jnp.float32, jnp.ones)
        along_axis = [1] * x.ndim
        along_axis[self.axis] = features  # (1, ..., features, ..., 1)

        x32 = x.astype(jnp.float32)
        if self.centred:
            x32 -= jnp.mean(x32, axis=self.axis, keepdims=True)
        variance = jnp.mean(jnp.square(x32), axis=self.axis, keepdims=True)
        normalized = x32 * jax.lax.rsqrt(variance + self.eps)
        y = alpha.reshape(along_axis) * normalized
        if self.bias:
            beta = hk.get_parameter("beta", (features,), jnp.float32, jnp.zeros)
            y += beta.reshape(along_axis)
        return y.astype(x.dtype)


def norm_of(config: NormConfig, name: str) -> LayerNorm:
    """Return the layer norm configured by `config`, over the last axis."""
    return LayerNorm(eps=config.eps, bias=config.bias, centred=config.centred, name=name)
