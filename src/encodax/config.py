"""Frozen configurations of models: everything about a model except its weights.

Single blocks (`LayerNorm`, `MultiHeadAttention`, `FeedForward`) take plain arguments; stacks of
blocks take these. Each file of `encodax.families` converts a published configuration to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from encodax.errors import EncodaxError

Placement = Literal["post", "pre"]
Positions = Literal["learned", "sinusoidal", "sinusoidal_halves"]
Pooling = Literal["cls", "mean", "max", "weighted_mean", "mean_sqrt_length", "last"]
HeadKind = Literal["sequence", "token", "span", "vocabulary", "embedding"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
Problem = Literal["single_label", "multi_label", "regression"]
Remat = Literal["none", "dots", "full"]


@dataclass(frozen=True)
class NormConfig:
    """Layer normalization (Ba et al. 2016, arXiv:1607.06450) or root mean square normalization."""

    eps: float = 1e-12
    """Number added to the variance before the root. BERT uses 1e-12, RoBERTa 1e-5."""
    bias: bool = True
    """Whether there is a bias, the shift beta; ModernBERT has none."""
    centred: bool = True
    """Whether the mean is subtracted first; T5 does not (RMSNorm: Zhang & Sennrich 2019,
    arXiv:1910.07467, section 3)."""


@dataclass(frozen=True)
class TokenDropoutConfig:
    """Token dropout of ESM (Lin et al. 2023, Science 379, supplement A): masks embed to zero.

    The other embeddings are scaled by (1 - training_share) / (1 - share of masks in the sequence).
    """

    mask_id: int
    """Token id of `<mask>`."""
    training_share: float = 0.12
    """Share of tokens that were `<mask>` in pretraining: 0.15 chosen, 0.8 of those masked."""


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Embeddings of tokens (Vaswani et al. 2017, sections 3.4 and 3.5; BERT, section 3)."""

    vocabulary_size: int
    """V, the number of token ids."""
    width: int
    """Width of the tables: D, unless `projected_width` is given."""
    positions: Positions | None = "learned"
    """Kind of position embedding. `sinusoidal` is the fixed table of section 3.5, where sines and
    cosines alternate; `sinusoidal_halves` is that table with all sines first (Marian); `learned` is
    a trained table (BERT); None adds none: positions enter in attention only."""
    max_positions: int | None = 512
    """Length of the longest sequence in tokens; None for no limit (sinusoidal)."""
    position_offset: int = 0
    """Row of the learned table that position 0 takes. In RoBERTa it is the one after the padding
    id."""
    uncounted_id: int | None = None
    """Token id that is not counted as a position where it occurs in a text; it takes the row before
    the first position: RoBERTa's padding. None where every token counts."""
    type_vocabulary_size: int = 0
    """Number of token types that are embedded: BERT has 2, for the texts of a pair; 0 for none.
    With 1 (RoBERTa), every token has that one type."""
    projected_width: int | None = None
    """D, where a linear layer projects the embeddings to it (ALBERT, Lan et al. 2020, section
    3.1)."""
    mask_dropout: TokenDropoutConfig | None = None
    """ESM's token dropout; None for none."""
    scale_by_sqrt_width: bool = False
    """Whether token embeddings are multiplied by sqrt(D) (Vaswani et al. 2017, section 3.4)."""
    norm: NormConfig | None = None
    """Layer norm of the summed embeddings; None for none."""
    dropout_rate: float = 0.0
    """Share of features dropped in training."""

    @property
    def model_width(self) -> int:
        """D, the width of the embeddings that leave this block."""
        return self.projected_width or self.width


@dataclass(frozen=True)
class RotaryConfig:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864, section 3.4.2)."""

    base: float = 10_000.0
    """Base of the angles: pair i of a head's features is rotated by position * base^(-2i/K)
    radians."""


@dataclass(frozen=True)
class RelativeBiasConfig:
    """Learned bias for each bucket of relative distances, shared by all layers (T5; MPNet).

    Raffel et al. 2020, arXiv:1910.10683, section 2.1.
    """

    buckets: int = 32
    """Number of buckets, half for each direction: near distances have one each, far ones share
    buckets on a logarithmic scale."""
    max_distance: int = 128
    """Distance from which all distances share the last bucket."""
    one_way: bool = False
    """Whether all buckets are for keys before the query, as in a decoder."""


@dataclass(frozen=True)
class DisentangledConfig:
    """Disentangled attention (He et al. 2021, arXiv:2006.03654, section 3.1): content to position.

    Terms from a table of relative positions, which all layers share, are added to the scores.
    """

    span: int
    """k: distances are clipped to -k .. k - 1; the table has 2k rows."""
    buckets: int | None = None
    """Buckets for each direction, where distances are bucketed by log; None for no buckets."""
    max_distance: int = 512
    """Distance that takes the last bucket."""
    content_to_position: bool = True
    position_to_content: bool = True
    shared_projections: bool = True
    """Whether positions are projected by the query and key weights of the content (v3)."""
    norm: NormConfig | None = None
    """Layer norm of the table (v3)."""


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head attention (Vaswani et al. 2017, section 3.2)."""

    heads: int
    """H, the number of heads."""
    head_width: int
    """K, the width of one head. H * K is usually D."""
    biases: bool = True
    """Whether the query, key and value projections have biases."""
    output_bias: bool = True
    """Whether the output projection has a bias."""
    scale: float | None = None
    """Factor of the scores; None for 1 / sqrt(K)."""
    window: int | None = None
    """Largest distance in tokens between a query and a key it attends to; None for no limit."""
    rotary: RotaryConfig | None = None
    """Rotary positions of queries and keys; None for none."""
    dropout_rate: float = 0.0
    """Share of attention weights dropped in training."""


