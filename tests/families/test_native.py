"""What no published family has: our own specs, field by field."""

import dataclasses
import json
from typing import Any

import goldens
import pytest

from encodax import families
from encodax.config import (
    AttentionConfig,
    DisentangledConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    ModelConfig,
    NormConfig,
    RelativeBiasConfig,
    RotaryConfig,
    TokenDropoutConfig,
)
from encodax.errors import EncodaxError
from encodax.families import native

LAYER = LayerConfig(AttentionConfig(2, 4), FeedForwardConfig(12))
PLAIN = EncoderConfig(EmbeddingsConfig(40, 8), (LAYER, LAYER))


def of_layer(**changes: Any) -> EncoderConfig:
    return dataclasses.replace(PLAIN, layers=(LAYER, dataclasses.replace(LAYER, **changes)))


def of_embeddings(**changes: Any) -> EncoderConfig:
    return dataclasses.replace(PLAIN, embeddings=dataclasses.replace(PLAIN.embeddings, **changes))


SPECS = {
    "relative bias": dataclasses.replace(PLAIN, relative_positions=RelativeBiasConfig(8, 20)),
    "disentangled": dataclasses.replace(
        PLAIN, relative_positions=DisentangledConfig(8, 8, 24, norm=NormConfig(1e-7))
    ),
    "disentangled, plain": dataclasses.replace(
        PLAIN, relative_positions=DisentangledConfig(8, content_to_position=False)
    ),
    "shared layers": dataclasses.replace(PLAIN, parameter_groups=(0, 0)),
    "rotary and window": of_layer(
        attention=AttentionConfig(2, 4, window=3, rotary=RotaryConfig(500.0), scale=1.0)
    ),
    "gates": of_layer(feed_forward=FeedForwardConfig(12, "silu", gated=True, biases=False)),
    "no norm": of_layer(has_attention_norm=False, placement="pre", dropout_on="feed_forward"),
    "final norm": dataclasses.replace(PLAIN, final_norm=NormConfig(1e-3, bias=False)),
    "sinusoids": of_embeddings(positions="sinusoidal", max_positions=None),
    "masks": of_embeddings(mask_dropout=TokenDropoutConfig(7), positions=None),
    "narrow": of_embeddings(width=4, projected_width=8, position_offset=2, norm=NormConfig()),
}


@pytest.mark.parametrize("encoder", SPECS.values(), ids=SPECS)
def test_every_spec_reads_back_as_it_was(encoder: EncoderConfig) -> None:
    config = ModelConfig(encoder, pad_id=3, family="encodax")
    published = json.loads(json.dumps(native.write_config(config)))
    read = native.read_config(published)
    assert read == config
    assert hash(read) == hash(config)  # as a cache of compiled models needs


@pytest.mark.parametrize("golden", goldens.ALL)
def test_what_is_published_can_be_native_too(golden: str) -> None:
    config = dataclasses.replace(goldens.read(golden), family="encodax")
    assert native.read_config(json.loads(json.dumps(native.write_config(config)))) == config


HEADS = {
    "sequence": HeadConfig("sequence", 2, "weighted_mean", problem="multi_label"),
    "vocabulary": HeadConfig("vocabulary", 40, dense_width=8, norm=NormConfig(), tied=True),
    "embedding": HeadConfig("embedding", pooling="last", dense_width=5, normalize=True),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_every_head_reads_back_as_it_was(head: HeadConfig) -> None:
    labels = ("no", "yes") if head.kind == "sequence" else ()
    config = ModelConfig(PLAIN, head, labels, family="encodax")
    assert native.read_config(json.loads(json.dumps(native.write_config(config)))) == config


@pytest.mark.parametrize("encoder", SPECS.values(), ids=SPECS)
def test_it_is_the_family_of_what_none_has(encoder: EncoderConfig) -> None:
    assert families.ENCODERS.holding(ModelConfig(encoder)) is native


def test_a_parameter_stands_under_its_own_path_in_its_own_layout() -> None:
    tensor = native.tensor(ModelConfig(PLAIN), "encoder/layer_1/attention/query", "w")
    assert (tensor.name, tensor.layout) == ("encoder/layer_1/attention/query/w", "same")
    assert native.canonical(tensor.name) == tensor.name
    assert native.stored_name(ModelConfig(PLAIN), tensor.name) == tensor.name
    assert not native.is_ignored(ModelConfig(PLAIN), tensor.name)


def test_a_new_head_is_berts() -> None:
    head = native.new_head(ModelConfig(SPECS["gates"]), "sequence", 3)
    assert head == HeadConfig("sequence", 3, "cls", dense_width=8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda config: config.pop("encoder"), "encoder is missing"),
        (lambda config: config.pop("pad_token_id"), "pad_token_id is missing"),
        (lambda config: config.update(pad_token_id=True), "pad_token_id = true is not a token id"),
        (lambda config: config["head"].update(new=1), r"head\.new is not known"),
        (lambda config: config["head"].pop("kind"), r"head\.kind is missing"),
        (lambda config: config["head"].update(classes="2"), r'head\.classes = "2" is not a whole'),
        (
            lambda config: config["head"].update(pooling="x"),
            r'head\.pooling = "x" is not one of: cls',
        ),
        (
            lambda config: config["head"].update(pooling=["x"]),
            r'head\.pooling\[0\] = "x" is not one',
        ),
        (lambda config: config.update(head=[]), r"head = \[\] is not an object"),
        (
            lambda config: config["encoder"].update(layers=[3]),
            r"encoder\.layers\[0\] = 3 is not an ob",
        ),
        (lambda config: config["encoder"].update(layers=None), r"layers = null is not a list"),
        (
            lambda config: config["encoder"].update(relative_positions={"spam": 3}),
            r"encoder\.relative_positions\.spam is not known",
        ),
        (
            lambda config: config["encoder"]["embeddings"].update(dropout_rate=float("nan")),
            r"encoder\.embeddings\.dropout_rate = NaN is not a finite number",
        ),
        (lambda config: config.update(id2label=["no"]), "id2label must be an object"),
        (lambda config: config.update(id2label={"zero": "no"}), "id2label numbers its labels zero"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(spoil: Any, message: str) -> None:
    config = native.write_config(ModelConfig(PLAIN, HEADS["sequence"], ("no", "yes")))
    config = json.loads(json.dumps(config))
    spoil(config)
    with pytest.raises(EncodaxError, match=message):
        native.read_config(config)
