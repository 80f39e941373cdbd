"""Published sizes by name, for new models.

BERT: Devlin et al. 2019, arXiv:1810.04805, section 3 (base); Turc et al. 2019, arXiv:1908.08962,
section 4.1 (the smaller ones). A head is 64 wide in all of them. Transformer: Vaswani et al. 2017,
table 3 (base and big).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from encodax.config import (
    AttentionConfig,
    DecoderConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    Placement,
    Positions,
    TransformerConfig,
)

VOCABULARY_SIZE = 30_522
"""V, the vocabulary size of BERT."""


def _preset(layers: int, width: int) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": width // 64,
        "vocabulary_size": VOCABULARY_SIZE,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _preset(2, 128),
    "mini": _preset(4, 256),
    "small": _preset(4, 512),
    "base": _preset(12, 768),
}
"""Fields of `NewModel` for each size."""


@dataclass(frozen=True)
class TransformerSize:
    """Size of an encoder-decoder, and its dropout rates."""

    layers: int
    """Number of layers of the encoder, and of the decoder."""
    width: int
    """D, the width of the hidden states."""
    heads: int
    """H, the number of attention heads; each is D / H wide."""
    feed_forward_width: int
    """F, the inner width of the feed-forward layers."""
    dropout_rate: float
    """Dropout rate of sublayer outputs, and of embeddings (section 5.4)."""
    attention_dropout_rate: float = 0.0
    """Dropout rate of attention weights."""


TRANSFORMERS = {
    "tiny": TransformerSize(4, 128, 4, 256, 0.3),
    "base": TransformerSize(6, 512, 8, 2_048, 0.1, 0.1),
    "big": TransformerSize(6, 1_024, 16, 4_096, 0.3, 0.1),
}
"""Transformer sizes; `tiny` is that of Wu et al. 2021, arXiv:2105.14462, section 4.2, for 30,000
pairs."""


def transformer_config(
    size: TransformerSize,
    vocabulary_size: int,
    *,
    placement: Placement = "post",
    positions: Positions = "sinusoidal",
    max_positions: int | None = None,
    output_bias: bool = False,
) -> TransformerConfig:
    """Return the paper's Transformer in a size, with one vocabulary and one table for both sides.

    With 37,000 entries, `base` has 63,082,496 parameters and `big` 214,245,376. The paper's table 3
    says 65 and 213 million, for "about 37,000" entries: 3 % more than here, and 0.6 % less. No
    single vocabulary size gives both, so part of the difference has another cause.

    Args:
        size: layers and widths.
        vocabulary_size: V.
        placement: placement of the layer norms; `pre` has one more at the end of each stack.
        positions: kind of position encoding.
        max_positions: longest sequence in tokens; None for no limit.
        output_bias: whether the logits have a bias; the paper's have none.
    """
    rate = size.dropout_rate
    norm = NormConfig(1e-5)
    layer = LayerConfig(
        AttentionConfig(
            size.heads, size.width // size.heads, dropout_rate=size.attention_dropout_rate
        ),
        FeedForwardConfig(size.feed_forward_width, "relu"),
        norm,
        placement,
        dropout_rate=rate,
    )
    embeddings = EmbeddingsConfig(
        vocabulary_size,
        size.width,
        positions=positions,
        max_positions=max_positions,
        scale_by_sqrt_width=True,
        dropout_rate=rate,
    )
    final = norm if placement == "pre" else None
    return TransformerConfig(
        EncoderConfig(embeddings, (layer,) * size.layers, final),
        DecoderConfig(embeddings, (layer,) * size.layers, final),
        output_bias=output_bias,
    )
