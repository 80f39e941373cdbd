"""The values that travel: packed batches in, outputs and spans out.

Glossary of dimensions, one letter each, the same in every file:

    B  rows of a batch              H  attention heads
    T  tokens in a row (queries)    K  width of one head
    S  tokens attended to (keys)    F  feed-forward width
    N  slots (sequences) in a row   L  layers
    M  tokens that are asked for    C  classes
    D  model width                  R  relative positions
    P  positions that have a vector
    V  vocabulary                   E  width of a text's vector, or of what is attended to
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
"""An array of JAX, or of NumPy on the host."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Weight:
    """A weight in 8 bits: values * scale, with one scale for each output channel."""

    values: Int8[Array, "D *out"]
    """Integers in -127 .. 127."""
    scale: Float[Array, "*out"]
    """What an integer step of that channel is worth."""
    total: Float[Array, "*out"]
    """The sum of a channel's values: a constant added to an input adds so many steps."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight it stands for."""
        return tuple(self.values.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.values.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the integers, their scales and their sums."""
        return int(self.values.nbytes + self.scale.nbytes + self.total.nbytes)


Weight = Array | Int8Weight
"""A leaf that a product is made with."""
Params = Mapping[str, Mapping[str, Weight]]
"""Parameters as Haiku keeps them: module path -> leaf name -> array."""
Shapes = Mapping[str, Mapping[str, Any]]
"""The same tree with anything that has a shape at its leaves."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedBatch:
    """Rows of a fixed number of tokens that several sequences may share.

    It is the only batch there is: a padded batch is the case of one sequence a row
    (`from_rows`). Arrays are of NumPy on the host and of JAX under a transformation.
    """

    token_ids: Int[AnyArray, "B T"]
    """Vocabulary index of each token; 0 at padding."""
    position_ids: Int[AnyArray, "B T"]
    """Position inside its own sequence: restarts at 0 where a sequence begins."""
    segment_ids: Int[AnyArray, "B T"]
    """0 at padding, 1..N for the sequences of a row: contiguous, in order."""
    type_ids: Int[AnyArray, "B T"]
    """Which text of a pair a token belongs to: 0 or 1."""
    starts: Int[AnyArray, "B N"]
    """Row index of the first token of each slot's sequence."""
    lengths: Int[AnyArray, "B N"]
    """Tokens in each slot's sequence; 0 for an empty slot."""

    @classmethod
    def from_rows(
        cls,
        token_ids: Int[AnyArray, "B T"],
        lengths: Int[AnyArray, " B"] | None = None,
        type_ids: Int[AnyArray, "B T"] | None = None,
    ) -> PackedBatch:
        """One sequence a row, as in an ordinary padded batch.

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
    """Sequences in two languages: the two of a pair stand in the same row and the same slot.

    So a target attends to the source of its own segment number, and to no other.
    """

    source: PackedBatch
    """(B, S) arrays."""
    target: PackedBatch
    """(B, T) arrays: what the decoder is given, so that each token is followed by the next."""


AnyBatch = PackedBatch | PairBatch
"""What a model is run on: sequences, or pairs of them."""


def sides_of(batch: AnyBatch) -> tuple[PackedBatch, ...]:
    """The sequences of a batch: of pairs, the sources and the targets."""
    return (batch.source, batch.target) if isinstance(batch, PairBatch) else (batch,)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EncoderOutput:
    """What a stack of layers gives, an encoder's or a decoder's."""

    hidden: Float[Array, "B _ D"]
    """The last layer's state of every token, (B, T, D), or of those that were asked for, (B, M, D);
    after the final norm, where there is one."""
    records: dict[str, tuple[Array, ...]] = field(default_factory=dict)
    """The stages asked for: of an encoder, `attention` holds L arrays (B, H, T, T), `hidden` L + 1
    arrays (B, T, D), the embeddings first."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModelOutput:
    """What a whole model gives: the output of its last stack, and of its head."""

    hidden: Float[Array, "B _ D"]
    """The last stack's state of every token, (B, T, D), or of those that were asked for,
    (B, M, D)."""
    logits: Float[Array, "B _ C"] | None = None
    """The head's scores before softmax: (B, N, C), one for each slot, or (B, T, C), one for each
    token. None for a model without a head."""
    vectors: Float[Array, "B N E"] | None = None
    """The vector of each slot, from an `embedding` head; None from any other."""
    records: dict[str, tuple[Array, ...]] = field(default_factory=dict)
    """As in `EncoderOutput`."""


@dataclass(frozen=True)
class Span:
    """A labelled piece of a text: `text[start:end]`, in characters."""

    start: int
    end: int
    label: str
    score: float = 1.0
    """Probability the model gives the label; 1 for a span that a person wrote."""
