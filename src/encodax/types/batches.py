"""Packed batches, outputs and spans.

Glossary of dimensions, one letter each, the same in every file:

    B  rows of a batch              H  attention heads
    T  tokens in a row (queries)    K  width of one head
    S  tokens attended to (keys)    F  feed-forward width
    N  slots (sequences) in a row   L  layers
    M  selected tokens              C  classes
    D  model width                  R  relative positions
    P  positions with a vector
    V  vocabulary                   E  width of a text's vector, or of the attended states
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8

AnyArray = Array | np.ndarray
"""Array of JAX, or of NumPy on the host."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Weight:
    """Weight in 8 bits: values * scale, with one scale for each output channel."""

    values: Int8[Array, "D *out"]
    """Integers in -127 .. 127."""
    scale: Float[Array, "*out"]
    """Size of an integer step of each output channel."""
    total: Float[Array, "*out"]
    """Sum of each channel's values: an input constant c adds c * total * scale to the output."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight that is stored."""
        return tuple(self.values.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.values.size)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the integers, their scales and their sums."""
        return int(self.values.nbytes + self.scale.nbytes + self.total.nbytes)


Weight = Array | Int8Weight
"""Parameter that enters a matrix product."""
Params = Mapping[str, Mapping[str, Weight]]
"""Parameters as Haiku keeps them: module path -> leaf name -> array."""
Shapes = Mapping[str, Mapping[str, Any]]
"""Tree of the same form with anything that has a shape at its leaves."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedBatch:
    """Rows of a fixed number of tokens; several sequences may share a row.

    It is the only kind of batch: a padded batch is one with one sequence in each row (`from_rows`).
    Arrays are of NumPy on the host and of JAX under a transformation.
    """

    token_ids: Int[AnyArray, "B T"]
    """Vocabulary index of each token; 0 at padding."""
    position_ids: Int[AnyArray, "B T"]
    """Position of each token inside its sequence: restarts at 0 where a sequence begins."""
    segment_ids: Int[AnyArray, "B T"]
    """Number of each token's sequence: 0 at padding, 1..N in a row, contiguous and in order."""
    type_ids: Int[AnyArray, "B T"]
    """Token type, the text of a pair that a token belongs to: 0 or 1."""
    starts: Int[AnyArray, "B N"]
    """Index in the row of the first token of each slot's sequence."""
    lengths: Int[AnyArray, "B N"]
    """Number of tokens in each slot's sequence; 0 for an empty slot."""

    @classmethod
    def from_rows(
        cls,
        token_ids: Int[AnyArray, "B T"],
        lengths: Int[AnyArray, " B"] | None = None,
        type_ids: Int[AnyArray, "B T"] | None = None,
    ) -> PackedBatch:
        """Return a batch with one sequence in each row, as in an ordinary padded batch.

        Args:
            token_ids: (B, T), each row's sequence first, padding after it.
            lengths: (B,), real tokens of each row; T for all when not given.
            type_ids: (B, T), 0 or 1; all 0 when not given.
        """
        token_ids = jnp.asarray(token_ids)
        rows, tokens = token_ids.shape
        if lengths is None:
            lengths = jnp.full((rows,), tokens, jnp.int32)
        lengths = jnp.asarray(lengths, jnp.int32)[:, None]  # (B, 1)
        index = jnp.arange(tokens, dtype=jnp.int32)[None]  # (1, T)
        is_real = index < lengths  # (B, T)
        return cls(
            token_ids=jnp.where(is_real, token_ids, 0).astype(jnp.int32),
            position_ids=jnp.where(is_real, index, 0),
            segment_ids=is_real.astype(jnp.int32),
            type_ids=jnp.zeros_like(index + lengths) if type_ids is None else jnp.asarray(type_ids),
            starts=jnp.zeros_like(lengths),
            lengths=lengths,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PairBatch:
    """Pairs of a source and a target, both in the same row and the same slot.

    So a target attends to the source with its segment id, and to no other.
    """

    source: PackedBatch
    """(B, S) arrays."""
    target: PackedBatch
    """(B, T) arrays: the decoder's input tokens, each followed by the token to predict."""


AnyBatch = PackedBatch | PairBatch
"""Batch that a model takes: of sequences, or of pairs of them."""


def packed_batches_of(batch: AnyBatch) -> tuple[PackedBatch, ...]:
    """Return the packed batches in a batch: of pairs, the sources and the targets."""
    return (batch.source, batch.target) if isinstance(batch, PairBatch) else (batch,)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EncoderOutput:
    """Output of a stack of layers, an encoder's or a decoder's."""

    hidden: Float[Array, "B _ D"]
    """Last layer's state of every token, (B, T, D), or of the selected tokens, (B, M, D); after the
    final norm, where there is one."""
    records: dict[str, tuple[Array, ...]] = field(default_factory=dict)
    """Recorded stages: of an encoder, `attention` holds L arrays (B, H, T, T), `hidden` L + 1
    arrays (B, T, D), the embeddings first."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModelOutput:
    """Output of a whole model: of its last stack and of its head."""

    hidden: Float[Array, "B _ D"]
    """Last stack's state of every token, (B, T, D), or of the selected tokens, (B, M, D)."""
    logits: Float[Array, "B _ C"] | None = None
    """Scores of the head before softmax: (B, N, C), one for each slot, or (B, T, C), one for each
    token. None for a model without a head."""
    vectors: Float[Array, "B N E"] | None = None
    """Vector of each slot, from an `embedding` head; None from any other."""
    records: dict[str, tuple[Array, ...]] = field(default_factory=dict)
    """Recorded stages, as in `EncoderOutput`."""


@dataclass(frozen=True)
class Span:
    """Labelled span of a text: `text[start:end]`, in characters."""

    start: int
    end: int
    label: str
    score: float = 1.0
    """Probability the model gives the label; 1 for a span that a person wrote."""
