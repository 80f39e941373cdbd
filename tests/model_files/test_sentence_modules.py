"""The module files of sentence-transformers: what is read, what is refused, and what comes back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from directories import (
    assert_same_parameters,
    edit_json,
    load_refusal,
    published,
    refusal,
    store,
    tensors_of,
)

from encodax.config import InferenceConfig
from encodax.errors import EncodaxError
from encodax.model_files import sentence_modules
from encodax.model_files.sentence_modules import ACTIVATIONS, POOLING_FLAGS, POOLINGS, SIMILARITIES
from encodax.models.encoder_model import Model

TRANSFORMER, POOLING = "sentence_transformers.models.Transformer", "1_Pooling"
LINEAR_WEIGHT = np.arange(24, dtype=np.float32).reshape(3, 8)
LINEAR_BIAS = np.arange(3, dtype=np.float32)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def modules(*kinds: str) -> list[dict[str, Any]]:
    return [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]


def flags(*modes: str) -> dict[str, bool]:
    return {flag: mode in modes for flag, mode in POOLING_FLAGS.items()}


def write_dense(directory: Path, activation: str = "activation.Tanh", **config: Any) -> Path:
    folder = directory / "2_Dense"
    content = {
        "in_features": 8,
        "out_features": 3,
        "bias": True,
        "activation_function": f"torch.nn.modules.{activation}",
    }
    write_json(folder / "config.json", content | config)
    write_json(directory / "modules.json", modules("Transformer", "Pooling", "Dense"))
    store(folder, {"linear.weight": LINEAR_WEIGHT, "linear.bias": LINEAR_BIAS})
    return folder


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A published embedder: the mean of the tokens."""
    place = published(tmp_path / "model", "bert/encoder")
    write_json(place / "modules.json", modules("Transformer", "Pooling"))
    config = {"word_embedding_dimension": 8, **flags("mean"), "include_prompt": True}
    write_json(place / POOLING / "config.json", config)
    return place


def read(directory: Path) -> sentence_modules.SentenceModules:
    found = sentence_modules.read(directory)
    assert found is not None
    return found


def read_refusal(directory: Path) -> str:
    return refusal(lambda: sentence_modules.read(directory))


# --- modules.json


def test_a_directory_without_modules_is_no_embedder(directory: Path) -> None:
    (directory / "modules.json").unlink()
    assert sentence_modules.read(directory) is None


@pytest.mark.parametrize("package", ["models", "sentence_transformer.modules", "base.modules.x"])
def test_old_and_new_names_of_modules_are_known(directory: Path, package: str) -> None:
    listed = modules("Transformer", "Pooling", "Normalize")
    for module in listed:
        module["type"] = module["type"].replace("models", package)
    write_json(directory / "modules.json", listed)
    assert read(directory).head.normalize


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("Transformer",),
        ("Pooling", "Transformer"),
        ("Transformer", "Pooling", "Pooling"),
        ("Transformer", "Pooling", "Normalize", "Dense"),
        ("Transformer", "Pooling", "Normalize", "Normalize"),
        ("Transformer", "Pooling", "LayerNorm", "Dense"),
        ("Transformer", "WeightedLayerPooling", "Pooling"),
        ("Transformer", "Pooling", "Dropout", "Dropout", "Dropout"),
        ("Transformer", "WordWeights", "Pooling"),
        ("StaticEmbedding",),
        ("CLIPModel",),
    ],
    ids=" ".join,
)
def test_other_modules_are_refused(directory: Path, kinds: tuple[str, ...]) -> None:
    write_json(directory / "modules.json", modules(*kinds))
    message = read_refusal(directory)
    assert f"the modules {list(kinds)} are not supported" in message
    assert "known, in this order: Transformer, Pooling" in message


def test_a_module_of_the_directory_s_own_code_is_refused(directory: Path) -> None:
    listed = modules("Transformer", "Pooling")
    listed[0]["type"] = "custom_st.Transformer"
    write_json(directory / "modules.json", listed)
    message = load_refusal(directory)
    assert "['custom_st.Transformer', 'Pooling'] are not supported" in message
    assert "and code of a directory is not run" in message


@pytest.mark.parametrize("place", ["..", "../other", "/etc", "a/b", "1_Pooling/..", "a\nb"])
def test_a_module_outside_the_directory_is_refused(directory: Path, place: str) -> None:
    listed = modules("Transformer", "Pooling")
    listed[1]["path"] = place
    write_json(directory / "modules.json", listed)
    assert f"{place!r} is outside the directory" in read_refusal(directory)


