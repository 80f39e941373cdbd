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
from encodax.models.forward import initial_params
from encodax.options.training import NewModel

BERT = bert.FAMILY
ENCODER = NewModel(layers=2, width=16, heads=2, ffn=24, max_positions=32).encoder(100)
LABELS = ("no", "yes")
CLASSES = {"sequence": 2, "token": 2, "span": 2, "vocabulary": 100}
BARE = ModelConfig(ENCODER, family="bert")
CONFIGS = {
    "encoder": BARE,
    **{
        kind: ModelConfig(
            ENCODER,
            head=BERT.new_head(BARE, kind, classes),  # type: ignore[arg-type]
            labels=LABELS if kind in ("sequence", "token") else (),
            family="bert",
        )
        for kind, classes in CLASSES.items()
    },
}


def published(**changes: Any) -> dict[str, Any]:
    return {**BERT.write_config(CONFIGS["sequence"]), **changes}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_reads_back_as_it_was(kind: str) -> None:
    assert BERT.read_config(BERT.write_config(CONFIGS[kind])) == CONFIGS[kind]


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
        "problem_type": "single_label_classification",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }


def test_labels_come_in_the_order_of_their_numbers() -> None:
    names = {str(index): f"label {index}" for index in reversed(range(11))}
    assert BERT.read_config(published(id2label=names, label2id=None)).labels == tuple(
        f"label {index}" for index in range(11)
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "relu6"}, "hidden_act 'relu6'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 3}, "16 is not a multiple of num_attention_heads 3"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"torch_dtype": "int8"}, "torch_dtype 'int8'"),
        ({"quantization_config": {"bits": 4}}, "quantized weights"),
        ({"problem_type": "ranking"}, "problem_type 'ranking'"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob = 1.0 is not in 0..1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0 is not a whole number >= 1"),
    ],
)
def test_what_our_blocks_do_not_compute_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(EncodaxError, match=named):
        BERT.read_config(published(**changes))


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "vocab_size"])
def test_a_missing_key_is_named(key: str) -> None:
    config = published()
    del config[key]
    with pytest.raises(EncodaxError, match=f"'{key}' is missing"):
        BERT.read_config(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": "BertModel"},
        {"architectures": [3]},
        {"architectures": ["BertModel", "BertForMaskedLM"]},
        {"id2label": ["no", "yes"]},
        {"id2label": {"zero": "no"}},
        {"hidden_size": "16"},
        {"num_attention_heads": 0},
        {"hidden_act": ["gelu"]},
        {"id2label": {"0": "no", "2": "yes"}},
        {"layer_norm_eps": float("nan")},
        {"hidden_size": True},
        {"classifier_dropout": "0.1"},
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_an_error_of_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(EncodaxError, match=r"^config\.json: .*$"):
        BERT.read_config(published(**changes))


@pytest.mark.parametrize(("kind", "classes"), [("sequence", 2), ("token", 2), ("encoder", 0)])
def test_classes_without_names_are_the_two_of_transformers(kind: str, classes: int) -> None:
    config = BERT.write_config(CONFIGS[kind])
    for key in ("id2label", "label2id"):  # transformers leaves its default out
        config.pop(key, None)
    read = BERT.read_config(config)
    assert read.labels == ("LABEL_0", "LABEL_1")[:classes]
    assert (read.head.classes if read.head else 0) == classes


def test_without_an_architecture_it_is_the_encoder_alone() -> None:
    config = published(architectures=None)
    assert BERT.read_config(config) == CONFIGS["encoder"]
    del config["architectures"]
    assert BERT.read_config(config) == CONFIGS["encoder"]


def test_what_is_left_out_is_what_transformers_takes() -> None:
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    config = {key: published()[key] for key in (*keys, "intermediate_size")}
    read = BERT.read_config(config)
    layer = read.encoder.layers[0]
    assert read.encoder.embeddings.max_positions == 512
    assert read.encoder.embeddings.type_vocabulary_size == 2
    assert layer.norm.eps == 1e-12
    assert layer.dropout_rate == layer.attention.dropout_rate == 0.1
    assert layer.feed_forward.activation == "gelu_erf"
    assert read.pad_id == 0


@pytest.mark.parametrize(
    ("published_name", "ours"),
    [("gelu", "gelu_erf"), ("gelu_new", "gelu_tanh"), ("relu", "relu"), ("swish", "silu")],
)
def test_an_activation_has_our_name(published_name: str, ours: str) -> None:
    read = BERT.read_config(published(hidden_act=published_name))
    assert {layer.feed_forward.activation for layer in read.encoder.layers} == {ours}


@pytest.mark.parametrize(
    ("names", "problem_type", "problem"),
    [
        (("no", "yes"), None, "single_label"),
        (("no", "yes"), "multi_label_classification", "multi_label"),
        (("score",), None, "regression"),
        (("score",), "regression", "regression"),
    ],
)
def test_the_scores_mean_what_is_said(names: Any, problem_type: Any, problem: str) -> None:
    id2label = {str(index): name for index, name in enumerate(names)}
    read = BERT.read_config(published(id2label=id2label, label2id=None, problem_type=problem_type))
    assert read.head is not None
    assert read.head.problem == problem
    assert read.head.classes == len(names)


def test_a_head_that_is_not_tied_has_weights_of_its_own() -> None:
    tied = BERT.write_config(CONFIGS["vocabulary"])
    assert tied["tie_word_embeddings"] is True
    read = BERT.read_config({**tied, "tie_word_embeddings": False})
    assert read.head is not None
    assert not read.head.tied
    assert BERT.read_config(BERT.write_config(read)) == read
    place = BERT.tensor(read, "head/output", "w")
    assert (place.name, place.layout) == ("cls.predictions.decoder.weight", "transposed")


@pytest.mark.parametrize("architecture", ["BertForPreTraining", "BertLMHeadModel"])
def test_a_class_with_more_heads_is_read_as_the_masked_lm(architecture: str) -> None:
    config = {**BERT.write_config(CONFIGS["vocabulary"]), "architectures": [architecture]}
    assert BERT.read_config(config) == CONFIGS["vocabulary"]


def test_the_dropout_of_the_head_is_the_encoders_where_it_is_null() -> None:
    read = BERT.read_config(published(classifier_dropout=None, hidden_dropout_prob=0.25))
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
        BERT.tensor(config, module, leaf).name
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
    assert BERT.tensor(CONFIGS["sequence"], path, leaf).name == name


def test_an_encoder_alone_has_no_prefix() -> None:
    tensor = BERT.tensor(CONFIGS["encoder"], "encoder/embeddings/token", "w")
    name = "embeddings.word_embeddings.weight"
    assert tensor.name == f"bert.{name}"
    assert BERT.stored_name(CONFIGS["encoder"], tensor.name) == name
    assert BERT.stored_name(CONFIGS["token"], tensor.name) == tensor.name
    assert BERT.canonical(name) == BERT.canonical(tensor.name) == tensor.name


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("encoder.layer.3.output.LayerNorm.beta", "bert.encoder.layer.3.output.LayerNorm.bias"),
        ("cls.predictions.bias", "cls.predictions.bias"),
        ("cls.seq_relationship.weight", "cls.seq_relationship.weight"),
        ("classifier.weight", "classifier.weight"),
        ("qa_outputs.bias", "qa_outputs.bias"),
        ("pooler.dense.weight", "bert.pooler.dense.weight"),
    ],
)
def test_a_stored_name_has_one_form(stored: str, canonical: str) -> None:
    assert BERT.canonical(stored) == canonical


