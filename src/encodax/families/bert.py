"""BERT (Devlin et al. 2019, arXiv:1810.04805): post-norm, learned positions, erf GELU."""

from __future__ import annotations

from typing import Any

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    ModelConfig,
    NormConfig,
)
from encodax.errors import EncodaxError
from encodax.families.tensors import LINEAR, NORM, TABLE, Leaves, Tensor, labels_of, look_up

MODEL_TYPE = "bert"

ACTIVATIONS = {"gelu": "gelu_erf", "gelu_new": "gelu_tanh"}
"""`hidden_act` in the published configuration -> our name."""

ARCHITECTURES = {
    None: "BertModel",
    "sequence": "BertForSequenceClassification",
    "token": "BertForTokenClassification",
}
"""Kind of head -> the published class."""

UNNAMED_LABELS = ("LABEL_0", "LABEL_1")
"""The classes of a published configuration that names none: transformers leaves its default out."""

FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Options of the published configuration that our blocks have in one form only."""

TENSORS: dict[str, tuple[str, Leaves]] = {
    "encoder/embeddings/token": ("bert.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/position": ("bert.embeddings.position_embeddings", TABLE),
    "encoder/embeddings/type": ("bert.embeddings.token_type_embeddings", TABLE),
    "encoder/embeddings/norm": ("bert.embeddings.LayerNorm", NORM),
    "encoder/layer_{}/attention/query": ("bert.encoder.layer.{}.attention.self.query", LINEAR),
    "encoder/layer_{}/attention/key": ("bert.encoder.layer.{}.attention.self.key", LINEAR),
    "encoder/layer_{}/attention/value": ("bert.encoder.layer.{}.attention.self.value", LINEAR),
    "encoder/layer_{}/attention/output": ("bert.encoder.layer.{}.attention.output.dense", LINEAR),
    "encoder/layer_{}/attention_norm": ("bert.encoder.layer.{}.attention.output.LayerNorm", NORM),
    "encoder/layer_{}/feed_forward/up": ("bert.encoder.layer.{}.intermediate.dense", LINEAR),
    "encoder/layer_{}/feed_forward/down": ("bert.encoder.layer.{}.output.dense", LINEAR),
    "encoder/layer_{}/feed_forward_norm": ("bert.encoder.layer.{}.output.LayerNorm", NORM),
    "head/dense": ("bert.pooler.dense", LINEAR),
    "head/output": ("classifier", LINEAR),
}
"""Our module path -> the published module, and how its leaves are stored."""


def tensor(config: ModelConfig, path: str, leaf: str) -> Tensor:
    """Where a parameter stands in the weights file; `BertModel` has no `bert.` before its names."""
    found = look_up(TENSORS, path, leaf)
    name = found.name if config.head else found.name.removeprefix("bert.")
    return Tensor(name, found.layout)


def read_config(published: dict[str, Any]) -> ModelConfig:
    """The published configuration as ours.

    Raises:
        EncodaxError: a key is missing, or asks for what our blocks do not compute.
    """
    for key, value in FIXED.items():
        if published.get(key, value) != value:
            raise EncodaxError(f"config.json: {key} = {published[key]!r} is not supported")
    try:
        return _read(published)
    except EncodaxError:
        raise
    except KeyError as error:
        raise EncodaxError(f"config.json: the key {error} is missing") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise EncodaxError(f"config.json: not a configuration of BERT: {error}") from error


def _read(published: dict[str, Any]) -> ModelConfig:
    activation = published["hidden_act"]
    if activation not in ACTIVATIONS:
        raise EncodaxError(f"config.json: hidden_act {activation!r} is not supported")
    norm = NormConfig(eps=published["layer_norm_eps"])
    width, heads = published["hidden_size"], published["num_attention_heads"]
    if heads < 1 or width % heads:
        raise EncodaxError(
            f"config.json: hidden_size {width} is not a multiple of num_attention_heads {heads}"
        )
    dropout_rate = published["hidden_dropout_prob"]
    layer = LayerConfig(
        AttentionConfig(
            heads, width // heads, dropout_rate=published["attention_probs_dropout_prob"]
        ),
        FeedForwardConfig(published["intermediate_size"], ACTIVATIONS[activation]),
        norm=norm,
        dropout_rate=dropout_rate,
    )
    embeddings = EmbeddingsConfig(
        vocabulary_size=published["vocab_size"],
        width=width,
        max_positions=published["max_position_embeddings"],
        type_vocabulary_size=published["type_vocab_size"],
        norm=norm,
        dropout_rate=dropout_rate,
    )
    kind = _read_kind(published)
    labels = labels_of(published, UNNAMED_LABELS if kind else ())
    return ModelConfig(
        EncoderConfig(embeddings, (layer,) * published["num_hidden_layers"]),
        head=_read_head(published, kind, len(labels)) if kind else None,
        labels=labels,
        pad_id=published["pad_token_id"],
    )


def _read_kind(published: dict[str, Any]) -> str | None:
    (architecture,) = published["architectures"]
    kinds = {name: kind for kind, name in ARCHITECTURES.items()}
    if architecture not in kinds:
        raise EncodaxError(f"config.json: the architecture {architecture} is not supported")
    return kinds[architecture]


def _read_head(published: dict[str, Any], kind: str, classes: int) -> HeadConfig:
    dropout_rate = published.get("classifier_dropout")
    return head(
        kind, classes, published["hidden_dropout_prob"] if dropout_rate is None else dropout_rate
    )


def head(kind: str, classes: int, dropout_rate: float) -> HeadConfig:
    """BERT's heads: the first token through a dense layer and tanh, or every token as it is."""
    if kind == "sequence":
        return HeadConfig("sequence", classes, "cls", dense=True, dropout_rate=dropout_rate)
    return HeadConfig("token", classes, dropout_rate=dropout_rate)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Ours as the published configuration."""
    if not config.encoder.layers:
        raise EncodaxError("BERT has at least one layer")
    embeddings, layer = config.encoder.embeddings, config.encoder.layers[0]
    names = {name: published for published, name in ACTIVATIONS.items()}
    if layer.feed_forward.activation not in names:
        raise EncodaxError(f"BERT has no activation {layer.feed_forward.activation}")
    return {
        "model_type": MODEL_TYPE,
        "architectures": [ARCHITECTURES[config.head.kind if config.head else None]],
        "vocab_size": embeddings.vocabulary_size,
        "hidden_size": embeddings.width,
        "num_hidden_layers": len(config.encoder.layers),
        "num_attention_heads": layer.attention.heads,
        "intermediate_size": layer.feed_forward.width,
        "hidden_act": names[layer.feed_forward.activation],
        "hidden_dropout_prob": layer.dropout_rate,
        "attention_probs_dropout_prob": layer.attention.dropout_rate,
        "classifier_dropout": config.head.dropout_rate if config.head else None,
        "max_position_embeddings": embeddings.max_positions,
        "type_vocab_size": embeddings.type_vocabulary_size,
        "layer_norm_eps": layer.norm.eps,
        "pad_token_id": config.pad_id,
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
        "label2id": {label: index for index, label in enumerate(config.labels)},
        **FIXED,
    }
