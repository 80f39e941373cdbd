"""What holds for every published family, over the configurations that the parity tests store."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from typing import Any

import goldens
import numpy as np
import pytest
from goldens import ALL, ENCODERS

from encodax import families
from encodax.config import HeadConfig, HeadKind, ModelConfig, NormConfig
from encodax.errors import EncodaxError
from encodax.families.config_reader import ACTIVATIONS, published_name
from encodax.families.labels import labels_of
from encodax.families.published import PublishedFamily
from encodax.families.spec import shape_of

KINDS = ("sequence", "token", "span", "vocabulary")
PUBLISHED = [
    each for each in families.ENCODERS.by_name.values() if isinstance(each, PublishedFamily)
]
BY_GOLDEN = pytest.mark.parametrize("golden", ALL)
BY_ENCODER = pytest.mark.parametrize("golden", ENCODERS.values(), ids=ENCODERS)


def test_every_published_family_has_goldens() -> None:
    assert {goldens.family_of(golden).MODEL_TYPE for golden in ALL} == {
        family.MODEL_TYPE for family in PUBLISHED
    }


@BY_GOLDEN
def test_a_configuration_reads_back_as_it_was(golden: str) -> None:
    family, config = goldens.family_of(golden), goldens.read(golden)
    again = json.loads(json.dumps(family.write_config(config)))  # as a file has it
    assert family.read_config(again) == config
    assert config.family == family.MODEL_TYPE


@BY_GOLDEN
def test_what_is_written_is_what_transformers_wrote(golden: str) -> None:
    """Every key that both have says the same."""
    theirs = goldens.published(golden)
    ours = json.loads(json.dumps(goldens.family_of(golden).write_config(goldens.read(golden))))
    assert ours["architectures"] == theirs["architectures"]
    for key in ours.keys() & theirs.keys():
        usual = {"classifier_dropout": 0.1, "max_relative_positions": 24}  # of null and of -1
        if key == "classifier_dropout" and theirs[key] is None:
            usual[key] = theirs["hidden_dropout_prob"]
        alike = ours[key] == theirs[key]
        if isinstance(ours[key], list):
            alike = sorted(ours[key]) == sorted(theirs[key])
        assert alike or ours[key] == usual.get(key), key


@BY_GOLDEN
def test_each_part_of_the_model_stands_once_and_all_of_it_in_the_file(golden: str) -> None:
    """The names and shapes are those of the file's header, and parts fill a tensor."""
    family, config = goldens.family_of(golden), goldens.read(golden)
    parts: dict[str, dict[int, int]] = {}
    named: dict[str, tuple[int, ...]] = {}
    for path, leaves in goldens.shapes(config).items():
        for leaf, shape in leaves.items():
            tensor = family.tensor(config, path, leaf)
            assert tensor.part not in parts.setdefault(tensor.name, {}), tensor.name
            parts[tensor.name][tensor.part] = tensor.parts
            assert named.setdefault(tensor.name, tensor.file_shape(shape)) == tensor.file_shape(
                shape
            )
    for found in parts.values():
        (count,) = set(found.values())
        assert sorted(found) == list(range(count))

    in_file = {family.canonical(name): shape for name, shape in goldens.stored(golden).items()}
    assert len(in_file) == len(goldens.stored(golden))
    assert named.items() <= in_file.items()
    for name in in_file.keys() - named.keys():
        assert family.is_ignored(config, name) or family.tensor_aliases.get(name) in named, name


RENAMED = ("-own-names", "vocabulary-lm-predictions")


@pytest.mark.parametrize(
    "golden",
    [
        golden
        for golden in ALL
        if not golden.endswith(RENAMED) and not golden.startswith(("esm", "nomic_bert"))
    ],
)
def test_the_names_of_our_files_are_those_of_transformers(golden: str) -> None:
    family, config = goldens.family_of(golden), goldens.read(golden)
    ours = {
        family.stored_name(config, family.tensor(config, path, leaf).name)
        for path, leaves in goldens.shapes(config).items()
        for leaf in leaves
    }
    theirs = goldens.stored(golden).keys()
    assert ours <= theirs
    assert all(
        family.is_ignored(config, family.canonical(name))
        or family.canonical(name) in family.tensor_aliases
        for name in theirs - ours
    )