def test_strays_are_those_that_published_files_carry() -> None:
    for name in ("bert.embeddings.position_ids", "cls.seq_relationship.bias"):
        assert BERT.is_ignored(CONFIGS["token"], name)
    for name in ("bert.encoder.layer.0.output.dense.bias", "cls.predictions.bias", "other"):
        assert not BERT.is_ignored(CONFIGS["token"], name)


@pytest.mark.parametrize("name", ["classifier.weight", "cls.predictions.bias", "qa_outputs.bias"])
def test_beside_a_bare_encoder_any_head_may_stand(name: str) -> None:
    assert BERT.is_ignored(CONFIGS["encoder"], name)
    assert not BERT.is_ignored(CONFIGS["sequence"], name)
    assert not BERT.is_ignored(CONFIGS["encoder"], "bert.encoder.layer.0.output.dense.bias")


def test_a_family_is_chosen_that_holds_the_configuration() -> None:
    assert families.ENCODERS.holding(CONFIGS["token"]).MODEL_TYPE == "bert"


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
    assert families.ENCODERS.holding(config).MODEL_TYPE == "encodax"
    read = native.read_config(native.write_config(config))
    assert read == dataclasses.replace(config, family="encodax")


def test_an_unknown_model_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        EncodaxError, match=r"'gpt2' is not supported; supported: bert, .*, encodax"
    ):
        families.family_named("gpt2")
