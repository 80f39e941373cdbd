"""ESM-2 (Lin et al. 2023, Science 379:1123): proteins; pre-norm with rotary positions."""

from __future__ import annotations

from typing import Any

from encodax.config import (
    EncoderConfig,
    HeadConfig,
    HeadKind,
    ModelConfig,
    TokenDropoutConfig,
)
from encodax.errors import EncodaxError
from encodax.families import bert, ignored_keys, roberta
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.rope import rotary
from encodax.families.spec import KEYS, BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table

LAYER = "esm.encoder.layer.{}."
ENCODER: Table = {
    "encoder/embeddings/token": ("esm.embeddings.word_embeddings", TABLE),
    "encoder/layer_{}/attention/query": (f"{LAYER}attention.self.query", LINEAR),
    "encoder/layer_{}/attention/key": (f"{LAYER}attention.self.key", LINEAR),
    "encoder/layer_{}/attention/value": (f"{LAYER}attention.self.value", LINEAR),
    "encoder/layer_{}/attention/output": (f"{LAYER}attention.output.dense", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}attention.LayerNorm", NORM),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}intermediate.dense", LINEAR),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}output.dense", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}LayerNorm", NORM),
    "encoder/final_norm": ("esm.encoder.emb_layer_norm_after", NORM),
}
OFFSET = 2
"""Number of rows in `max_position_embeddings` that no token takes, as in RoBERTa."""


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return a pre-norm encoder; embeddings have neither norm nor dropout, but token dropout.

    Raises:
        EncodaxError: `rope_parameters`, which the published class does not read, contradicts
            `rope_theta`, which it reads.
    """
    base = published.number("rope_theta")
    if (stated := published["rope_parameters"]) is not None:
        turned = rotary(shape, published, stated, base)
        if turned.base != base:
            raise EncodaxError(
                f"config.json: rope_parameters = {dict(stated)} contradicts rope_theta = {base}"
            )
    dropped = None
    if published.flag("token_dropout"):
        dropped = TokenDropoutConfig(published.integer("mask_token_id"))
    return shape.encoder(
        embeddings={
            "positions": None,
            "max_positions": max(1, shape.max_positions - OFFSET),
            "norm": None,
            "dropout_rate": 0.0,
            "mask_dropout": dropped,
        },
        attention={"rotary": rotary(shape, published, None, base)},
        layer={"placement": "pre"},
        final_norm=shape.norm,
    )


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return RoBERTa's head, with the encoder's dropout."""
    plain = plain_head(kind, classes, shape, published.rate("hidden_dropout_prob"))
    return roberta.lm_head(roberta.twice_dropped(plain))


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of positions and token dropout."""
    embeddings, rotated = config.encoder.embeddings, config.encoder.layers[0].attention.rotary
    dropped = embeddings.mask_dropout
    return {
        "max_position_embeddings": (embeddings.max_positions or 0) + OFFSET,
        "token_dropout": dropped is not None,
        **({"mask_token_id": dropped.mask_id} if dropped else {}),
        **({"rope_theta": rotated.base} if rotated else {}),
    }


FAMILY = PublishedFamily(
    MODEL_TYPE="esm",
    prefix="esm.",
    classes=bert.classes_of("Esm", span=False),
    encoder=encoder,
    head=head,
    options=options,
    keys={
        name: key
        for name, key in KEYS.items()
        if name not in ("activation", "type_vocabulary_size")
    },
    tables={
        "encoder": ENCODER,
        "sequence": roberta.CLASSIFICATION_HEAD,
        "token": bert.CLASSIFIER,
        "vocabulary": roberta.LM_HEAD,
    },
    defaults={
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 1026,
        "mask_token_id": 32,
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
        "rope_parameters": None,
        "rope_theta": 10_000.0,
        "token_dropout": False,
    },
    fixed={
        "add_cross_attention": False,
        "is_decoder": False,
        "emb_layer_norm_before": False,
        "is_folding_model": False,
        "position_embedding_type": "rotary",
    },
    ignored_keys={
        "esmfold_config": "it is for models that fold proteins",
        "hidden_act": ignored_keys.UNREAD,
        "vocab_list": "it is for models that fold proteins",
    },
    ignored_tensors=(
        r"esm\.(encoder\.layer\.(\d+|\*)\.attention\.self\.)?rotary_embeddings\.inv_freq",
        r"esm\.contact_head\.regression\.(weight|bias)",
        r"esm\.embeddings\.(position_embeddings\.weight|position_ids)",
        r"esm\.pooler\.dense\.(weight|bias)",
    ),
    tensor_aliases={"lm_head.decoder.weight": "esm.embeddings.word_embeddings.weight"},
)
