"""ALBERT (Lan et al. 2020, arXiv:1909.11942): narrow embeddings; layers share parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert, electra
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table, split

LAYER = "albert.encoder.albert_layer_groups.{}.albert_layers.0."
ENCODER: Table = {
    "encoder/embeddings/token": ("albert.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/position": ("albert.embeddings.position_embeddings", TABLE),
    "encoder/embeddings/type": ("albert.embeddings.token_type_embeddings", TABLE),
    "encoder/embeddings/norm": ("albert.embeddings.LayerNorm", NORM),
    "encoder/embeddings/projection": ("albert.encoder.embedding_hidden_mapping_in", LINEAR),
    "encoder/layer_{}/attention/query": (f"{LAYER}attention.query", LINEAR),
    "encoder/layer_{}/attention/key": (f"{LAYER}attention.key", LINEAR),
    "encoder/layer_{}/attention/value": (f"{LAYER}attention.value", LINEAR),
    "encoder/layer_{}/attention/output": (f"{LAYER}attention.dense", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}attention.LayerNorm", NORM),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}ffn", LINEAR),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}ffn_output", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}full_layer_layer_norm", NORM),
}
DROPOUT = "classifier_dropout_prob", "hidden_dropout_prob"


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder, with shared layers in groups and a projection of the embeddings."""
    groups = published.integer("num_hidden_groups", minimum=1)
    if shape.layers % groups:
        raise EncodaxError(
            f"config.json: num_hidden_layers {shape.layers} is not a multiple of "
            f"num_hidden_groups {groups}"
        )
    each = shape.layers // groups
    return shape.encoder(
        embeddings={**electra.narrow(shape, published), "projected_width": shape.width},
        layer={"dropout_on": "attention"},
        parameter_groups=tuple(layer // each for layer in range(shape.layers)),
    )


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return BERT's head; the dense layer for masked LM has the width of the embeddings."""
    plain = plain_head(kind, classes, shape, published.rate(*DROPOUT))
    if kind == "vocabulary":
        plain = replace(plain, dense_width=published.integer("embedding_size", minimum=1))
    return plain


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of the embeddings' width, the groups, and the head's dropout."""
    groups = config.encoder.parameter_groups
    if groups is None:
        raise EncodaxError("model_type albert needs layers that share parameters")
    head = config.head
    dropped = head is not None and head.kind in ("sequence", "token")
    return {
        "embedding_size": config.encoder.embeddings.width,
        "num_hidden_groups": len(set(groups)),
        **({"classifier_dropout_prob": head.dropout_rate} if head and dropped else {}),
    }


FAMILY = PublishedFamily(
    MODEL_TYPE="albert",
    prefix="albert.",
    classes=bert.classes_of("Albert"),
    other_architectures={"AlbertForPreTraining": "vocabulary"},
    encoder=encoder,
    head=head,
    options=options,
    tables={
        "encoder": ENCODER,
        "sequence": {"head/dense": ("albert.pooler", LINEAR), **bert.CLASSIFIER},
        "token": bert.CLASSIFIER,
        "span": bert.SPAN,
        "vocabulary": {
            "head/dense": ("predictions.dense", LINEAR),
            "head/norm": ("predictions.LayerNorm", NORM),
            "head/output": ("predictions.decoder", split(LINEAR, "predictions.bias")),
        },
    },
    defaults={
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
        "embedding_size": 128,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "num_hidden_groups": 1,
        "pad_token_id": 0,
        "type_vocab_size": 2,
    },
    ignored_keys=dict.fromkeys(
        ("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"),
        "it belongs to the code that ALBERT was first published with, not to its encoder",
    ),
    fixed={"inner_group_num": 1, "position_embedding_type": "absolute"},
    ignored_tensors=(
        r"albert\.embeddings\.position_ids",
        r"albert\.pooler\.(weight|bias)",
        r"sop_classifier\.classifier\.(weight|bias)",
    ),
    tensor_aliases={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
)
