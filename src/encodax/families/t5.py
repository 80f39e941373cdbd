"""T5: pre-norm with RMSNorm, a relative bias in place of positions, and scores without scaling.

Raffel et al. 2020, arXiv:1910.10683, section 2.1. Version 1.1 has a gated feed-forward network and
an untied output (Shazeer 2020, arXiv:2002.05202).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from encodax.config import (
    AttentionConfig,
    DecoderConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    RelativeBiasConfig,
    TransformerConfig,
)
from encodax.errors import EncodaxError
from encodax.families.config_reader import ACTIVATIONS, ConfigReader
from encodax.families.seq2seq import Seq2SeqFamily, stack_under
from encodax.families.tensors import LINEAR, TABLE, Leaves, Table, Tensor

SCALE: Leaves = {"alpha": Tensor("weight")}
"""Leaves of a norm without a shift."""
FEED_FORWARDS = {
    "relu": ("relu", False),
    "gated-gelu": ("gelu_tanh", True),
    "gated-silu": ("silu", True),
}
"""`feed_forward_proj` -> (activation, whether it is gated)."""


def attention_under(ours: str, layer: int, theirs: str) -> dict[str, tuple[str, Leaves]]:
    """Return the names in the file of one attention of a layer, and of its norm."""
    parts = {"query": "q", "key": "k", "value": "v", "output": "o"}
    return {
        **{f"{ours}/{own}": (f"layer.{layer}.{theirs}.{n}", LINEAR) for own, n in parts.items()},
        f"{ours}_norm": (f"layer.{layer}.layer_norm", SCALE),
    }


def feed_forward_under(layer: int, *, gated: bool) -> dict[str, tuple[str, Leaves]]:
    """Return the names in the file of a layer's feed-forward network, and of its norm."""
    parts = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
    parts["down"] = "wo"
    place = f"layer.{layer}.DenseReluDense"
    return {
        **{f"feed_forward/{ours}": (f"{place}.{name}", LINEAR) for ours, name in parts.items()},
        "feed_forward_norm": (f"layer.{layer}.layer_norm", SCALE),
    }


def stacks_under(*, gated: bool) -> Table:
    """Return the names in the file of both stacks."""
    encoder = {
        **attention_under("attention", 0, "SelfAttention"),
        **feed_forward_under(1, gated=gated),
    }
    decoder = {
        **attention_under("attention", 0, "SelfAttention"),
        **attention_under("cross_attention", 1, "EncDecAttention"),
        **feed_forward_under(2, gated=gated),
    }
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias"
    ends = {
        f"{side}/{ours}": (f"{side}.{theirs}", leaves)
        for side in ("encoder", "decoder")
        for ours, theirs, leaves in (
            ("relative_bias", bias, TABLE),
            ("final_norm", "final_layer_norm", SCALE),
        )
    }
    return {
        "encoder/embeddings/token": ("shared", TABLE),
        **stack_under("encoder", "encoder.block.{}", encoder),
        **stack_under("decoder", "decoder.block.{}", decoder),
        **ends,
        "output": ("lm_head", LINEAR),
    }


def transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration to that of the stacks."""
    width, rate = published.integer("d_model", minimum=1), published.rate("dropout_rate")
    norm = NormConfig(published.number("layer_norm_epsilon"), bias=False, centred=False)
    activation, gated = feed_forward(published)
    layer = LayerConfig(
        AttentionConfig(
            published.integer("num_heads", minimum=1),
            published.integer("d_kv", minimum=1),
            biases=False,
            output_bias=False,
            scale=1.0,
            dropout_rate=rate,
        ),
        FeedForwardConfig(
            published.integer("d_ff", minimum=1),
            activation,
            gated=gated,
            biases=False,
            dropout_rate=rate,
        ),
        norm,
        "pre",
        dropout_rate=rate,
    )
    embeddings = EmbeddingsConfig(
        published.integer("vocab_size", minimum=1),
        width,
        positions=None,
        max_positions=None,
        dropout_rate=rate,
    )
    layers = published.integer("num_layers", minimum=1, maximum=1_000)
    key = "num_layers" if published["num_decoder_layers"] is None else "num_decoder_layers"
    of_decoder = published.integer(key, minimum=1, maximum=1_000)
    # Files of version 1.1 state that the output is not tied, and so mean the missing scale, too.
    is_tied = published.flag("tie_word_embeddings")
    key = "scale_decoder_outputs"
    is_scaled = is_tied if published[key] is None else published.flag(key)
    return TransformerConfig(
        EncoderConfig(embeddings, (layer,) * layers, norm, relative_positions=distances(published)),
        DecoderConfig(
            embeddings,
            (layer,) * of_decoder,
            norm,
            relative_positions=distances(published, one_way=True),
        ),
        tied_output=is_tied,
        output_scale=1 / math.sqrt(width) if is_scaled else 1.0,
    )


def feed_forward(published: ConfigReader) -> tuple[str, bool]:
    """Return the activation of the feed-forward network, and whether it is gated.

    Raises:
        EncodaxError: it is not supported, or contradicted by the two keys that newer files have
            for it, which transformers reads.
    """
    named: tuple[str, bool] = published.one_of("feed_forward_proj", FEED_FORWARDS)
    activation, gated = named
    for key, wanted in (("dense_act_fn", activation), ("is_gated_act", gated)):
        if key in published and ACTIVATIONS.get(published[key], published[key]) != wanted:
            raise EncodaxError(
                f"config.json: {key} = {published[key]!r} contradicts feed_forward_proj "
                f"{published['feed_forward_proj']!r}"
            )
    return activation, gated


def distances(published: ConfigReader, *, one_way: bool = False) -> RelativeBiasConfig:
    """Return the relative bias of a stack."""
    buckets = published.integer("relative_attention_num_buckets", minimum=4)
    # Beyond half of the buckets, distances share them by log: the last must be farther.
    farthest = published.integer("relative_attention_max_distance", minimum=buckets // 2 + 1)
    return RelativeBiasConfig(buckets, farthest, one_way)


def keys(config: TransformerConfig) -> dict[str, Any]:
    """Convert a configuration of the stacks to published keys."""
    encoder, layer = config.encoder, config.encoder.layers[0]
    feed_forward = layer.feed_forward.activation, layer.feed_forward.gated
    names = {ours: theirs for theirs, ours in FEED_FORWARDS.items()}
    relative = encoder.relative_positions
    relative = relative if isinstance(relative, RelativeBiasConfig) else RelativeBiasConfig()
    return {
        "vocab_size": encoder.embeddings.vocabulary_size,
        "d_model": encoder.embeddings.width,
        "d_kv": layer.attention.head_width,
        "d_ff": layer.feed_forward.width,
        "num_layers": len(encoder.layers),
        "num_decoder_layers": len(config.decoder.layers),
        "num_heads": layer.attention.heads,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.max_distance,
        "dropout_rate": layer.dropout_rate,
        "layer_norm_epsilon": layer.norm.eps,
        "feed_forward_proj": names.get(feed_forward),
        "tie_word_embeddings": config.tied_output,
        "scale_decoder_outputs": config.output_scale != 1,
    }


PLAIN, GATED = stacks_under(gated=False), stacks_under(gated=True)

FAMILY = Seq2SeqFamily(
    MODEL_TYPE="t5",
    architecture="T5ForConditionalGeneration",
    other_architectures=("T5WithLMHeadModel",),
    transformer=transformer,
    published=keys,
    table=lambda config: GATED if config.encoder.layers[0].feed_forward.gated else PLAIN,
    defaults={
        "num_decoder_layers": None,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
        "scale_decoder_outputs": None,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    },
    aliases={
        "head_dim": "d_kv",
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
    },
    tensor_aliases={
        name: "shared.weight"
        for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    },
    untied_output=("lm_head.weight", "shared.weight"),
    ignored_tensors=(
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    ),
)


def mt5_transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration: version 1.1, whose scores are never scaled."""
    return replace(transformer(published), output_scale=1.0)


MT5 = replace(
    FAMILY,
    MODEL_TYPE="mt5",
    architecture="MT5ForConditionalGeneration",
    other_architectures=(),
    transformer=mt5_transformer,
    defaults={**FAMILY.defaults, "feed_forward_proj": "gated-gelu"},
)
"""mT5 (Xue et al. 2021, arXiv:2010.11934)."""
