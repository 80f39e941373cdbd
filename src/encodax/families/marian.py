"""Marian (OPUS-MT): the Transformer of Vaswani et al. 2017, with all sines before the cosines.

Junczys-Dowmunt et al. 2018, arXiv:1804.00344; the published models are of Tiedemann & Thottingal
2020, "OPUS-MT: building open translation services for the world". Models that `encodax train
translation` trains from scratch are of this family.
"""

from __future__ import annotations

from typing import Any

from encodax.config import (
    AttentionConfig,
    DecoderConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    TransformerConfig,
)
from encodax.errors import EncodaxError
from encodax.families.config_reader import ACTIVATIONS, ConfigReader, published_name
from encodax.families.seq2seq import Seq2SeqFamily, stack_under
from encodax.families.tensors import LINEAR, NORM, TABLE, Leaves, Table, Tensor

NORM_EPS = 1e-5
"""Default epsilon of PyTorch's layer norm, which Marian uses."""


def attention_under(ours: str, theirs: str) -> dict[str, tuple[str, Leaves]]:
    """Return the names in the file of one attention of a layer, and of its norm."""
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    modules = {f"{ours}/{own}": (f"{theirs}.{name}", LINEAR) for own, name in parts.items()}
    return {**modules, f"{ours}_norm": (f"{theirs}_layer_norm", NORM)}


OF_ENCODER: dict[str, tuple[str, Leaves]] = {
    **attention_under("attention", "self_attn"),
    "feed_forward/up": ("fc1", LINEAR),
    "feed_forward/down": ("fc2", LINEAR),
    "feed_forward_norm": ("final_layer_norm", NORM),
}
OF_DECODER = {**OF_ENCODER, **attention_under("cross_attention", "encoder_attn")}
STACKS: Table = {
    "encoder/embeddings/token": ("model.shared", TABLE),
    **stack_under("encoder", "model.encoder.layers.{}", OF_ENCODER),
    **stack_under("decoder", "model.decoder.layers.{}", OF_DECODER),
    "output": ("", {"b": Tensor("=final_logits_bias", "row")}),
}
"""Names in the file of the layers, the shared token table and the output bias, in Marian and
BART."""
FINAL_NORMS: Table = {
    f"{side}/final_norm": (f"model.{side}.layer_norm", NORM) for side in ("encoder", "decoder")
}
"""Names in the file of the norms after the last layers, in pre-norm models."""
COPIES = {
    name: "model.shared.weight"
    for name in (
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    )
}
DEFAULTS: dict[str, Any] = {
    "activation_function": "gelu",
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "dropout": 0.1,
    "max_position_embeddings": 1024,
    "scale_embedding": False,
}
IDS = {"pad_token_id": 58100, "eos_token_id": 0, "decoder_start_token_id": 58100}
REFUSED: dict[str, Any] = {
    "normalize_before": True,
    "add_final_layer_norm": True,
    "add_bias_logits": True,
}
"""Options of the earliest such models that the published classes no longer have."""
REFUSED_OF_PRE_NORM: dict[str, Any] = {
    "normalize_before": False,
    "add_final_layer_norm": False,
    "add_bias_logits": True,
}
"""Values of the same options that pre-norm models refuse."""
ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
}
FIXED: dict[str, Any] = {
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "tie_word_embeddings": True,
}


def stacks(
    published: ConfigReader,
    embeddings: dict[str, Any],
    *,
    output_bias: bool = True,
    pre_norm: bool = False,
) -> TransformerConfig:
    """Convert a published configuration of Marian, BART and similar models.

    Args:
        published: the configuration.
        embeddings: fields of `EmbeddingsConfig` other than the vocabulary, the width, the scale
            and the dropout.
        output_bias: whether the output has a bias.
        pre_norm: whether there are norms before each sublayer and after the last layer.
    """
    width, rate = published.integer("d_model", minimum=1), published.rate("dropout")

    def layer(side: str) -> LayerConfig:
        heads = published.integer(f"{side}_attention_heads", minimum=1)
        if width % heads:
            raise EncodaxError(
                f"config.json: d_model {width} is not a multiple of {side}_attention_heads {heads}"
            )
        return LayerConfig(
            AttentionConfig(
                heads, width // heads, dropout_rate=published.rate("attention_dropout")
            ),
            FeedForwardConfig(
                published.integer(f"{side}_ffn_dim", minimum=1),
                published.one_of("activation_function", ACTIVATIONS),
                dropout_rate=published.rate("activation_dropout"),
            ),
            NormConfig(NORM_EPS),
            "pre" if pre_norm else "post",
            dropout_rate=rate,
        )

    final_norm = NormConfig(NORM_EPS) if pre_norm else None
    tokens = EmbeddingsConfig(
        published.integer("vocab_size", minimum=1),
        width,
        scale_by_sqrt_width=published.flag("scale_embedding"),
        dropout_rate=rate,
        **embeddings,
    )

    def layers(side: str) -> tuple[LayerConfig, ...]:
        return (layer(side),) * published.integer(f"{side}_layers", minimum=1, maximum=1_000)

    return TransformerConfig(
        EncoderConfig(tokens, layers("encoder"), final_norm),
        DecoderConfig(tokens, layers("decoder"), final_norm),
        output_bias=output_bias,
    )


def keys(config: TransformerConfig) -> dict[str, Any]:
    """Convert a configuration of the stacks to published keys."""
    embeddings = config.encoder.embeddings
    first = config.encoder.layers[0]
    published: dict[str, Any] = {
        "vocab_size": embeddings.vocabulary_size,
        "d_model": embeddings.width,
        "max_position_embeddings": embeddings.max_positions,
        "scale_embedding": embeddings.scale_by_sqrt_width,
        "dropout": embeddings.dropout_rate,
        "attention_dropout": first.attention.dropout_rate,
        "activation_dropout": first.feed_forward.dropout_rate,
        "activation_function": published_name(first.feed_forward.activation),
    }
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        layer = stack.layers[0]
        published |= {
            f"{side}_layers": len(stack.layers),
            f"{side}_attention_heads": layer.attention.heads,
            f"{side}_ffn_dim": layer.feed_forward.width,
        }
    return published


def transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration to that of the stacks."""
    positions = published.integer("max_position_embeddings", minimum=1)
    return stacks(published, {"positions": "sinusoidal_halves", "max_positions": positions})


FAMILY = Seq2SeqFamily(
    MODEL_TYPE="marian",
    architecture="MarianMTModel",
    transformer=transformer,
    published=keys,
    table=lambda config: STACKS,
    defaults={**DEFAULTS, **IDS},
    refused={**REFUSED, "static_position_embeddings": False, "normalize_embedding": True},
    aliases=ALIASES,
    fixed={**FIXED, "share_encoder_decoder_embeddings": True},
    tensor_aliases=COPIES,
    ignored_tensors=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
    suppressed_ids_by_pad=lambda pad_id: (pad_id,),
)