def test_the_encoder_may_stand_in_a_folder(directory: Path) -> None:
    whole = Model.load(directory)
    folder = directory / "0_Transformer"
    folder.mkdir()
    for path in [*directory.glob("*.safetensors"), *directory.glob("*ken*.json")]:
        path.rename(folder / path.name)
    (directory / "config.json").rename(folder / "config.json")
    listed = modules("Transformer", "Pooling")
    listed[0]["path"] = folder.name
    write_json(directory / "modules.json", listed)
    assert_same_parameters(Model.load(directory), whole)


BROKEN = ["", "{", "7", "[" * 100_000]


@pytest.mark.parametrize("content", [*BROKEN, "{}", "[7]", '["x"]', '[{"type": 7}]', "[{}]"])
def test_a_broken_list_of_modules_is_refused(directory: Path, content: str) -> None:
    (directory / "modules.json").write_text(content)
    assert str(directory / "modules.json") in read_refusal(directory)


# --- pooling


@pytest.mark.parametrize(("published_mode", "pooling"), POOLINGS.items())
def test_a_pooling_is_read_in_both_forms(
    directory: Path, published_mode: str, pooling: str
) -> None:
    path = directory / POOLING / "config.json"
    write_json(path, {"word_embedding_dimension": 8, **flags(published_mode)})
    assert read(directory).head.pooling == pooling
    write_json(path, {"embedding_dimension": 8, "pooling_mode": published_mode})
    assert read(directory).head.pooling == pooling


def test_flags_that_are_left_out_have_the_published_defaults(directory: Path) -> None:
    path = directory / POOLING / "config.json"
    write_json(path, {"word_embedding_dimension": 8})
    assert read(directory).head.pooling == "mean"
    write_json(path, {"pooling_mode_cls_token": True})
    assert read(directory).head.pooling == "cls"
    write_json(path, flags())
    assert read(directory).head.pooling == "mean"


def test_several_poolings_are_joined_in_the_order_of_the_list_or_of_the_flags(
    directory: Path,
) -> None:
    path = directory / POOLING / "config.json"
    write_json(path, flags("mean", "cls"))
    assert read(directory).head.pooling == ("cls", "mean")
    write_json(path, {**flags("max"), "pooling_mode": ["mean", "cls"]})
    assert read(directory).head.pooling == ("mean", "cls")
    write_json(path, {"pooling_mode": ["max"]})
    assert read(directory).head.pooling == "max"
    assert not read(directory).files["1_Pooling/config.json"].kept


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode": "attention"}, 'pooling_mode "attention" is not supported; known, alone'),
        ({"pooling_mode": []}, "pooling_mode [] is not supported"),
        ({"pooling_mode": ["cls", 7]}, 'pooling_mode ["cls", 7] is not supported'),
        ({"pooling_mode": {"cls": True}}, 'pooling_mode {"cls": true} is not supported'),
        ({"pooling_mode": 7}, "pooling_mode 7 is not supported"),
        ({"pooling_mode_cls_token": 1}, "pooling_mode_cls_token = 1 is not true or false"),
        ({"include_prompt": None}, "include_prompt = null is not true or false"),
        ({**flags("mean"), "weights": [1]}, "weights = [1] is not supported: it is not known here"),
        ({"embedding_dimension": "8"}, 'embedding_dimension = "8" is not a whole number >= 1'),
    ],
    ids=str,
)
def test_another_pooling_is_refused(directory: Path, config: dict[str, Any], expected: str) -> None:
    write_json(directory / POOLING / "config.json", config)
    message = read_refusal(directory)
    assert str(directory / POOLING / "config.json") in message
    assert expected in message


@pytest.mark.parametrize("content", [*BROKEN, "[]", None])
def test_a_broken_or_missing_pooling_is_refused(directory: Path, content: str | None) -> None:
    path = directory / POOLING / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert str(path) in read_refusal(directory)


# --- the dense layer


@pytest.mark.parametrize(
    ("published_name", "ours"),
    [("activation.Tanh", "tanh"), ("linear.Identity", "linear"), ("activation.ReLU", "relu"),
     ("activation.GELU", "gelu_erf")],
)  # fmt: skip
def test_a_dense_layer_is_read(directory: Path, published_name: str, ours: str) -> None:
    write_dense(directory, published_name)
    model = Model.load(directory)
    assert model.config.head is not None
    assert (model.config.head.dense_width, model.config.head.activation) == (3, ours)
    np.testing.assert_array_equal(model.params["head/dense"]["w"], LINEAR_WEIGHT.T)
    np.testing.assert_array_equal(model.params["head/dense"]["b"], LINEAR_BIAS)