@dataclass(frozen=True)
class FeedForwardConfig:
    """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

    width: int
    """F, the width of the inner layer."""
    activation: str = "gelu_erf"
    """Name in `encodax.nn.functional.ACTIVATIONS`."""
    gated: bool = False
    """Whether a second projection multiplies the activated one (Shazeer 2020)."""
    biases: bool = True
    dropout_rate: float = 0.0
    """Share of inner features dropped in training. The paper and BERT drop none here."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer: attention and feed-forward, each with a residual connection and a norm."""

    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    norm: NormConfig = NormConfig()
    placement: Placement = "post"
    """Place of the norm. `post`: LN(x + f(x)) as in the paper and BERT. `pre`: x + f(LN(x)) (Xiong
    et al. 2020)."""
    has_attention_norm: bool = True
    """Whether attention has a norm; ModernBERT's first layer has none: its input has just been
    normalized."""
    dropout_rate: float = 0.0
    """Share of a sublayer's output features dropped in training, before the residual is added."""
    dropout_on: Literal["both", "attention", "feed_forward"] = "both"
    """Sublayers whose output `dropout_rate` applies to."""


@dataclass(frozen=True)
class ExecutionConfig:
    """Execution of a stack: changes time and memory, and results by no more than rounding."""

    scan: bool = False
    """Whether one layer is compiled and looped over the parameters of all; the layers must have the
    same configuration. Compiles faster and runs slower."""
    remat: Remat = "none"
    """Part of a layer that the backward pass computes again, to keep less memory: nothing (`none`);
    all but its matrix products (`dots`); all (`full`; Chen et al. 2016, arXiv:1604.06174)."""


UNROLLED = ExecutionConfig()
"""Execution of one layer after another, keeping all that the backward pass needs."""


@dataclass(frozen=True)
class EncoderConfig:
    """Encoder: embeddings and a stack of layers."""

    embeddings: EmbeddingsConfig
    layers: tuple[LayerConfig, ...]
    final_norm: NormConfig | None = None
    """Layer norm after the last layer: for pre-norm stacks."""
    parameter_groups: tuple[int, ...] | None = None
    """Index of the parameters that each layer uses: ALBERT's layers share theirs (Lan et al. 2020,
    section 3.1). None where each layer has its own."""
    relative_positions: RelativeBiasConfig | DisentangledConfig | None = None
    """Relative positions that enter every layer's scores."""


@dataclass(frozen=True)
class DecoderConfig:
    """Decoder: embeddings and a stack of decoder layers.

    A layer has two attentions configured by `attention`: self-attention and cross-attention.
    """

    embeddings: EmbeddingsConfig
    layers: tuple[LayerConfig, ...]
    final_norm: NormConfig | None = None
    """Layer norm after the last layer: for pre-norm stacks."""
    relative_positions: RelativeBiasConfig | None = None
    """Relative positions that enter the scores of every layer's self-attention."""


@dataclass(frozen=True)
class TransformerConfig:
    """Encoder-decoder Transformer (Vaswani et al. 2017, section 3.1)."""

    encoder: EncoderConfig
    decoder: DecoderConfig
    shared_embeddings: bool = True
    """Whether source and target share one table of token embeddings (section 3.4)."""
    tied_output: bool = True
    """Whether the output weights are the target's token embeddings (Press & Wolf 2017,
    arXiv:1608.05859, section 2)."""
    output_bias: bool = False
    output_scale: float = 1.0
    """Factor of the decoder's states before the output: D^-1/2 in T5, whose embeddings are not
    scaled."""


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Sequence-to-sequence model: the Transformer and the special tokens of its sequences."""

    transformer: TransformerConfig
    decoder_start_id: int
    """Token id that is the decoder's first input; it is not part of the target."""
    eos_id: int
    """Token id that ends a target."""
    pad_id: int
    suppressed_ids: tuple[int, ...] = ()
    """Token ids that are never generated, such as that of padding."""
    forced_bos_id: int | None = None
    """Token id that every generated target begins with (BART); None where there is none."""
    family: str | None = None
    """Published `model_type` that the model was read from; None for one made with Encodax."""
    max_length: int | None = None
    """Length of the longest source or target in tokens, where it is shorter than the positions
    allow."""


