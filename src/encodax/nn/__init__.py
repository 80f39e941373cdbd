"""The blocks of the Transformer encoder, as Haiku modules: each is usable alone."""

from encodax.nn.attention import MultiHeadAttention
from encodax.nn.embeddings import Embeddings
from encodax.nn.encoder import Encoder, EncoderLayer
from encodax.nn.feed_forward import FeedForward
from encodax.nn.functional import ACTIVATIONS, position_encoding, sinusoidal_table
from encodax.nn.heads import Head
from encodax.nn.layer_norm import LayerNorm
from encodax.nn.linear import Linear
from encodax.nn.pooling import pool
from encodax.nn.relative_positions import RelativeBias, RelativeEmbeddings
from encodax.nn.residual import Residual

__all__ = [
    "ACTIVATIONS",
    "Embeddings",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "Head",
    "LayerNorm",
    "Linear",
    "MultiHeadAttention",
    "RelativeBias",
    "RelativeEmbeddings",
    "Residual",
    "pool",
    "position_encoding",
    "sinusoidal_table",
]