def test_a_dense_layer_without_bias_is_read(directory: Path) -> None:
    folder = write_dense(directory, bias=False)
    assert "linear.bias belongs to no parameter" in load_refusal(directory)
    store(folder, {"linear.weight": LINEAR_WEIGHT})
    assert Model.load(directory).params["head/dense"].keys() == {"w"}


def test_a_dense_layer_in_half_precision_is_read(directory: Path) -> None:
    folder = write_dense(directory)
    half = {"linear.weight": LINEAR_WEIGHT, "linear.bias": LINEAR_BIAS}
    store(folder, {name: array.astype(np.float16) for name, array in half.items()})
    w = Model.load(directory).params["head/dense"]["w"]
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w, LINEAR_WEIGHT.T)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"activation_function": "torch.nn.modules.activation.PReLU"}, "is not supported; known"),
        ({"activation_function": "evil.code.Tanh"}, 'activation_function = "evil.code.Tanh"'),
        ({"activation_function": None}, "activation_function = null is not supported"),
        ({"activation_function": ["torch.nn.Tanh"]}, "is not supported; known, of torch.nn"),
        ({"use_residual": True}, "use_residual = true is not supported"),
        ({"module_input_name": "token_embeddings"}, 'module_input_name = "token_embeddings"'),
        ({"module_output_name": "x"}, 'module_output_name = "x" is not supported'),
        ({"out_features": 0}, "out_features = 0 is not a whole number >= 1"),
        ({"out_features": True}, "out_features = true is not a whole number >= 1"),
        ({"out_features": "3"}, 'out_features = "3" is not a whole number >= 1'),
        ({"out_features": None}, "out_features = null is not a whole number >= 1"),
        ({"bias": "x"}, 'bias = "x" is not true or false'),
        ({"bias": None}, "bias = null is not true or false"),
    ],
)  # fmt: skip
def test_another_dense_layer_is_refused(
    directory: Path, config: dict[str, Any], expected: str
) -> None:
    folder = write_dense(directory, **config)
    message = read_refusal(directory)
    assert str(folder / "config.json") in message
    assert expected in message


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, "linear.weight is missing (wanted (3, 8)); linear.bias is missing (wanted (3,))"),
        ({"linear.weight": LINEAR_WEIGHT}, "linear.bias is missing (wanted (3,))"),
        (
            {"linear.weight": LINEAR_WEIGHT.T, "linear.bias": LINEAR_BIAS},
            "linear.weight is F32 (8, 3), wanted F32, F16, BF16 (3, 8)",
        ),
        (
            {"linear.weight": LINEAR_WEIGHT * np.float32("nan"), "linear.bias": LINEAR_BIAS},
            "linear.weight holds a value that is not finite",
        ),
        (
            {"linear.weight": LINEAR_WEIGHT.astype(np.int64), "linear.bias": LINEAR_BIAS},
            "linear.weight is I64 (3, 8), wanted F32",
        ),
        (
            {"linear.weight": LINEAR_WEIGHT, "linear.bias": LINEAR_BIAS, "x": LINEAR_BIAS},
            "x belongs to no parameter",
        ),
    ],
    ids=["empty", "no bias", "transposed", "nan", "whole numbers", "one too many"],
)
def test_the_weights_of_a_dense_layer_are_checked(
    directory: Path, tensors: dict[str, np.ndarray], expected: str
) -> None:
    folder = write_dense(directory)
    store(folder, tensors)
    assert load_refusal(directory).startswith(f"{folder / 'model.safetensors'}: {expected}")


