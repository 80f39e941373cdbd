"""DeBERTa v2 and v3 (He et al. 2021, arXiv:2006.03654; He et al. 2023, arXiv:2111.09543).

BERT with disentangled attention, in which positions are relative and have separate vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import DisentangledConfig, EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert, ignored_keys
from encodax.families.config_reader import ACTIVATIONS, ConfigReader, published_name
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table

SELF = "deberta.encoder.layer.{}.attention.self."
ENCODER: Table = {
    **bert.encoder_under("deberta."),
    "encoder/layer_{}/attention/query": (f"{SELF}query_proj", LINEAR),
    "encoder/layer_{}/attention/key": (f"{SELF}key_proj", LINEAR),
    "encoder/layer_{}/attention/value": (f"{SELF}value_proj", LINEAR),
    "encoder/layer_{}/attention/position_query": (f"{SELF}pos_query_proj", LINEAR),
    "encoder/layer_{}/attention/position_key": (f"{SELF}pos_key_proj", LINEAR),
    "encoder/relative_embeddings": ("deberta.encoder.rel_embeddings", TABLE),
    "encoder/relative_embeddings/norm": ("deberta.encoder.LayerNorm", NORM),
}
TERMS = ("c2p", "p2c")
DROPOUT = "cls_dropout", "hidden_dropout_prob"


def _terms(published: ConfigReader) -> set[str]:
    named = published["pos_att_type"] or []
    terms = [term.strip() for term in named.lower().split("|")] if isinstance(named, str) else named
    if not isinstance(terms, list) or not all(term in TERMS for term in terms):
        raise EncodaxError(f"config.json: pos_att_type {named!r} is not supported")
    return set(terms)


def _relative(shape: BaseSpec, published: ConfigReader) -> DisentangledConfig | None:
    if not published.flag("relative_attention"):
        return None
    stated = published.integer("max_relative_positions", minimum=-1)
    farthest = shape.max_positions if stated < 1 else stated
    buckets = published.integer("position_buckets", minimum=-1)
    norms = {"none": None, "layer_norm": shape.norm}
    terms = _terms(published)
    return DisentangledConfig(
        span=buckets if buckets > 0 else farthest,
        buckets=buckets if buckets > 0 else None,
        max_distance=farthest,
        content_to_position="c2p" in terms,
        position_to_content="p2c" in terms,
        shared_projections=published.flag("share_att_key"),
        norm=published.one_of("norm_rel_ebd", norms),
    )


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder; without absolute positions where the configuration says so."""
    if published.integer("conv_kernel_size"):
        raise EncodaxError("config.json: the convolution (conv_kernel_size) is not supported")
    if published["embedding_size"] not in (None, shape.width):
        raise EncodaxError("config.json: an embedding_size other than hidden_size is not supported")
    if published["attention_head_size"] not in (None, shape.width // shape.heads):
        raise EncodaxError(
            f"config.json: attention_head_size = {published['attention_head_size']!r} is not "
            "supported: heads are hidden_size / num_attention_heads wide"
        )
    positions = "learned" if published.flag("position_biased_input") else None
    return shape.encoder(
        embeddings={"positions": positions}, relative_positions=_relative(shape, published)
    )


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return BERT's head, with GELU and a dropout before it for sequences."""
    rate = DROPOUT if kind == "sequence" else ("hidden_dropout_prob",)
    plain = plain_head(kind, classes, shape, published.rate(*rate))
    if kind == "sequence":
        if published.get("pooler_hidden_size") not in (None, shape.width):
            raise EncodaxError(
                f"config.json: pooler_hidden_size = {published['pooler_hidden_size']!r} is not "
                f"supported: the pooler takes states of {shape.width}"
            )
        return replace(
            plain,
            activation=published.one_of("pooler_hidden_act", ACTIVATIONS),
            input_dropout_rate=published.rate("pooler_dropout"),
        )
    return plain


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of relative positions and the head."""
    relative, head = config.encoder.relative_positions, config.head
    published: dict[str, Any] = {
        "position_biased_input": config.encoder.embeddings.positions == "learned",
        "relative_attention": relative is not None,
    }
    if isinstance(relative, DisentangledConfig):
        has = relative.content_to_position, relative.position_to_content
        published |= {
            "pos_att_type": [term for term, there in zip(TERMS, has, strict=True) if there],
            "position_buckets": relative.buckets or -1,
            "max_relative_positions": relative.max_distance,
            "share_att_key": relative.shared_projections,
            "norm_rel_ebd": "layer_norm" if relative.norm else "none",
        }
    if head is not None and head.kind == "sequence":
        published |= {
            "cls_dropout": head.dropout_rate,
            "pooler_dropout": head.input_dropout_rate,
            "pooler_hidden_act": published_name(head.activation),
            "pooler_hidden_size": head.dense_width,
        }
    return published


FAMILY = PublishedFamily(
    MODEL_TYPE="deberta-v2",
    prefix="deberta.",
    classes=bert.classes_of("DebertaV2"),
    encoder=encoder,
    head=head,
    options=options,
    tables={
        "encoder": ENCODER,
        "sequence": {"head/dense": ("pooler.dense", LINEAR), **bert.CLASSIFIER},
        "token": bert.CLASSIFIER,
        "span": bert.SPAN,
        "vocabulary": bert.PREDICTIONS,
    },
    defaults={
        **bert.FAMILY.defaults,
        "attention_head_size": None,
        "cls_dropout": None,
        "conv_kernel_size": 0,
        "embedding_size": None,
        "layer_norm_eps": 1e-7,
        "max_relative_positions": -1,
        "norm_rel_ebd": "none",
        "pooler_dropout": 0.0,
        "pooler_hidden_act": "gelu",
        "pos_att_type": None,
        "position_biased_input": True,
        "position_buckets": -1,
        "relative_attention": False,
        "share_att_key": False,
        "type_vocab_size": 0,
    },
    ignored_keys={
        "conv_act": "there is no convolution",
        "conv_groups": "there is no convolution",
        "legacy": "the tensors' names say which head of the two it is",
        "pooler_hidden_size": ignored_keys.OTHER_HEAD,
    },
    # The authors' name for the masked LM head; transformers chooses between the two by `legacy`.
    renames=(
        (r"^lm_predictions\.lm_head\.(dense|LayerNorm)", r"cls.predictions.transform.\1"),
        (r"^lm_predictions\.lm_head", "cls.predictions"),
    ),
    ignored_tensors=(
        r"deberta\.embeddings\.position_ids",
        r"mask_predictions\..*",
        r"cls\.predictions\.(bias|transform\.(dense|LayerNorm)\.(weight|bias))",
    ),
    tensor_aliases={
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
