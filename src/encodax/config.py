"""Frozen specs of the stacks: what a model is, apart from its weights.

Leaves (`LayerNorm`, `MultiHeadAttention`, `FeedForward`) take plain arguments; stacks take these.
A family file maps a published configuration to them.
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
    """Layer normalization (Ba et al. 2016, arXiv:1607.06450), or that of the root mean square."""

    eps: float = 1e-12
    """Added to the variance before the root. BERT uses 1e-12, RoBERTa 1e-5."""
    bias: bool = True
    """Whether there is a shift (beta); ModernBERT has none."""
    centred: bool = True
    """Whether the mean is taken away first; T5 does not (RMSNorm: Zhang & Sennrich 2019,
    arXiv:1910.07467, section 3)."""


@dataclass(frozen=True)
class MaskDropoutConfig:
    """Token dropout of ESM (Lin et al. 2023, Science 379, supplement A): masks embed to zero.

    What is left is scaled by (1 - training_share) / (1 - share of masks in the sequence).
    """

    mask_id: int
    """Token id of `<mask>`."""
    training_share: float = 0.12
    """Share of tokens that were `<mask>` in pretraining: 0.15 chosen, of those 0.8 masked."""


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Tokens to vectors (Vaswani et al. 2017, section 3.4 and 3.5; BERT, section 3)."""

    vocabulary_size: int
    """V, number of token ids."""
    width: int
    """Width of the tables: D, unless `projected_width` is given."""
    positions: Positions | None = "learned"
    """`sinusoidal` is the fixed table of section 3.5, where sines and cosines alternate, and
    `sinusoidal_halves` the same with all sines first (Marian); `learned` is a trained one (BERT),
    None where attention alone knows positions."""
    max_positions: int | None = 512
    """The longest sequence in tokens; None for no limit (sinusoidal)."""
    position_offset: int = 0
    """Row of the learned table that position 0 takes. RoBERTa begins after its padding id."""
    uncounted_id: int | None = None
    """Token id that counts as no position where a text holds it, and takes the row before the first
    one: RoBERTa's padding. None where every token counts."""
    type_vocabulary_size: int = 0
    """Kinds of token type that are embedded: BERT has 2, for the texts of a pair; 0 for none.
    Where there is 1 (RoBERTa), every token has it."""
    projected_width: int | None = None
    """D, where a linear layer widens the tables (ALBERT, Lan et al. 2020, section 3.1)."""
    mask_dropout: MaskDropoutConfig | None = None
    """ESM's token dropout; None for none."""
    scale_by_sqrt_width: bool = False
    """Multiply token embeddings by sqrt(D) (Vaswani et al. 2017, section 3.4)."""
    norm: NormConfig | None = None
    """Layer norm over the sum; None for none."""
    dropout_rate: float = 0.0
    """Share of features dropped in training."""

    @property
    def model_width(self) -> int:
        """D, what comes out."""
        return self.projected_width or self.width


@dataclass(frozen=True)
class RotaryConfig:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864, section 3.4.2)."""

    base: float = 10_000.0
    """The pair i of a head's features turns by position * base^(-2i/K) radians."""


@dataclass(frozen=True)
class RelativeBiasConfig:
    """A learned bias for each bucket of distances, shared by all layers (T5; MPNet).

    Raffel et al. 2020, arXiv:1910.10683, section 2.1.
    """

    buckets: int = 32
    """Half for each direction: the nearest distances each have one, the others share by log."""
    max_distance: int = 128
    """Distances from here on share the last bucket."""
    one_way: bool = False
    """Whether all buckets are for keys that come before, as a decoder has it."""


@dataclass(frozen=True)
class DisentangledConfig:
    """Disentangled attention (He et al. 2021, arXiv:2006.03654, section 3.1): content to position.

    The scores gain the terms of a table of relative positions that all layers share.
    """

    span: int
    """k: distances are clipped to -k .. k - 1; the table has 2k rows."""
    buckets: int | None = None
    """Buckets a direction where distances are bucketed by log; None for each its own."""
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
    rotary: RotaryConfig | None = None
    """Rotary positions of queries and keys; None for none."""
    dropout_rate: float = 0.0
    """Share of attention weights dropped in training."""


