"""ModernBERT (Warner et al. 2024, arXiv:2412.13663).

Pre-norm with rotary positions, gated feed-forward networks, no biases, and local attention in two
of every three layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encodax.config import (
    AttentionConfig,
    EncoderConfig,
    HeadConfig,
    HeadKind,
    LayerConfig,
    ModelConfig,
    NormConfig,
    RotaryConfig,
)
from encodax.errors import EncodaxError
from encodax.families import bert, ignored_keys
from encodax.families.config_reader import ACTIVATIONS, ConfigReader, published_name
from encodax.families.published import PublishedFamily
from encodax.families.rope import rope_parameters, rotary
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table, part_of

LAYER = "model.layers.{}."
ENCODER: Table = {
    "encoder/embeddings/token": ("model.embeddings.tok_embeddings", TABLE),
    "encoder/embeddings/norm": ("model.embeddings.norm", NORM),
    "encoder/layer_{}/attention/query": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 0, 3)),
    "encoder/layer_{}/attention/key": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 1, 3)),
    "encoder/layer_{}/attention/value": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 2, 3)),
    "encoder/layer_{}/attention/output": (f"{LAYER}attn.Wo", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}attn_norm", NORM),
    "encoder/layer_{}/feed_forward/gate": (f"{LAYER}mlp.Wi", part_of(LINEAR, 0, 2)),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}mlp.Wi", part_of(LINEAR, 1, 2)),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}mlp.Wo", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}mlp_norm", NORM),
    "encoder/final_norm": ("model.final_norm", NORM),
}
HEAD: Table = {"head/dense": ("head.dense", LINEAR), "head/norm": ("head.norm", NORM)}
CLASSIFIER: Table = {**HEAD, **bert.CLASSIFIER}
IS_GLOBAL = {"full_attention": True, "sliding_attention": False}
"""Entry of `layer_types` -> whether the layer's attention is global."""
POOLINGS = {"cls": "cls", "mean": "mean"}


def _rotary(shape: BaseSpec, published: ConfigReader) -> dict[bool, RotaryConfig]:
    """Return rotary positions by whether a layer is global; two forms of config are published."""
    stated = rope_parameters(published["rope_parameters"] or {})
    if not set(stated) <= set(IS_GLOBAL):
        raise EncodaxError(f"config.json: rope_parameters {stated!r} are not supported")
    bases = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    return {
        IS_GLOBAL[kind]: rotary(shape, published, stated.get(kind), published[key])
        for kind, key in bases.items()
    }


