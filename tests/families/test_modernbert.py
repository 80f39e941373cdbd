"""ModernBERT: two published forms of its layers, and what they differ in."""

import re
from typing import Any

import goldens
import pytest

from encodax.config import RotaryConfig
from encodax.errors import EncodaxError
from encodax.families import modernbert

GOLDEN = "modernbert/encoder"


def older(**changes: Any) -> dict[str, Any]:
    """The form of answerdotai/ModernBERT-base, with the sizes of the golden."""
    published = goldens.published(GOLDEN)
    for key in ("layer_types", "rope_parameters"):
        del published[key]
    theirs = {"global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
    return {**published, **theirs, "global_attn_every_n_layers": 3, **changes}


def test_the_older_form_says_the_same() -> None:
    assert modernbert.FAMILY.read_config(older()) == goldens.read(GOLDEN)


def test_one_layer_in_so_many_attends_globally() -> None:
    for every in (1, 2, 3, 4):
        config = modernbert.FAMILY.read_config(older(global_attn_every_n_layers=every))
        windows = [layer.attention.window for layer in config.encoder.layers]
        assert windows == [None if layer % every == 0 else 3 for layer in range(4)]
        assert modernbert.FAMILY.read_config(modernbert.FAMILY.write_config(config)) == config


def test_global_and_local_layers_have_their_own_bases() -> None:
    changes = {"global_rope_theta": 80_000.0, "local_rope_theta": 500.0}
    config = modernbert.FAMILY.read_config(older(**changes))
    assert [layer.attention.rotary for layer in config.encoder.layers] == [
        RotaryConfig(80_000.0),
        RotaryConfig(500.0),
        RotaryConfig(500.0),
        RotaryConfig(80_000.0),
    ]
    assert modernbert.FAMILY.read_config(modernbert.FAMILY.write_config(config)) == config


def test_the_first_layer_alone_has_no_norm_before_attention() -> None:
    layers = goldens.read(GOLDEN).encoder.layers
    assert [layer.has_attention_norm for layer in layers] == [False, True, True, True]
    assert {layer.placement for layer in layers} == {"pre"}


@pytest.mark.parametrize("key", ["norm_bias", "attention_bias", "mlp_bias"])
def test_biases_are_where_the_configuration_says(key: str) -> None:
    config = goldens.read(GOLDEN, **{key: True})
    leaves = goldens.shapes(config)
    has = {
        "norm_bias": "beta" in leaves["encoder/layer_1/attention_norm"],
        "attention_bias": "b" in leaves["encoder/layer_1/attention/query"],
        "mlp_bias": "b" in leaves["encoder/layer_1/feed_forward/up"],
    }
    assert {name for name, there in has.items() if there} == {key}
    assert modernbert.FAMILY.read_config(modernbert.FAMILY.write_config(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": ["full_attention"]}, "layer_types ['full_attention'] is not supported"),
        ({"layer_types": ["chunked_attention"] * 4}, "is not supported"),
        ({"local_attention": 1}, "local_attention = 1 is not a whole number >= 2"),
        ({"classifier_pooling": "max"}, ""),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_type 'yarn' is not supported",
        ),
        (
            {"rope_parameters": {"rope_theta": 1e4}},
            "rope_parameters {'rope_theta': 10000.0} are not",
        ),
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    if "classifier_pooling" in changes:
        message = "classifier_pooling 'max' is not supported; known: cls, mean"
    golden = "modernbert/sequence" if "classifier_pooling" in changes else GOLDEN
    with pytest.raises(EncodaxError, match=re.escape(message)):
        goldens.read(golden, **changes)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_sequence_is_pooled_as_it_says(pooling: str) -> None:
    head = goldens.read("modernbert/sequence", classifier_pooling=pooling).head
    assert head is not None
    assert head.pooling == pooling


def test_the_gate_is_the_first_half_of_the_inner_projection() -> None:
    config = goldens.read(GOLDEN)
    gate, up = (
        modernbert.FAMILY.tensor(config, f"encoder/layer_2/feed_forward/{name}", "w")
        for name in ("gate", "up")
    )
    assert gate.name == up.name == "model.layers.2.mlp.Wi.weight"
    assert (gate.part, up.part, gate.parts) == (0, 1, 2)