def test_a_dense_layer_without_weights_is_refused(directory: Path) -> None:
    path = write_dense(directory) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert f"{path} cannot be read" in load_refusal(directory)
    path.unlink()
    assert load_refusal(directory).startswith(f"{path} does not exist")
    (path.parent / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin is not read: such a file can run code" in load_refusal(directory)
    (path.parent / "config.json").unlink()
    assert str(path.parent / "config.json") in load_refusal(directory)


def test_a_normalize_of_other_things_than_the_text_s_vector_is_refused(directory: Path) -> None:
    write_json(directory / "modules.json", modules("Transformer", "Pooling", "Normalize"))
    assert read(directory).head.normalize
    write_json(directory / "2_Normalize" / "config.json", {"module_input_name": "token_embeddings"})
    assert 'module_input_name = "token_embeddings" is not supported' in read_refusal(directory)


# --- lengths, prompts, similarity


def test_the_longest_sequence_is_that_of_the_file(directory: Path) -> None:
    assert Model.load(directory).max_length == 24  # what the positions allow
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 5})
    model = Model.load(directory)
    assert model.max_length == 5
    (encoding,), cut = model.encode(["the cat sat the cat sat the cat"], truncate=True)
    assert len(encoding) == 5
    assert cut == 1
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 100})
    assert Model.load(directory).max_length == 24


@pytest.mark.parametrize(("limit", "expected"), [(7, 7), (int(1e30), 24), (None, 24)])
def test_newer_files_keep_the_longest_sequence_with_the_tokenizer(
    directory: Path, limit: int | None, expected: int
) -> None:
    edit_json(
        directory / "tokenizer_config.json", lambda content: content.update(model_max_length=limit)
    )
    assert Model.load(directory).max_length == expected
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": None})
    assert Model.load(directory).max_length == expected


@pytest.mark.parametrize("key", ["model_max_length", "max_len"])
@pytest.mark.parametrize("golden", ["bert/encoder", "bert/token", "bert/sequence"])
def test_the_length_of_the_tokenizer_counts_for_any_model(
    tmp_path: Path, golden: str, key: str
) -> None:
    directory = published(tmp_path / "model", golden)
    edit_json(directory / "tokenizer_config.json", lambda content: content.update({key: 7}))
    assert Model.load(directory).max_length == 7
    if golden != "bert/encoder":
        assert Model.load(directory, encoder_only=True).max_length == 7


@pytest.mark.parametrize("value", [0, -1, 0.5, "x", True, [], {}])
def test_a_longest_sequence_that_is_none_is_refused(directory: Path, value: object) -> None:
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": value})
    assert f"max_seq_length = {json.dumps(value)} is not a whole number >= 1" in read_refusal(
        directory
    )


def test_texts_are_lowered_where_the_file_says_so(directory: Path) -> None:
    plain = Model.load(directory)
    write_json(directory / "sentence_bert_config.json", {"do_lower_case": True})
    lowering = Model.load(directory)
    wanted = plain.encode(["the cat sat"])[0][0].token_ids.tolist()
    assert plain.encode(["THE Cat sat"])[0][0].token_ids.tolist() != wanted
    assert lowering.encode(["THE Cat sat"])[0][0].token_ids.tolist() == wanted
    lowering.save(directory.parent / "saved")
    again = Model.load(directory.parent / "saved")
    assert again.config.usage == lowering.config.usage
    assert again.encode(["THE Cat sat"])[0][0].token_ids.tolist() == wanted


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_prompts_and_similarity_are_read(directory: Path, similarity: str) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    content = {"prompts": prompts, "default_prompt_name": "query"}
    path = directory / "config_sentence_transformers.json"
    write_json(path, content | {"similarity_fn_name": similarity})
    usage = Model.load(directory).config.usage
    assert usage == InferenceConfig(tuple(prompts.items()), "query", similarity)


@pytest.mark.parametrize("content", [{}, {"prompts": None, "similarity_fn_name": None}])
def test_there_are_no_prompts_by_default(directory: Path, content: dict[str, None]) -> None:
    write_json(directory / "config_sentence_transformers.json", content)
    assert read(directory).usage == InferenceConfig()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"prompts": ["a"]}, 'prompts = ["a"] is not an object of strings'),
        ({"prompts": {"a": 7}}, 'prompts = {"a": 7} is not an object of strings'),
        ({"prompts": "a"}, 'prompts = "a" is not an object of strings'),
        ({"default_prompt_name": "a"}, 'default_prompt_name = "a" is not one of the prompts'),
        ({"default_prompt_name": []}, "default_prompt_name = [] is not one of the prompts"),
        ({"similarity_fn_name": "cos"}, 'similarity_fn_name = "cos" is not supported'),
        ({"similarity_fn_name": ["dot"]}, 'similarity_fn_name = ["dot"] is not supported'),
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused(
    directory: Path, content: dict[str, Any], expected: str
) -> None:
    write_json(directory / "config_sentence_transformers.json", content)
    assert expected in read_refusal(directory)


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "config_sentence_transformers.json"])
@pytest.mark.parametrize("content", [*BROKEN, "[]"])
def test_broken_settings_are_refused(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content)
    assert str(directory / name) in read_refusal(directory)


