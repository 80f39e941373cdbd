"""BERT (Devlin et al. 2019, arXiv:1810.04805): post-norm, learned positions, erf GELU."""

from __future__ import annotations

from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.families.config_reader import ConfigReader
from encodax.families.published import PublishedFamily, dropout_of_head, plain_head
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table, split


def encoder_under(prefix: str) -> Table:
    """Return the encoder's names in the file, for BERT and models derived from its code."""
    layer = f"{prefix}encoder.layer.{{}}."
    return {
        "encoder/embeddings/token": (f"{prefix}embeddings.word_embeddings", TABLE),
        "encoder/embeddings/position": (f"{prefix}embeddings.position_embeddings", TABLE),
        "encoder/embeddings/type": (f"{prefix}embeddings.token_type_embeddings", TABLE),
        "encoder/embeddings/norm": (f"{prefix}embeddings.LayerNorm", NORM),
        "encoder/layer_{}/attention/query": (f"{layer}attention.self.query", LINEAR),
        "encoder/layer_{}/attention/key": (f"{layer}attention.self.key", LINEAR),
        "encoder/layer_{}/attention/value": (f"{layer}attention.self.value", LINEAR),
        "encoder/layer_{}/attention/output": (f"{layer}attention.output.dense", LINEAR),
        "encoder/layer_{}/attention_norm": (f"{layer}attention.output.LayerNorm", NORM),
        "encoder/layer_{}/feed_forward/up": (f"{layer}intermediate.dense", LINEAR),
        "encoder/layer_{}/feed_forward/down": (f"{layer}output.dense", LINEAR),
        "encoder/layer_{}/feed_forward_norm": (f"{layer}output.LayerNorm", NORM),
    }


CLASSIFIER: Table = {"head/output": ("classifier", LINEAR)}
"""Output of sequence and token heads in most families."""
SPAN: Table = {"head/output": ("qa_outputs", LINEAR)}
PREDICTIONS: Table = {
    "head/dense": ("cls.predictions.transform.dense", LINEAR),
    "head/norm": ("cls.predictions.transform.LayerNorm", NORM),
    "head/output": ("cls.predictions.decoder", split(LINEAR, "cls.predictions.bias")),
}


def classes_of(name: str, *, span: bool = True, **others: str) -> dict[HeadKind | None, str]:
    """Return the published classes of a family that names its classes as BERT does."""
    classes: dict[HeadKind | None, str] = {
        None: f"{name}Model",
        "vocabulary": f"{name}ForMaskedLM",
        "sequence": f"{name}ForSequenceClassification",
        "token": f"{name}ForTokenClassification",
    }
    return {**classes, "span": f"{name}ForQuestionAnswering"} if span else classes


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return the encoder."""
    return shape.encoder()


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return the head of this kind."""
    return plain_head(kind, classes, shape, published.rate(*DROPOUT))


DROPOUT = "classifier_dropout", "hidden_dropout_prob"


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published key of the head's dropout."""
    return dropout_of_head("classifier_dropout", config)


ORIGINAL_CODE_KEYS = dict.fromkeys(
    (
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type",
    ),
    "it belongs to the code that BERT was first published with, not to its encoder",
)  # fmt: skip


FAMILY = PublishedFamily(
    MODEL_TYPE="bert",
    prefix="bert.",
    classes=classes_of("Bert"),
    other_architectures={"BertForPreTraining": "vocabulary", "BertLMHeadModel": "vocabulary"},
    encoder=encoder,
    head=head,
    options=options,
    tables={
        "encoder": encoder_under("bert."),
        "sequence": {"head/dense": ("bert.pooler.dense", LINEAR), **CLASSIFIER},
        "token": CLASSIFIER,
        "span": SPAN,
        "vocabulary": PREDICTIONS,
    },
    defaults={
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    },
    ignored_keys=ORIGINAL_CODE_KEYS,
    fixed={
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    ignored_tensors=(
        r"bert\.embeddings\.position_ids",
        r"bert\.pooler\.dense\.(weight|bias)",
        r"cls\.seq_relationship\.(weight|bias)",
    ),
    tensor_aliases={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
