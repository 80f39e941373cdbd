"""BERT's published configuration and tensor names."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import pytest

from encodax import families
from encodax.config import EmbeddingsConfig, EncoderConfig, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert, native
from encodax.model import initial_params
from encodax.training.settings import NewModel

ENCODER = NewModel(layers=2, width=16, heads=2, ffn=24, max_positions=32).encoder(100)
LABELS = ("no", "yes")
CONFIGS = {
    kind: ModelConfig(
        ENCODER,
        head=None if kind == "encoder" else bert.head(kind, 2, 0.1),
        labels=() if kind == "encoder" else LABELS,
    )
    for kind in ("encoder", "sequence", "token")
}


def published(**changes: Any) -> dict[str, Any]:
    return {**bert.write_config(CONFIGS["sequence"]), **changes}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_reads_back_as_it_was(kind: str) -> None:
    assert bert.read_config(bert.write_config(CONFIGS[kind])) == CONFIGS[kind]


def test_the_published_keys_say_what_transformers_reads() -> None:
    assert published() == {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": 100,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": 0.1,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }


def test_labels_come_in_the_order_of_their_numbers() -> None:
    names = {str(index): f"label {index}" for index in reversed(range(11))}
    assert bert.read_config(published(id2label=names)).labels == tuple(
        f"label {index}" for index in range(11)
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "swish"}, "hidden_act 'swish'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 3}, "16 is not a multiple of num_attention_heads 3"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    ],
)
def test_what_our_blocks_do_not_compute_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(EncodaxError, match=named):
        bert.read_config(published(**changes))


@pytest.mark.parametrize("key", ["hidden_size", "layer_norm_eps", "vocab_size", "architectures"])
def test_a_missing_key_is_named(key: str) -> None:
    config = published()
    del config[key]
    with pytest.raises(EncodaxError, match=f"'{key}' is missing"):
        bert.read_config(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": []},
        {"architectures": None},
        {"id2label": ["no", "yes"]},
        {"id2label": {"zero": "no"}},
        {"hidden_size": "16"},
        {"num_attention_heads": 0},
        {"hidden_act": ["gelu"]},
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_an_error_of_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(EncodaxError, match=r"^config\.json: .*$"):
        bert.read_config(published(**changes))


@pytest.mark.parametrize(("kind", "classes"), [("sequence", 2), ("token", 2), ("encoder", 0)])
def test_classes_without_names_are_the_two_of_transformers(kind: str, classes: int) -> None:
    config = bert.write_config(CONFIGS[kind])
    del config["id2label"], config["label2id"]  # transformers leaves its default out
    read = bert.read_config(config)
    assert read.labels == ("LABEL_0", "LABEL_1")[:classes]
    assert (read.head.classes if read.head else 0) == classes


def test_the_dropout_of_the_head_is_the_encoders_where_it_is_null() -> None:
    read = bert.read_config(published(classifier_dropout=None, hidden_dropout_prob=0.25))
    assert read.head is not None
    assert read.head.dropout_rate == 0.25


def bert_names(layers: int, *, pooler: bool) -> dict[str, tuple[str, ...]]:
    """Every tensor of `BertForSequenceClassification`, or `BertForTokenClassification`."""
    norms = ("weight", "bias")
    names = {
        "bert.embeddings.word_embeddings": ("weight",),
        "bert.embeddings.position_embeddings": ("weight",),
        "bert.embeddings.token_type_embeddings": ("weight",),
        "bert.embeddings.LayerNorm": norms,
        "classifier": ("weight", "bias"),
    }
    for index in range(layers):
        layer = f"bert.encoder.layer.{index}"
        for module in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "attention.output.LayerNorm",
            "intermediate.dense",
            "output.dense",
            "output.LayerNorm",
        ):
            names[f"{layer}.{module}"] = ("weight", "bias")
    return names | ({"bert.pooler.dense": ("weight", "bias")} if pooler else {})


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_every_parameter_has_a_tensor_and_every_tensor_a_parameter(kind: str) -> None:
    config = CONFIGS[kind]
    shapes = jax.eval_shape(functools.partial(initial_params, config), jax.random.key(0))
    found = sorted(
        bert.tensor(config, module, leaf).name
        for module, leaves in shapes.items()
        for leaf in leaves
    )
    wanted = bert_names(2, pooler=kind == "sequence")
    assert found == sorted(f"{module}.{leaf}" for module in wanted for leaf in wanted[module])


@pytest.mark.parametrize(
    ("path", "leaf", "name"),
    [
        ("encoder/embeddings/token", "w", "bert.embeddings.word_embeddings.weight"),
        ("encoder/embeddings/norm", "beta", "bert.embeddings.LayerNorm.bias"),
        (
            "encoder/layer_11/attention/query",
            "w",
            "bert.encoder.layer.11.attention.self.query.weight",
        ),
        ("encoder/layer_0/feed_forward/down", "b", "bert.encoder.layer.0.output.dense.bias"),
        ("head/dense", "w", "bert.pooler.dense.weight"),
        ("head/output", "b", "classifier.bias"),
    ],
)
def test_a_parameter_has_its_published_name(path: str, leaf: str, name: str) -> None:
    assert bert.tensor(CONFIGS["sequence"], path, leaf).name == name


def test_an_encoder_alone_has_no_prefix() -> None:
    tensor = bert.tensor(CONFIGS["encoder"], "encoder/embeddings/token", "w")
    assert tensor.name == "embeddings.word_embeddings.weight"


def test_a_family_is_chosen_that_holds_the_configuration() -> None:
    assert families.family_for(CONFIGS["token"]).MODEL_TYPE == "bert"


@pytest.mark.parametrize(
    "change",
    [
        lambda encoder: dataclasses.replace(encoder, final_norm=encoder.layers[0].norm),
        lambda encoder: dataclasses.replace(
            encoder,
            layers=(dataclasses.replace(encoder.layers[0], placement="pre"), encoder.layers[1]),
        ),
        lambda encoder: EncoderConfig(
            EmbeddingsConfig(100, 16, positions="sinusoidal", max_positions=None), encoder.layers
        ),
        lambda encoder: dataclasses.replace(encoder, layers=()),
    ],
    ids=["final norm", "one pre-norm layer", "sinusoidal", "no layer"],
)
def test_other_combinations_are_of_no_published_family(change: Any) -> None:
    config = dataclasses.replace(CONFIGS["token"], encoder=change(ENCODER))
    assert families.family_for(config).MODEL_TYPE == "encodax"
    assert native.read_config(native.write_config(config)) == config


def test_an_unknown_model_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EncodaxError, match="'gpt2' is not supported; supported: bert, encodax"):
        families.family_named("gpt2")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.pop("encoder"),
        lambda config: config["head"].update(new=1),
        lambda config: config["encoder"].update(layers=[3]),
        lambda config: config.update(id2label=["no"]),
        lambda config: config.update(id2label={"zero": "no"}),
    ],
)
def test_a_native_configuration_that_is_not_ours_is_refused(spoil: Any) -> None:
    config = native.write_config(CONFIGS["sequence"])
    spoil(config)
    with pytest.raises(EncodaxError, match="not a configuration of Encodax"):
        native.read_config(config)
