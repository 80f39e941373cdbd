"""Blocks of the Transformer, as Haiku modules: each is usable alone."""

from encodax.nn.attention import KeysValues, MultiHeadAttention
from encodax.nn.decoder import Decoder, DecoderCache, DecoderLayer
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
from encodax.nn.transformer import Transformer

__all__ = [
    "ACTIVATIONS",
    "Decoder",
    "DecoderCache",
    "DecoderLayer",
    "Embeddings",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "Head",
    "KeysValues",
    "LayerNorm",
    "Linear",
    "MultiHeadAttention",
    "RelativeBias",
    "RelativeEmbeddings",
    "Residual",
    "Transformer",
    "pool",
    "position_encoding",
    "sinusoidal_table",
]