@dataclass(frozen=True)
class FeedForwardConfig:
    """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

    width: int
    """F, width of the inner layer."""
    activation: str = "gelu_erf"
    """A name in `encodax.nn.functional.ACTIVATIONS`."""
    gated: bool = False
    """Whether a second projection multiplies the activated one (Shazeer 2020)."""
    biases: bool = True
    dropout_rate: float = 0.0
    """Share of inner features dropped in training. The paper and BERT have none here."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer: attention and feed-forward, each with a residual connection and a norm."""

    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    norm: NormConfig = NormConfig()
    placement: Placement = "post"
    """`post`: LN(x + f(x)) as in the paper and BERT. `pre`: x + f(LN(x)) (Xiong et al. 2020)."""
    has_attention_norm: bool = True
    """ModernBERT's first layer has none: what comes in has just been through a norm."""
    dropout_rate: float = 0.0
    """Share of features dropped in training from what a sublayer adds."""
    dropout_on: Literal["both", "attention", "feed_forward"] = "both"
    """Which sublayers' additions are dropped so."""


@dataclass(frozen=True)
class Execution:
    """How a stack is run: it changes time and memory, and no number beyond rounding."""

    scan: bool = False
    """Compile one layer, and loop over the parameters of all: the layers want one spec. Compiles
    faster, and runs slower."""
    remat: Remat = "none"
    """What a layer computes again in the backward pass, to keep less: nothing; all but its matrix
    products (`dots`); or all (`full`; Chen et al. 2016, arXiv:1604.06174)."""


UNROLLED = Execution()
"""Layer after layer, with all that the backward pass wants kept."""


@dataclass(frozen=True)
class EncoderConfig:
    """Embeddings and a stack of layers."""

    embeddings: EmbeddingsConfig
    layers: tuple[LayerConfig, ...]
    final_norm: NormConfig | None = None
    """Layer norm after the last layer: for pre-norm stacks."""
    parameter_groups: tuple[int, ...] | None = None
    """For each layer, which parameters it uses: ALBERT's layers share (Lan et al. 2020, section
    3.1). None for its own each."""
    relative_positions: RelativeBiasConfig | DisentangledConfig | None = None
    """Positions that enter every layer's scores."""


@dataclass(frozen=True)
class DecoderConfig:
    """Embeddings and a stack of decoder layers.

    A layer has two attentions of its spec `attention`: of itself, and of the source.
    """

    embeddings: EmbeddingsConfig
    layers: tuple[LayerConfig, ...]
    final_norm: NormConfig | None = None
    """Layer norm after the last layer: for pre-norm stacks."""
    relative_positions: RelativeBiasConfig | None = None
    """Positions that enter the scores of every layer's attention to itself."""


@dataclass(frozen=True)
class TransformerConfig:
    """The encoder-decoder Transformer (Vaswani et al. 2017, section 3.1)."""

    encoder: EncoderConfig
    decoder: DecoderConfig
    shared_embeddings: bool = True
    """Whether source and target have one table of token embeddings (section 3.4)."""
    tied_output: bool = True
    """Whether the output's weights are the target's token embeddings (Press & Wolf 2017,
    arXiv:1608.05859, section 2)."""
    output_bias: bool = False
    output_scale: float = 1.0
    """Multiplies what the decoder gives before the output: D^-1/2 in T5, whose embeddings are not
    scaled."""


@dataclass(frozen=True)
class Seq2SeqConfig:
    """A sequence-to-sequence model: the Transformer, and where its sequences begin and end."""

    transformer: TransformerConfig
    decoder_start_id: int
    """Token id that the decoder is given first; it is no part of the target."""
    eos_id: int
    """Token id that ends a target."""
    pad_id: int
    suppressed_ids: tuple[int, ...] = ()
    """Token ids that are never generated, such as that of padding."""
    forced_bos_id: int | None = None
    """Token id that every target begins with, where there is one (BART); it is generated so."""
    family: str | None = None
    """The published `model_type` it was read from; None for what was made here."""
    max_length: int | None = None
    """Longest source or target in tokens, where it is shorter than the positions allow."""


