"""Parts shared by the layers of the encoder and of the decoder."""

from __future__ import annotations

import functools

import haiku as hk
from jaxtyping import Array, Float

from encodax.config import LayerConfig
from encodax.nn.attention import MultiHeadAttention
from encodax.nn.feed_forward import FeedForward
from encodax.nn.layer_norm import LayerNorm, norm_of
from encodax.nn.residual import Residual


class Layer(hk.Module):
    """Sublayers by their names, each inside a residual connection with its norm."""

    def __init__(self, config: LayerConfig, name: str = "layer"):
        super().__init__(name=name)
        self.config = config

    @hk.name_like("__call__")
    def _attention(self, sublayer: str, *, causal: bool = False) -> MultiHeadAttention:
        config = self.config.attention
        return MultiHeadAttention(
            config.heads,
            config.head_width,
            biases=config.biases,
            output_bias=config.output_bias,
            causal=causal,
            scale=config.scale,
            window=config.window,
            rotary=config.rotary if sublayer == "attention" else None,  # of one sequence
            dropout_rate=config.dropout_rate,
            name=sublayer,
        )

    @hk.name_like("__call__")
    def _attention_input(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Return the input of the keys and values of self-attention."""
        norm = self._norm("attention")
        return norm(x) if self.config.placement == "pre" and norm is not None else x

    @hk.name_like("__call__")
    def _feed_forward(
        self, x: Float[Array, "B T D"], *, is_training: bool
    ) -> Float[Array, "B T D"]:
        """Apply the last sublayer, the feed-forward network."""
        config = self.config.feed_forward
        feed_forward = FeedForward(
            config.width,
            config.activation,
            gated=config.gated,
            biases=config.biases,
            dropout_rate=config.dropout_rate,
            name="feed_forward",
        )
        transform = functools.partial(feed_forward, is_training=is_training)
        return self._residual("feed_forward")(x, transform, is_training=is_training)

    @hk.name_like("__call__")
    def _norm(self, sublayer: str) -> LayerNorm | None:
        if sublayer == "attention" and not self.config.has_attention_norm:
            return None
        return norm_of(self.config.norm, f"{sublayer}_norm")

    @hk.name_like("__call__")
    def _residual(self, sublayer: str) -> Residual:
        dropped = self.config.dropout_on in ("both", sublayer)
        return Residual(
            self._norm(sublayer),
            self.config.placement,
            dropout_rate=self.config.dropout_rate if dropped else 0.0,
            name=f"{sublayer}_residual",
        )
