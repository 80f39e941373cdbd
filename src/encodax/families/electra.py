"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): BERT whose embeddings may be narrower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.families import bert, roberta
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM


def narrow(shape: BaseSpec, published: ConfigReader) -> dict[str, Any]:
    """Return settings for embeddings of width E, projected to D where E is not D."""
    width = published.integer("embedding_size", minimum=1)
    return {"width": width, "projected_width": None if width == shape.width else shape.width}


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder, with its own width of the embeddings."""
    return shape.encoder(embeddings=narrow(shape, published))


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return RoBERTa's head with GELU; masked LM's dense layer has the embeddings' width."""
    plain = roberta.twice_dropped(plain_head(kind, classes, shape, published.rate(*bert.DROPOUT)))
    if kind == "vocabulary":
        plain = replace(plain, dense_width=published.integer("embedding_size", minimum=1))
    return replace(plain, activation="gelu_erf") if plain.dense_width else plain


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of the embeddings' width and the head's dropout."""
    return {"embedding_size": config.encoder.embeddings.width, **bert.options(config)}


FAMILY = PublishedFamily(
    MODEL_TYPE="electra",
    prefix="electra.",
    classes=bert.classes_of("Electra"),
    other_architectures={"ElectraForPreTraining": None},
    encoder=encoder,
    head=head,
    options=options,
    tables={
        "encoder": {
            **bert.encoder_under("electra."),
            "encoder/embeddings/projection": ("electra.embeddings_project", LINEAR),
        },
        "sequence": roberta.CLASSIFICATION_HEAD,
        "token": bert.CLASSIFIER,
        "span": bert.SPAN,
        "vocabulary": {
            "head/dense": ("generator_predictions.dense", LINEAR),
            "head/norm": ("generator_predictions.LayerNorm", NORM),
            "head/output": ("generator_lm_head", LINEAR),
        },
    },
    defaults={**bert.FAMILY.defaults, "embedding_size": 128},
    fixed=bert.FAMILY.fixed,
    ignored_keys=dict.fromkeys(
        ("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"),
        "it belongs only to the multiple-choice head",
    ),
    ignored_tensors=(
        r"electra\.embeddings\.position_ids",
        r"discriminator_predictions\.(dense|dense_prediction)\.(weight|bias)",
    ),
    tensor_aliases={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
)