# --- and back


@pytest.mark.parametrize(
    ("pooling", "activation", "normalize"),
    [
        *itertools.product(POOLINGS.values(), [None, "tanh", "linear"], [False, True]),
        *itertools.product(["mean"], ACTIVATIONS.values(), [False]),
    ],
)
def test_read_after_write_is_the_identity(
    tmp_path: Path, pooling: Any, activation: str | None, normalize: bool
) -> None:
    base = Model.load(published(tmp_path / "model", "bert/encoder"))
    model = base.with_embeddings(pooling, normalize=normalize)
    config, params = model.config, dict(model.params)
    assert config.head is not None
    if activation is not None:
        has_bias = normalize  # either, in turn
        head = dataclasses.replace(
            config.head, dense_width=3, dense_bias=has_bias, activation=activation
        )
        config = dataclasses.replace(config, head=head)
        bias = {"b": LINEAR_BIAS} if has_bias else {}
        params["head/dense"] = {"w": LINEAR_WEIGHT.T, **bias}
    usage = InferenceConfig((("query", "find: "), ("ü", "")), "query", "dot")
    config = dataclasses.replace(config, max_length=9, usage=usage)
    model = dataclasses.replace(model, config=config, params=params)
    model.save(tmp_path / "saved")
    again = Model.load(tmp_path / "saved")
    assert again.config == config
    assert_same_parameters(again, model)
    again.save(tmp_path / "again")
    for path in (tmp_path / "saved").rglob("*"):
        if path.is_file() and path.name != "README.md":  # it has the name of the directory
            other = tmp_path / "again" / path.relative_to(tmp_path / "saved")
            assert other.read_bytes() == path.read_bytes(), path.name


def test_an_embedder_of_a_model_with_a_head_takes_the_encoder_alone(tmp_path: Path) -> None:
    place = published(tmp_path / "model", "bert/sequence")
    encoder = Model.load(place)
    write_json(place / "modules.json", modules("Transformer", "Pooling"))
    write_json(place / POOLING / "config.json", flags("cls"))
    tensors = tensors_of(place)
    store(place, {name: a for name, a in tensors.items() if not name.startswith("classifier")})
    model = Model.load(place)
    assert model.config.head is not None
    assert model.config.head.kind == "embedding"
    for path, leaves in model.params.items():
        for leaf, array in leaves.items():
            np.testing.assert_array_equal(array, encoder.params[path][leaf])


@pytest.mark.parametrize("head", ["vocabulary", "sequence", "token", "span"])
def test_tensors_of_a_head_beside_an_embedder_are_carried(tmp_path: Path, head: str) -> None:
    place = published(tmp_path / "model", f"bert/{head}")
    write_json(place / "modules.json", modules("Transformer", "Pooling"))
    write_json(place / POOLING / "config.json", flags("cls"))
    model = Model.load(place)
    model.save(tmp_path / "saved")
    assert set(tensors_of(place)) == {
        name if name in model.extra_tensors else f"bert.{name}"
        for name in tensors_of(tmp_path / "saved")
    }


def test_the_file_of_a_dense_layer_is_safetensors_as_torch_has_it(directory: Path) -> None:
    write_dense(directory)
    Model.load(directory).save(directory.parent / "saved")
    saved = safetensors.numpy.load_file(
        directory.parent / "saved" / "2_Dense" / "model.safetensors"
    )
    np.testing.assert_array_equal(saved["linear.weight"], LINEAR_WEIGHT)
    np.testing.assert_array_equal(saved["linear.bias"], LINEAR_BIAS)


# --- every key