@BY_GOLDEN
def test_a_parameter_comes_back_from_its_tensor(golden: str) -> None:
    family, config = goldens.family_of(golden), goldens.read(golden)
    random = np.random.default_rng(0)
    for path, leaves in goldens.shapes(config).items():
        for leaf, shape in leaves.items():
            tensor = family.tensor(config, path, leaf)
            parameter = random.standard_normal(shape).astype(np.float32)
            others = random.standard_normal((tensor.parts, *tensor.to_file(parameter).shape))
            others = others.astype(np.float32)
            others[tensor.part] = tensor.to_file(parameter)
            fused = others.reshape(-1, *others.shape[2:])
            assert fused.shape == tensor.file_shape(shape)
            np.testing.assert_array_equal(tensor.to_parameter(fused, shape), parameter)


@BY_GOLDEN
def test_a_name_in_its_one_form_stays_as_it_is(golden: str) -> None:
    family = goldens.family_of(golden)
    for name in goldens.stored(golden):
        canonical = family.canonical(name)
        assert family.canonical(canonical) == canonical


@BY_ENCODER
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_is_one_that_the_family_can_hold(golden: str, kind: HeadKind) -> None:
    """Every head of the table: its configuration reads back, and all its tensors have a place."""
    family, bare = goldens.family_of(golden), goldens.read(golden)
    assert isinstance(family, PublishedFamily)
    labels = ("a", "b", "c") if kind in ("sequence", "token") else ()
    classes = {"span": 2, "vocabulary": bare.encoder.embeddings.vocabulary_size}.get(kind, 3)
    head = family.new_head(bare, kind, classes)
    config = dataclasses.replace(bare, head=head, labels=labels)
    if kind not in family.classes:
        with pytest.raises(EncodaxError, match=f"{family.MODEL_TYPE} has no head of the kind"):
            family.write_config(config)
        return
    assert (head.kind, head.classes) == (kind, classes)
    assert family.read_config(family.write_config(config)) == config
    assert families.ENCODERS.holding(config) is family
    places = Counter(
        (tensor.name, tensor.part)
        for path, leaves in goldens.shapes(config).items()
        for leaf in leaves
        for tensor in [family.tensor(config, path, leaf)]
    )
    assert set(places.values()) == {1}


@BY_GOLDEN
def test_a_model_goes_back_to_the_family_that_it_was_read_from(golden: str) -> None:
    assert families.ENCODERS.holding(goldens.read(golden)) is goldens.family_of(golden)


def test_without_a_family_it_is_the_first_that_can_hold_it() -> None:
    config = dataclasses.replace(goldens.read("camembert/token"), family=None)
    assert families.ENCODERS.holding(config).MODEL_TYPE == "roberta"
    config = dataclasses.replace(goldens.read("xlm-roberta/span"), family="bert")
    assert families.ENCODERS.holding(config).MODEL_TYPE == "roberta"


@BY_ENCODER
def test_what_the_family_cannot_hold_goes_to_another_or_to_none(golden: str) -> None:
    config = goldens.read(golden)
    placement = "post" if config.encoder.layers[0].placement == "pre" else "pre"
    other = tuple(
        dataclasses.replace(layer, placement=placement) for layer in config.encoder.layers
    )
    odd = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, layers=other))
    assert families.ENCODERS.holding(odd).MODEL_TYPE == "encodax"


@BY_ENCODER
def test_a_head_that_no_family_has_is_native(golden: str) -> None:
    head = HeadConfig("token", 2, dense_width=5, activation="silu", norm=NormConfig(0.5))
    config = dataclasses.replace(goldens.read(golden), head=head, labels=("a", "b"))
    assert families.ENCODERS.holding(config).MODEL_TYPE == "encodax"


