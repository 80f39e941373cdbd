"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-R (Conneau et al. 2020), CamemBERT (2020).

BERT with positions that begin after the padding id, one token type, and different heads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, Table, split

CLASSIFICATION_HEAD: Table = {
    "head/dense": ("classifier.dense", LINEAR),
    "head/output": ("classifier.out_proj", LINEAR),
}
"""Sequence head of RoBERTa and models like it."""
LM_HEAD: Table = {
    "head/dense": ("lm_head.dense", LINEAR),
    "head/norm": ("lm_head.layer_norm", NORM),
    "head/output": ("lm_head.decoder", split(LINEAR, "lm_head.bias")),
}


def after_padding(shape: BaseSpec, pad_id: Any) -> dict[str, Any]:
    """Return settings for positions that begin at the row after the padding id.

    That many fewer tokens fit. A padding token in a text takes the padding row, and is not counted.

    Raises:
        EncodaxError: there is no padding id, or it leaves no position.
    """
    if pad_id is None:
        raise EncodaxError(
            "config.json: pad_token_id = null is not supported: positions are counted from it"
        )
    offset = int(pad_id) + 1
    if shape.max_positions <= offset:
        raise EncodaxError(
            f"config.json: max_position_embeddings {shape.max_positions} leaves no position: the "
            f"first {offset} rows are not for tokens"
        )
    return {
        "position_offset": offset,
        "max_positions": shape.max_positions - offset,
        "uncounted_id": offset - 1,
    }


def rows_of_positions(config: ModelConfig) -> dict[str, Any]:
    """Return the number of rows of the position table, as published configurations count them."""
    embeddings = config.encoder.embeddings
    rows = (embeddings.max_positions or 0) + embeddings.position_offset
    return {"max_position_embeddings": rows}


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder, with the position offset."""
    return shape.encoder(embeddings=after_padding(shape, published["pad_token_id"]))


def lm_head(head: HeadConfig) -> HeadConfig:
    """Return the head with GELU for masked LM, whatever the encoder's activation is."""
    return replace(head, activation="gelu_erf") if head.kind == "vocabulary" else head


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return BERT's head, with dropout before the dense layer too, and GELU for masked LM."""
    plain = plain_head(kind, classes, shape, published.rate(*bert.DROPOUT))
    return lm_head(twice_dropped(plain))


def twice_dropped(head: HeadConfig) -> HeadConfig:
    """Return a sequence head with dropout before the dense layer as after it."""
    if head.kind != "sequence":
        return head
    return replace(head, input_dropout_rate=head.dropout_rate)


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys for the rows of positions and the dropout of the head."""
    return {**bert.options(config), **rows_of_positions(config)}


def family(model_type: str, name: str) -> PublishedFamily:
    """Return RoBERTa under one of its published names."""
    return PublishedFamily(
        MODEL_TYPE=model_type,
        prefix="roberta.",
        classes=bert.classes_of(name),
        encoder=encoder,
        head=head,
        options=options,
        tables={
            "encoder": bert.encoder_under("roberta."),
            "sequence": CLASSIFICATION_HEAD,
            "token": bert.CLASSIFIER,
            "span": bert.SPAN,
            "vocabulary": LM_HEAD,
        },
        defaults={
            **bert.FAMILY.defaults,
            "pad_token_id": 1,
        },
        fixed=bert.FAMILY.fixed,
        ignored_tensors=(
            r"roberta\.embeddings\.position_ids",
            r"roberta\.pooler\.dense\.(weight|bias)",
        ),
        tensor_aliases={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
    )


ROBERTA = family("roberta", "Roberta")
XLM_ROBERTA = family("xlm-roberta", "XLMRoberta")
CAMEMBERT = family("camembert", "Camembert")