SENTENCE_GOLDENS = Path(__file__).parents[1] / "parity" / "goldens-sentence"
WRONG: list[Any] = [
    None, True, False, 0, -1, 7, 1.5, 1e400, "", "x", "\ud800", [], ["x"], [None], {}, {"x": 1},
    {"text": []}, {"text": {"max_length": "x"}}, [{"x": []}], "torch.nn.", 10**40,
]  # fmt: skip
FILES = [
    (name, file)
    for name, files in {
        "norm-and-dropout": [
            "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
            "3_LayerNorm/config.json", "4_Dropout/config.json", "5_Normalize/config.json",
        ],
        "prompt-left-out": ["config_sentence_transformers.json"],
        "truncated": ["config_sentence_transformers.json", "sentence_bert_config.json"],
        "length-of-arguments": ["sentence_bert_config.json"],
        "ce-prompts": ["config_sentence_transformers.json", "sentence_bert_config.json"],
    }.items()
    for file in files
]  # fmt: skip


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_value_of_a_wrong_type_is_one_line_or_changes_nothing(
    tmp_path: Path, name: str, file: str
) -> None:
    """Each key in turn has each of the values, and each file a key that nobody knows."""
    place = tmp_path / name
    shutil.copytree(SENTENCE_GOLDENS / name, place)
    path = place / file
    content = json.loads(path.read_text())
    objects = content if isinstance(content, list) else [content]
    refused = 0
    for each in objects:
        for key in [*each, "unheard_of"]:
            before = dict(each)
            for value in WRONG:
                each[key] = value
                path.write_text(json.dumps(content))
                try:
                    found = read(place)
                except EncodaxError as error:
                    refused += 1
                    assert file.split("/")[0] in str(error)
                    assert "\n" not in str(error)
                else:
                    assert file in found.files
            each.clear()
            each.update(before)
    assert refused > 10 * len(objects)


