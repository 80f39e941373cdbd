"""Frozen specs of the stacks: what a model is, apart from its weights.

Leaves (`LayerNorm`, `MultiHeadAttention`, `FeedForward`) take plain arguments; stacks take these.
A family file maps a published configuration to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Placement = Literal["post", "pre"]
Positions = Literal["learned", "sinusoidal"]


@dataclass(frozen=True)
class NormConfig:
    """Layer normalization (Ba et al. 2016, arXiv:1607.06450)."""

    eps: float = 1e-12
    """Added to the variance before the root. BERT uses 1e-12, RoBERTa 1e-5."""


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Tokens to vectors (Vaswani et al. 2017, section 3.4 and 3.5; BERT, section 3)."""

    vocabulary_size: int
    """V, number of token ids."""
    width: int
    """D, model width."""
    positions: Positions = "learned"
    """`sinusoidal` is the fixed table of section 3.5, `learned` a trained one (BERT)."""
    max_positions: int | None = 512
    """Rows of the learned position table: the longest sequence. None: no limit (sinusoidal)."""
    type_vocabulary_size: int = 0
    """Kinds of token type that are embedded: BERT has 2, for the texts of a pair; 0 for none."""
    scale_by_sqrt_width: bool = False
    """Multiply token embeddings by sqrt(D) (Vaswani et al. 2017, section 3.4)."""
    norm: NormConfig | None = None
    """Layer norm over the sum; None for none."""
    dropout_rate: float = 0.0
    """Share of features dropped in training."""


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head attention (Vaswani et al. 2017, section 3.2)."""

    heads: int
    """H, number of heads."""
    head_width: int
    """K, width of one head. H * K is usually D."""
    biases: bool = True
    """Whether the query, key and value projections have biases."""
    output_bias: bool = True
    """Whether the projection back has one."""
    scale: float | None = None
    """Factor of the scores; None for 1 / sqrt(K)."""
    window: int | None = None
    """Farthest distance in tokens at which one attends to another; None for no limit."""
    dropout_rate: float = 0.0
    """Share of attention weights dropped in training."""


@dataclass(frozen=True)
class FeedForwardConfig:
    """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

    width: int
    """F, width of the inner layer."""
    activation: str = "gelu_erf"
    """A name in `encodax.nn.functional.ACTIVATIONS`."""
    dropout_rate: float = 0.0
    """Share of inner features dropped in training. The paper and BERT have none here."""


@dataclass(frozen=True)
class LayerConfig:
    """One encoder layer: attention and feed-forward, each with a residual connection and a norm."""

    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    norm: NormConfig = NormConfig()
    placement: Placement = "post"
    """`post`: LN(x + f(x)) as in the paper and BERT. `pre`: x + f(LN(x)) (Xiong et al. 2020)."""
    dropout_rate: float = 0.0
    """Share of features dropped in training from what each sublayer adds."""


@dataclass(frozen=True)
class EncoderConfig:
    """Embeddings and a stack of layers."""

    embeddings: EmbeddingsConfig
    layers: tuple[LayerConfig, ...]
    final_norm: NormConfig | None = None
    """Layer norm after the last layer: for pre-norm stacks."""


@dataclass(frozen=True)
class HeadConfig:
    """What stands between the encoder and the class scores. It differs by family."""

    kind: Literal["sequence", "token"]
    """Scores for each sequence (pooled), or for each token."""
    classes: int
    """C, number of classes."""
    pooling: Literal["cls", "mean"] | None = None
    """How the tokens of a sequence become one vector; None for token heads."""
    dense: bool = False
    """Whether a dense layer D -> D comes before the classifier (BERT's pooler has one)."""
    activation: str = "tanh"
    """Activation after the dense layer."""
    dropout_rate: float = 0.0
    """Share of features dropped in training before the classifier."""


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: encoder, head, and what its answers are called."""

    encoder: EncoderConfig
    head: HeadConfig | None = None
    labels: tuple[str, ...] = ()
    """Names of the head's classes, in order."""
    pad_id: int = 0
    """Token id that published configurations call padding."""