@dataclass(frozen=True)
class DenseConfig:
    """Dense layer with its activation."""

    width: int
    bias: bool = True
    activation: str = "tanh"
    """Name in `encodax.nn.functional.ACTIVATIONS`."""


@dataclass(frozen=True)
class HeadConfig:
    """Head: the layers after the encoder. They differ by family.

    pool -> dropout -> dense -> activation -> norm -> dropout -> output; each step is optional.
    """

    kind: HeadKind
    """Output of the head: scores for each sequence (`sequence`), for each token (`token`), for each
    token as start and end of a span (`span`), for each vocabulary entry at each token
    (`vocabulary`); or one vector for each sequence (`embedding`)."""
    classes: int = 0
    """C, the number of scores; 0 for an `embedding` head, which has no output layer."""
    pooling: Pooling | tuple[Pooling, ...] | None = None
    """Pooling of a sequence's tokens to one vector, or several poolings whose vectors are
    concatenated; None for heads on tokens."""
    skipped_tokens: int = 0
    """Number of leading tokens of each sequence that pooling leaves out: those of a prompt."""
    input_dropout_rate: float = 0.0
    """Share of features dropped in training before the dense layer (RoBERTa)."""
    dense_width: int | None = None
    """Width of a dense layer before the output (BERT's pooler has one, of D); None for none."""
    dense_bias: bool = True
    activation: str = "tanh"
    """Activation after the dense layer."""
    further_dense: tuple[DenseConfig, ...] = ()
    """Dense layers after the first (sentence-transformers)."""
    norm: NormConfig | None = None
    """Layer norm after the activation; None for none."""
    dropout_rate: float = 0.0
    """Share of features dropped in training before the output."""
    tied: bool = False
    """Whether the output weights are the token embeddings (Press & Wolf 2017, section 2)."""
    output_bias: bool = True
    normalize: bool = False
    """Whether vectors are scaled to length 1."""
    problem: Problem = "single_label"
    """Meaning of a `sequence` head's scores: exactly one class is right (`single_label`), any
    number may be (`multi_label`), or they are quantities (`regression`)."""


@dataclass(frozen=True)
class InferenceConfig:
    """Settings for use of a model, apart from its weights (the sentence-transformers modules)."""

    prompts: tuple[tuple[str, str], ...] = ()
    """Prompts as (name, text put before the input)."""
    default_prompt: str | None = None
    """Name of the prompt that is used when none is chosen."""
    similarity: Similarity = "cosine"
    """Measure that compares two vectors."""
    truncate_dim: int | None = None
    """Number of leading components of a vector that are kept; None for all."""
    do_lower_case: bool = False
    """Whether texts are lowercased before the tokenizer, whatever the tokenizer itself does."""
    include_prompt: bool = True
    """Whether the tokens of a prompt enter the pooling."""
    activation: str | None = None
    """Activation of a cross-encoder's scores, a name in
    `encodax.nn.functional.SCORE_ACTIVATIONS`; None where no file gives one."""
    head_dropped: bool = False
    """Whether the published model has a head that scores texts or pairs, dropped on loading."""

    @property
    def default_text(self) -> str:
        """Text put before the input where no prompt is chosen."""
        return dict(self.prompts).get(self.default_prompt or "", "")

    def prompt(self, name: str | None) -> str:
        """Return the text of a prompt by its name; the default prompt for None.

        Raises:
            EncodaxError: the model has no prompt of that name.
        """
        prompts = dict(self.prompts)
        if name is not None and name not in prompts:
            known = ", ".join(prompts) or "none"
            raise EncodaxError(f"the model has no prompt {name!r}; it has: {known}")
        return self.default_text if name is None else prompts[name]


@dataclass(frozen=True)
class ModelConfig:
    """Whole model: encoder, head, and labels."""

    encoder: EncoderConfig
    head: HeadConfig | None = None
    labels: tuple[str, ...] = ()
    """Names of the head's classes, in order."""
    pad_id: int = 0
    """Token id of padding in published configurations."""
    family: str | None = None
    """Published `model_type` that the model was read from; None for one made with Encodax."""
    max_length: int | None = None
    """Length of the longest sequence in tokens, where it is shorter than the positions allow."""
    usage: InferenceConfig = InferenceConfig()
