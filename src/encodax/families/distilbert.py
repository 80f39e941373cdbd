"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT without token types, under other names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.families import bert, ignored_keys
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import KEYS, BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table

LAYER = "distilbert.transformer.layer.{}."
ENCODER: Table = {
    "encoder/embeddings/token": ("distilbert.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/position": ("distilbert.embeddings.position_embeddings", TABLE),
    "encoder/embeddings/norm": ("distilbert.embeddings.LayerNorm", NORM),
    "encoder/layer_{}/attention/query": (f"{LAYER}attention.q_lin", LINEAR),
    "encoder/layer_{}/attention/key": (f"{LAYER}attention.k_lin", LINEAR),
    "encoder/layer_{}/attention/value": (f"{LAYER}attention.v_lin", LINEAR),
    "encoder/layer_{}/attention/output": (f"{LAYER}attention.out_lin", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}sa_layer_norm", NORM),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}ffn.lin1", LINEAR),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}ffn.lin2", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}output_layer_norm", NORM),
}
DROPOUTS = {"sequence": "seq_classif_dropout", "span": "qa_dropout"}
"""Kind of head -> key of its dropout."""


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder, with dropout only after the feed-forward network.

    Sinusoidal positions are stored as a table too.
    """
    return shape.encoder(layer={"dropout_on": "feed_forward"})


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return BERT's head, with ReLU for sequences, and a dropout for each kind of head."""
    plain = plain_head(kind, classes, shape, published.rate("dropout"))
    if kind in DROPOUTS:
        plain = replace(plain, dropout_rate=published.rate(DROPOUTS[kind]))
    return replace(plain, activation="relu") if kind == "sequence" else plain


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published key of the head's dropout."""
    if config.head is None or config.head.kind not in DROPOUTS:
        return {}
    return {DROPOUTS[config.head.kind]: config.head.dropout_rate}


FAMILY = PublishedFamily(
    MODEL_TYPE="distilbert",
    prefix="distilbert.",
    classes=bert.classes_of("DistilBert"),
    encoder=encoder,
    head=head,
    options=options,
    keys={
        "vocabulary_size": "vocab_size",
        "width": "dim",
        "layers": "n_layers",
        "heads": "n_heads",
        "inner_width": "hidden_dim",
        "activation": "activation",
        "max_positions": "max_position_embeddings",
        "dropout_rate": "dropout",
        "attention_dropout_rate": "attention_dropout",
        "pad_id": KEYS["pad_id"],
    },
    tables={
        "encoder": ENCODER,
        "sequence": {"head/dense": ("pre_classifier", LINEAR), **bert.CLASSIFIER},
        "token": bert.CLASSIFIER,
        "span": bert.SPAN,
        "vocabulary": {
            "head/dense": ("vocab_transform", LINEAR),
            "head/norm": ("vocab_layer_norm", NORM),
            "head/output": ("vocab_projector", LINEAR),
        },
    },
    defaults={
        "activation": "gelu",
        "attention_dropout": 0.1,
        "dropout": 0.1,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
    },
    ignored_keys={
        "sinusoidal_pos_embds": "the table of positions is in the weights, whatever it says",
        "tie_weights_": ignored_keys.UNREAD,
    },
    aliases={
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    },
    ignored_tensors=(r"distilbert\.embeddings\.position_ids",),
    tensor_aliases={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)
