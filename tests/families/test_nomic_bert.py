"""NomicBERT: the form of its authors, and that of transformers."""

import re
from typing import Any

import goldens
import pytest

from encodax.config import RotaryConfig
from encodax.errors import EncodaxError
from encodax.families import nomic_bert

AUTHORS = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "causal": False,
    "embd_pdrop": 0.0,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 8,
    "n_head": 2,
    "n_inner": 12,
    "n_layer": 2,
    "n_positions": 24,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "torch_dtype": "float32",
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 40,
}
"""The keys of nomic-ai/nomic-embed-text-v1.5, with the sizes of the golden."""


def test_the_form_of_its_authors_says_the_same() -> None:
    assert nomic_bert.FAMILY.read_config(AUTHORS) == goldens.read("nomic_bert/encoder")


@pytest.mark.parametrize("base", [1000, 10_000.0])
def test_the_base_of_its_rotary_positions_is_read_in_both_forms(base: float) -> None:
    theirs = nomic_bert.FAMILY.read_config({**AUTHORS, "rotary_emb_base": base})
    rope = {"rope_type": "default", "rope_theta": base}
    ours = goldens.read("nomic_bert/encoder", rope_parameters=rope)
    assert theirs == ours
    assert {layer.attention.rotary for layer in ours.encoder.layers} == {RotaryConfig(float(base))}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "gelu"),
        ("causal", True),
        ("mlp_fc1_bias", True),
        ("parallel_block", True),
        ("prenorm", True),
        ("qkv_proj_bias", True),
        ("rotary_emb_fraction", 0.5),
        ("rotary_emb_interleaved", True),
        ("rotary_emb_scale_base", 512),
        ("rotary_scaling_factor", 2),
        ("use_rms_norm", True),
    ],
)
def test_what_its_authors_offer_and_we_do_not_is_refused(key: str, value: Any) -> None:
    with pytest.raises(EncodaxError, match=re.escape(f"{key} = {value!r} is not supported")):
        nomic_bert.FAMILY.read_config({**AUTHORS, key: value})


@pytest.mark.parametrize("key", sorted(nomic_bert.AUTHORS_FIXED))
def test_what_its_authors_leave_out_is_the_form_that_is_computed(key: str) -> None:
    left = {name: value for name, value in AUTHORS.items() if name != key}
    assert nomic_bert.FAMILY.read_config(left) == goldens.read("nomic_bert/encoder")


def test_scaled_rotary_positions_are_refused() -> None:
    with pytest.raises(EncodaxError, match="rope_type 'dynamic' is not supported"):
        rope = {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0}
        goldens.read("nomic_bert/encoder", rope_parameters=rope)


def test_the_encoder_of_its_authors_stands_under_bert_or_under_nothing() -> None:
    name = "encoder.layers.1.attn.Wqkv.weight"
    for stored in (name, f"bert.{name}", f"nomic_bert.{name}"):
        assert nomic_bert.FAMILY.canonical(stored) == f"nomic_bert.{name}"
    assert nomic_bert.FAMILY.canonical("cls.predictions.bias") == "cls.predictions.bias"


def test_queries_keys_and_values_are_thirds_of_one_tensor() -> None:
    config = goldens.read("nomic_bert/encoder")
    tensors = [
        nomic_bert.FAMILY.tensor(config, f"encoder/layer_1/attention/{name}", "w")
        for name in ("query", "key", "value")
    ]
    assert {tensor.name for tensor in tensors} == {"nomic_bert.encoder.layers.1.attn.Wqkv.weight"}
    assert [(tensor.part, tensor.parts) for tensor in tensors] == [(0, 3), (1, 3), (2, 3)]