@BY_ENCODER
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2Model"]}, "the architecture 'GPT2Model' is not supported; known"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config: quantized"),
        ({"rope_scaling": {"factor": 2.0}}, "scaled rotary positions (rope_scaling) are not"),
        ({"dtype": "int8"}, "dtype 'int8' is not supported"),
        ({"torch_dtype": "float64"}, "torch_dtype 'float64' is not supported"),
        ({"vocab_size": 0}, "vocab_size = 0 is not a whole number >= 1"),
        ({"vocab_size": "40"}, "vocab_size = '40' is not a whole number"),
        ({"pad_token_id": -1}, "pad_token_id = -1 is not a whole number"),
        ({"max_position_embeddings": 0}, "max_position_embeddings = 0 is not a whole number >= 1"),
    ],
    ids=str,
)
def test_what_no_family_computes_is_refused(
    golden: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncodaxError, match=rf"^config\.json: {re.escape(message)}"):
        goldens.read(golden, **changes)


@BY_ENCODER
@pytest.mark.parametrize("field", ["heads", "activation", "norm_eps", "dropout_rate"])
def test_a_broken_value_is_named_by_its_published_key(golden: str, field: str) -> None:
    family = goldens.family_of(golden)
    assert isinstance(family, PublishedFamily)
    if field not in family.keys:
        lacks = (family.MODEL_TYPE, field)
        assert lacks in {("esm", "activation"), ("distilbert", "norm_eps")}
        return
    key = family.keys[field]
    bad = {"heads": 3, "activation": "relu6", "norm_eps": "tiny", "dropout_rate": 1.5}[field]
    with pytest.raises(EncodaxError, match=rf"^config\.json: .*\b{key}\b"):
        goldens.read(golden, **{key: bad})


@BY_ENCODER
def test_every_option_that_is_computed_in_one_form_is_refused_in_another(golden: str) -> None:
    family = goldens.family_of(golden)
    assert isinstance(family, PublishedFamily)
    for key, value in family.fixed.items():
        with pytest.raises(EncodaxError, match=rf"^config\.json: {key} = .* is not supported"):
            goldens.read(golden, **{key: not value if isinstance(value, bool) else "other"})


@BY_ENCODER
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", None])
def test_weights_of_these_types_are_read(golden: str, dtype: str | None) -> None:
    assert goldens.read(golden, dtype=dtype, torch_dtype=dtype) == goldens.read(golden)


def test_labels_are_in_the_order_of_their_numbers() -> None:
    names = {str(index): chr(97 + index) for index in (10, 2, 0, 1, 9, 3, 4, 5, 6, 7, 8)}
    assert labels_of({"id2label": names}) == tuple("abcdefghijk")


def test_labels_that_are_missing_are_numbered() -> None:
    assert labels_of({}) == ("LABEL_0", "LABEL_1")
    assert labels_of({"num_labels": 3}) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert labels_of({"id2label": {}}) == ()


def test_numbers_of_labels_that_leave_one_out_are_refused() -> None:
    with pytest.raises(EncodaxError, match="id2label numbers its labels 0, 2"):
        labels_of({"id2label": {"0": "a", "2": "b"}})


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS.values())))
def test_an_activation_of_ours_has_a_published_name(name: str) -> None:
    assert ACTIVATIONS[published_name(name)] == name


def test_an_activation_that_no_family_has_is_named() -> None:
    with pytest.raises(
        EncodaxError, match="activation linear is not supported by published families"
    ):
        published_name("linear")


def test_a_model_without_layers_is_of_no_published_family(unchecked_types: None) -> None:
    config = goldens.read("bert/encoder")
    empty = ModelConfig(dataclasses.replace(config.encoder, layers=()))
    with pytest.raises(EncodaxError, match="at least one layer"):
        shape_of(empty)