@pytest.mark.parametrize(
    ("name", "file", "key", "value", "expected"),
    [
        ("length-bert", "sentence_bert_config.json", "max_seq_len", 5, "max_seq_len = 5 is not"),
        ("truncated", "sentence_bert_config.json", "query_length", 5, "query_length = 5 is not"),
        ("truncated", "sentence_bert_config.json", "transformer_task", "fill-mask", "known: "),
        (
            "truncated",
            "sentence_bert_config.json",
            "modality_config",
            {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            "modality_config = {",
        ),
        ("truncated", "sentence_bert_config.json", "module_output_name", "x", 'known: "token_emb'),
        (
            "truncated",
            "sentence_bert_config.json",
            "tokenizer_args",
            {"truncation_side": "left"},
            'tokenizer_args: truncation_side = "left" is not supported',
        ),
        (
            "truncated",
            "sentence_bert_config.json",
            "processing_kwargs",
            {"text": {"truncation": "only_first"}},
            'truncation = "only_first" is not supported; known: true, "longest_first"',
        ),
        ("truncated", "config_sentence_transformers.json", "truncate_dim", 0, "truncate_dim = 0"),
        (
            "truncated",
            "config_sentence_transformers.json",
            "model_type",
            "SparseEncoder",
            'model_type = "SparseEncoder" is not supported; known: SentenceTransformer',
        ),
        (
            "ce-prompts",
            "config_sentence_transformers.json",
            "activation_fn",
            "torch.nn.modules.activation.Threshold",
            "activation_fn = ",
        ),
        (
            "ce-prompts",
            "config_sentence_transformers.json",
            "activation_fn",
            "my.code.Sigmoid",
            'activation_fn = "my.code.Sigmoid" is not supported; known, of torch.nn: Tanh',
        ),
        ("ce-prompts", "sentence_bert_config.json", "module_output_name", "x", 'known: "scores"'),
        (
            "ce-of-4",
            "config.json",
            "sentence_transformers",
            {"activation_fn": "x"},
            'sentence_transformers: activation_fn = "x" is not supported',
        ),
        ("ce-of-4", "config.json", "sentence_transformers", [7], "is not an object"),
        ("ce-of-3", "config.json", "sbert_ce_default_activation_function", 7, "function = 7"),
        ("two-dense", "3_Dense/config.json", "in_features", 8, "in_features = 8, and the module"),
        ("two-dense", "1_Pooling/config.json", "embedding_dimension", 9, "before it gives 8"),
        ("norm-and-dropout", "3_LayerNorm/config.json", "dimension", 8, "module before it gives 6"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_supported_is_named_with_its_file(
    tmp_path: Path, name: str, file: str, key: str, value: object, expected: str
) -> None:
    place = tmp_path / name
    shutil.copytree(SENTENCE_GOLDENS / name, place)
    edit_json(place / file, lambda content: content.update({key: value}))
    message = load_refusal(place)
    assert str(place / file) in message
    assert expected in message


def test_keys_that_change_nothing_are_kept_and_saved_back(tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(SENTENCE_GOLDENS / "two-dense", place)
    requirements = {"transformers": ">=4"}
    edit_json(place / "config_sentence_transformers.json",
              lambda content: content.update(requirements=requirements, mine=[7]))  # fmt: skip
    edit_json(
        place / "sentence_bert_config.json", lambda content: content.update(unpad_inputs=True)
    )
    edit_json(place / "2_Dense" / "config.json", lambda content: content.update(mine="x"))
    listed = json.loads((place / "modules.json").read_text())
    listed[3]["kwargs"] = ["task"]
    write_json(place / "modules.json", listed)
    model = Model.load(place)
    assert model.files["2_Dense/config.json"].kept == {"mine": "x"}
    assert "truncate_dim" not in model.files["config_sentence_transformers.json"].used
    assert model.files["modules.json"].kept["3.kwargs"] == ["task"]
    model.save(tmp_path / "saved")
    saved = {
        path: json.loads((tmp_path / "saved" / path).read_text())
        for path in ("config_sentence_transformers.json", "sentence_bert_config.json",
                     "2_Dense/config.json", "modules.json")
    }  # fmt: skip
    settings = saved["config_sentence_transformers.json"]
    assert (settings["requirements"], settings["mine"]) == (requirements, [7])
    assert settings["__version__"]["sentence_transformers"] == "6.2.0"
    assert saved["sentence_bert_config.json"]["unpad_inputs"] is True
    assert saved["2_Dense/config.json"]["mine"] == "x"
    assert [item.get("kwargs") for item in saved["modules.json"]] == [None] * 3 + [["task"], None]


@pytest.mark.parametrize("name", ["modules.json", "sentence_xlnet_config.json"])
def test_what_is_no_file_is_not_taken_for_nothing(directory: Path, name: str) -> None:
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(directory / "nowhere")
    assert f"{directory / name} is a link to nothing" in load_refusal(directory)


def test_two_modules_of_one_name_or_path_are_refused(directory: Path) -> None:
    listed = modules("Transformer", "Pooling", "Normalize")
    listed[2]["name"] = "1"
    write_json(directory / "modules.json", listed)
    assert 'two modules have the name "1"' in read_refusal(directory)
    listed[2] |= {"name": "2", "path": "1_Pooling"}
    write_json(directory / "modules.json", listed)
    assert "two modules have the same path" in read_refusal(directory)


# --- cross-encoders


def test_a_language_model_that_reranks_is_refused_by_name(tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(SENTENCE_GOLDENS / "ce-sigmoid", place)
    listed = json.loads((place / "modules.json").read_text())
    score = {
        "idx": 1,
        "name": "1",
        "path": "1_LogitScore",
        "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
    }
    write_json(place / "modules.json", [*listed, score])
    message = load_refusal(place)
    assert "['Transformer', 'LogitScore'] of a CrossEncoder are not supported" in message
    assert "LogitScore is for language models" in message


def test_a_cross_encoder_without_a_head_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(SENTENCE_GOLDENS / "ce-sigmoid", place)
    edit_json(place / "config.json", lambda content: content.update(architectures=["BertModel"]))
    assert "a CrossEncoder needs the head of a sequence classifier" in load_refusal(place)
    (place / "modules.json").unlink()  # the way out
    assert Model.load(place).config.head is None


def test_a_cross_encoder_embeds_without_its_prompts(tmp_path: Path) -> None:
    model = Model.load(SENTENCE_GOLDENS / "ce-prompts")
    assert model.config.usage.default_text
    assert model.with_embeddings().config.usage == InferenceConfig()
    assert model.with_head("sequence", labels=("a", "b")).config.usage == InferenceConfig()


@pytest.mark.parametrize(
    ("name", "activation"), [("ce-identity", "Identity"), ("ce-of-3", "Identity")]
)
def test_older_versions_find_the_activation_of_what_is_saved(
    tmp_path: Path, name: str, activation: str
) -> None:
    Model.load(SENTENCE_GOLDENS / name).save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"].endswith(activation)
    assert "sbert_ce_default_activation_function" not in config


def test_no_activation_of_an_older_head_is_saved_with_a_new_one(tmp_path: Path) -> None:
    model = Model.load(SENTENCE_GOLDENS / "ce-of-4").with_head("sequence", labels=("score",))
    model.save(tmp_path / "saved")
    assert "sentence_transformers" not in json.loads((tmp_path / "saved/config.json").read_text())
    assert not (tmp_path / "saved" / "modules.json").exists()