def _global_layers(shape: BaseSpec, published: ConfigReader) -> list[bool]:
    """Return for each layer whether its attention is global; two forms are published."""
    named = published["layer_types"]
    if named is None:
        every = published.integer("global_attn_every_n_layers", minimum=1)
        return [layer % every == 0 for layer in range(shape.layers)]
    are_known = isinstance(named, list) and all(name in tuple(IS_GLOBAL) for name in named)
    if not are_known or len(named) != shape.layers:
        raise EncodaxError(
            f"config.json: layer_types {named!r} is not supported, with num_hidden_layers = "
            f"{shape.layers}"
        )
    return [IS_GLOBAL[name] for name in named]


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return the encoder; the first attention has no norm: the embeddings end with one."""
    norm = NormConfig(shape.norm_eps, bias=published.flag("norm_bias"))
    biases = published.flag("attention_bias")
    rotary_by_scope = _rotary(shape, published)
    plain = shape.encoder(
        embeddings={
            "positions": None,
            "norm": norm,
            "dropout_rate": published.rate("embedding_dropout"),
        },
        attention={"biases": biases, "output_bias": biases},
        feed_forward={
            "gated": True,
            "biases": published.flag("mlp_bias"),
            "dropout_rate": published.rate("mlp_dropout"),
        },
        layer={"norm": norm, "placement": "pre", "dropout_on": "attention"},
        final_norm=norm,
    )
    window = published.integer("local_attention", minimum=2) // 2

    def layer(index: int, is_global: bool) -> LayerConfig:
        attention = replace(
            plain.layers[index].attention,
            window=None if is_global else window,
            rotary=rotary_by_scope[is_global],
        )
        return replace(plain.layers[index], attention=attention, has_attention_norm=index > 0)

    layers = enumerate(_global_layers(shape, published))
    return replace(plain, layers=tuple(layer(*each) for each in layers))


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return a head with dense layer, activation and norm before the output, after any pooling."""
    is_vocabulary = kind == "vocabulary"
    return HeadConfig(
        kind,
        classes,
        pooling=published.one_of("classifier_pooling", POOLINGS) if kind == "sequence" else None,
        dense_width=shape.width,
        dense_bias=published.flag("classifier_bias"),
        activation=published.one_of("classifier_activation", ACTIVATIONS),
        norm=NormConfig(shape.norm_eps, bias=published.flag("norm_bias")),
        dropout_rate=0.0 if is_vocabulary else published.rate("classifier_dropout", "mlp_dropout"),
        tied=is_vocabulary,
        output_bias=published.flag("decoder_bias") if is_vocabulary else True,
    )


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of the layers' differences, and of the head."""
    encoder, head = config.encoder, config.head
    rotary = {attention.window: attention.rotary for attention in _attentions(config)}
    if None in rotary.values():
        raise EncodaxError("model_type modernbert needs rotary positions in every layer")
    windows = [window for window in rotary if window is not None] or [64]
    bases = {window: rotary[window].base for window in rotary if rotary[window]}  # type: ignore[union-attr]
    base = bases.get(None, 160_000.0)
    local_base = bases.get(windows[0], 10_000.0)
    layer = encoder.layers[-1]
    published: dict[str, Any] = {
        "norm_bias": layer.norm.bias,
        "attention_bias": layer.attention.biases,
        "mlp_bias": layer.feed_forward.biases,
        "mlp_dropout": layer.feed_forward.dropout_rate,
        "embedding_dropout": encoder.embeddings.dropout_rate,
        "local_attention": 2 * windows[0],
        "layer_types": [
            "sliding_attention" if attention.window else "full_attention"
            for attention in _attentions(config)
        ],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": base},
            "sliding_attention": {"rope_type": "default", "rope_theta": local_base},
        },
    }
    if head is not None:
        published |= {
            "classifier_bias": head.dense_bias,
            "classifier_activation": published_name(head.activation),
            "classifier_dropout": head.dropout_rate,
            "decoder_bias": head.output_bias,
            **({"classifier_pooling": head.pooling} if head.pooling else {}),
        }
    return published


def _attentions(config: ModelConfig) -> list[AttentionConfig]:
    return [layer.attention for layer in config.encoder.layers]


FAMILY = PublishedFamily(
    MODEL_TYPE="modernbert",
    prefix="model.",
    classes=bert.classes_of("ModernBert"),
    encoder=encoder,
    head=head,
    options=options,
    keys={
        "vocabulary_size": "vocab_size",
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "inner_width": "intermediate_size",
        "activation": "hidden_activation",
        "max_positions": "max_position_embeddings",
        "norm_eps": "norm_eps",
        # One rate for attention weights and for the output of attention.
        "dropout_rate": "attention_dropout",
        "attention_dropout_rate": "attention_dropout",
        "pad_id": "pad_token_id",
    },
    tables={
        "encoder": ENCODER,
        "sequence": CLASSIFIER,
        "token": CLASSIFIER,
        "span": CLASSIFIER,
        "vocabulary": {**HEAD, "head/output": ("decoder", LINEAR)},
    },
    defaults={
        "attention_bias": False,
        "attention_dropout": 0.0,
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "classifier_dropout": 0.0,
        "classifier_pooling": "cls",
        "decoder_bias": True,
        "embedding_dropout": 0.0,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "hidden_activation": "gelu",
        "layer_types": None,
        "local_attention": 128,
        "local_rope_theta": 10_000.0,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "norm_bias": False,
        "norm_eps": 1e-5,
        "pad_token_id": 50283,
        "rope_parameters": None,
    },
    ignored_keys={
        "deterministic_flash_attn": ignored_keys.MEMORY,
        "reference_compile": ignored_keys.MEMORY,
        "repad_logits_with_grad": ignored_keys.TRAINING,
        "sparse_pred_ignore_index": ignored_keys.TRAINING,
        "sparse_prediction": ignored_keys.TRAINING,
    },
    tensor_aliases={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)
