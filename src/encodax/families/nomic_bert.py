"""NomicBERT (Nussbaum et al. 2024, arXiv:2402.01613): BERT with rotary positions and SwiGLU.

Two forms of `config.json` are published: that of its authors (`n_embd`, ...), and that of
transformers.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert, ignored_keys
from encodax.families.config_reader import ConfigReader, check_fixed
from encodax.families.published import PublishedFamily, plain_head
from encodax.families.rope import rotary
from encodax.families.spec import BaseSpec
from encodax.families.tensors import LINEAR, NORM, TABLE, Table, part_of, split

LAYER = "nomic_bert.encoder.layers.{}."
ENCODER: Table = {
    "encoder/embeddings/token": ("nomic_bert.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/type": ("nomic_bert.embeddings.token_type_embeddings", TABLE),
    "encoder/embeddings/norm": ("nomic_bert.emb_ln", NORM),
    "encoder/layer_{}/attention/query": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 0, 3)),
    "encoder/layer_{}/attention/key": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 1, 3)),
    "encoder/layer_{}/attention/value": (f"{LAYER}attn.Wqkv", part_of(LINEAR, 2, 3)),
    "encoder/layer_{}/attention/output": (f"{LAYER}attn.out_proj", LINEAR),
    "encoder/layer_{}/attention_norm": (f"{LAYER}norm1", NORM),
    "encoder/layer_{}/feed_forward/up": (f"{LAYER}mlp.fc11", LINEAR),
    "encoder/layer_{}/feed_forward/gate": (f"{LAYER}mlp.fc12", LINEAR),
    "encoder/layer_{}/feed_forward/down": (f"{LAYER}mlp.fc2", LINEAR),
    "encoder/layer_{}/feed_forward_norm": (f"{LAYER}norm2", NORM),
}
AUTHORS_KEYS = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}
"""Key in the authors' form -> key in transformers."""
AUTHORS_FIXED = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_rms_norm": False,
}
"""Options of the authors' form for which only one value is supported."""


def translate(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert the authors' form of a configuration to that of transformers."""
    if "n_embd" not in published:
        return published
    as_published = ConfigReader(published, {})
    check_fixed(as_published, {key: (value,) for key, value in AUTHORS_FIXED.items()})
    base = published.get("rotary_emb_base", BASE)
    own = {"rope_parameters": {"rope_theta": base}, "hidden_act": "silu"}
    renamed = {name: published[key] for key, name in AUTHORS_KEYS.items() if key in published}
    return ChainMap({**own, **renamed}, published)  # type: ignore[arg-type]


BASE = 1000.0


def encoder(shape: BaseSpec, published: ConfigReader) -> EncoderConfig:
    """Return BERT's encoder, with rotary positions and gates, without biases."""
    turned = rotary(shape, published, published["rope_parameters"], published["rope_theta"])
    return shape.encoder(
        embeddings={"positions": None},
        attention={"biases": False, "output_bias": False, "rotary": turned},
        feed_forward={"gated": True, "biases": False},
    )


def head(kind: HeadKind, classes: int, shape: BaseSpec, published: ConfigReader) -> HeadConfig:
    """Return BERT's head."""
    return plain_head(kind, classes, shape, published.rate(*bert.DROPOUT))


def options(config: ModelConfig) -> dict[str, Any]:
    """Return the published keys of the rotary base and the head's dropout."""
    turned = config.encoder.layers[0].attention.rotary
    if turned is None:
        raise EncodaxError("model_type nomic_bert needs rotary positions")
    rope = {"rope_type": "default", "rope_theta": turned.base}
    return {"rope_parameters": rope, **bert.options(config)}


FAMILY = PublishedFamily(
    MODEL_TYPE="nomic_bert",
    prefix="nomic_bert.",
    classes=bert.classes_of("NomicBert", span=False),
    other_architectures={"NomicBertForPreTraining": "vocabulary"},
    encoder=encoder,
    head=head,
    options=options,
    translate=translate,
    tables={
        "encoder": ENCODER,
        "sequence": {"head/dense": ("nomic_bert.pooler.dense", LINEAR), **bert.CLASSIFIER},
        "token": bert.CLASSIFIER,
        "vocabulary": {
            "head/dense": ("cls.predictions.transform.dense", LINEAR),
            "head/norm": ("cls.predictions.transform.layer_norm", NORM),
            "head/output": ("cls.predictions.decoder", split(LINEAR, "cls.predictions.bias")),
        },
    },
    defaults={
        "hidden_act": "silu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "rope_parameters": None,
        "rope_theta": BASE,
        "type_vocab_size": 2,
    },
    ignored_keys={
        **dict.fromkeys(("dense_seq_output", "pad_vocab_size_multiple"), ignored_keys.UNREAD),
        **dict.fromkeys(
            ("fused_bias_fc", "fused_dropout_add_ln", "reorder_and_upcast_attn", "use_flash_attn"),
            ignored_keys.MEMORY,
        ),
        "embd_pdrop": ignored_keys.TRAINING,
        "max_trained_positions": "it says how long the texts of training were",
        "parallel_block_tied_norm": "there is no parallel block",
        "summary_proj_to_labels": ignored_keys.UNREAD,
        "summary_type": ignored_keys.UNREAD,
        "summary_use_proj": ignored_keys.UNREAD,
        "use_xentropy": ignored_keys.TRAINING,
    },
    renames=((r"^bert\.", "nomic_bert."),),
    ignored_tensors=(r"nomic_bert\.pooler\.dense\.(weight|bias)",),
    tensor_aliases={
        "cls.predictions.decoder.weight": "nomic_bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
