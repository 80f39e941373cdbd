"""MPNet (Song et al. 2020, arXiv:2004.09297): RoBERTa with a relative bias, without token types."""

from __future__ import annotations

from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig, RelativeBiasConfig
from encodax.families import bert, roberta
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import KEYS, BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table, Tensor

LAYER = "mpnet.encoder.layer.{}."
ENCODER: Table = {
    "encoder/embeddings/token": ("mpnet.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/position": ("mpnet.embeddings.position_embeddings", TABLE),
    "encoder/embeddings/norm": ("mpnet.embeddings.LayerNorm", NORM),
    "encoder/relative_bias": ("mpnet.encoder.relative_attention_bias", {"w": Tensor("weight")}),
    "encoder/layer_{}/attention/query": (f"{LAYER}attention.attn.q", LINEAR),
    "encoder/layer_{}/attention/key": (f"{LAYER}attention.attn.k", LINEAR),
    "encoder/layer_{}/attention/value": (f"{LAYER}attention.attn.v", LINEAR),
    "encoder/layer_{}/attention/output": (f"{LAYER}attention.attn.o", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}attention.LayerNorm", NORM),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}intermediate.dense", LINEAR),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}output.dense", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}output.LayerNorm", NORM),
}
BUCKETS = 32
"""Number of buckets in the published code, whatever the configuration says."""


PAD_ID = 1
"""Padding id for positions in the published code, whatever the configuration says."""


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return RoBERTa's encoder, with the relative bias."""
    return shape.encoder(
        embeddings=roberta.after_padding(shape, PAD_ID),
        relative_positions=RelativeBiasConfig(BUCKETS, 128),
    )


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return RoBERTa's head, with the encoder's dropout."""
    plain = plain_head(kind, classes, shape, published.rate("hidden_dropout_prob"))
    return roberta.lm_head(roberta.twice_dropped(plain))


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published key of the rows of positions."""
    return roberta.rows_of_positions(config)


FAMILY = PublishedFamily(
    MODEL_TYPE="mpnet",
    prefix="mpnet.",
    classes=bert.classes_of("MPNet"),
    encoder=encoder,
    head=head,
    options=options,
    keys={name: key for name, key in KEYS.items() if name != "type_vocabulary_size"},
    tables={
        "encoder": ENCODER,
        "sequence": roberta.CLASSIFICATION_HEAD,
        "token": bert.CLASSIFIER,
        "span": bert.SPAN,
        "vocabulary": roberta.LM_HEAD,
    },
    defaults={**bert.FAMILY.defaults, "pad_token_id": 1},
    fixed={"relative_attention_num_buckets": BUCKETS},
    ignored_tensors=(r"mpnet\.embeddings\.position_ids", r"mpnet\.pooler\.dense\.(weight|bias)"),
    tensor_aliases={
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)