@dataclass(frozen=True)
class DenseConfig:
    """A dense layer with its activation."""

    width: int
    bias: bool = True
    activation: str = "tanh"
    """A name in `encodax.nn.functional.ACTIVATIONS`."""


@dataclass(frozen=True)
class HeadConfig:
    """What stands between the encoder and the answer. It differs by family.

    pool -> dropout -> dense -> activation -> norm -> dropout -> output, each where it is there.
    """

    kind: HeadKind
    """Scores for each sequence, each token, each token as start and end of a span, each entry of
    the vocabulary at each token; or one vector for each sequence."""
    classes: int = 0
    """C, number of scores; 0 for an `embedding` head, which has no output layer."""
    pooling: Pooling | tuple[Pooling, ...] | None = None
    """How the tokens of a sequence become one vector, or several, which are joined; None for heads
    on tokens."""
    skipped_tokens: int = 0
    """Leading tokens of each sequence that the pooling leaves out: those of a prompt."""
    input_dropout_rate: float = 0.0
    """Share of features dropped in training before the dense layer (RoBERTa)."""
    dense_width: int | None = None
    """Width of a dense layer before the output (BERT's pooler has one, of D); None for none."""
    dense_bias: bool = True
    activation: str = "tanh"
    """Activation after the dense layer."""
    further_dense: tuple[DenseConfig, ...] = ()
    """Dense layers after that one (sentence-transformers)."""
    norm: NormConfig | None = None
    """Layer norm after the activation; None for none."""
    dropout_rate: float = 0.0
    """Share of features dropped in training before the output."""
    tied: bool = False
    """Whether the output's weights are the token embeddings (Press & Wolf 2017, section 2)."""
    output_bias: bool = True
    normalize: bool = False
    """Whether vectors are scaled to length 1."""
    problem: Problem = "single_label"
    """What the scores of a `sequence` head mean: one class is right, any may be, or a quantity."""


@dataclass(frozen=True)
class Usage:
    """How texts become answers, beside the weights (the sentence-transformers module files)."""

    prompts: tuple[tuple[str, str], ...] = ()
    """(name, text put before the input)."""
    default_prompt: str | None = None
    """Name of the prompt that is used when none is chosen."""
    similarity: Similarity = "cosine"
    """How two vectors are compared."""
    truncate_dim: int | None = None
    """Leading numbers of a vector that are kept; None for all."""
    lowercases: bool = False
    """Whether texts are lowered, whatever the tokenizer does by itself."""
    pools_prompt: bool = True
    """Whether the tokens of a prompt enter the pooling."""
    activation: str | None = None
    """Of a cross-encoder: what its scores go through, a name in
    `encodax.nn.functional.SCORE_ACTIVATIONS`; None where no file says."""
    lost_scores: bool = False
    """Whether the model scores texts or pairs, by a head that was left out when it was loaded."""

    @property
    def default_text(self) -> str:
        """What goes before a text where no prompt is chosen."""
        return dict(self.prompts).get(self.default_prompt or "", "")

    def prompt(self, name: str | None) -> str:
        """The prompt of that name; the default one for None.

        Raises:
            EncodaxError: there is none of that name.
        """
        prompts = dict(self.prompts)
        if name is not None and name not in prompts:
            known = ", ".join(prompts) or "none"
            raise EncodaxError(f"the model has no prompt {name!r}; it has: {known}")
        return self.default_text if name is None else prompts[name]


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: encoder, head, and what its answers are called."""

    encoder: EncoderConfig
    head: HeadConfig | None = None
    labels: tuple[str, ...] = ()
    """Names of the head's classes, in order."""
    pad_id: int = 0
    """Token id that published configurations call padding."""
    family: str | None = None
    """The published `model_type` it was read from; None for what was made here."""
    max_length: int | None = None
    """Longest sequence in tokens, where it is shorter than the positions allow."""
    usage: Usage = Usage()
