"""Adapters in PEFT's layout: written, read, and refused where they cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from directories import edit_json, load_refusal, published, refusal, small_tokenizer, tensors_of

import encodax
from encodax.config import InferenceConfig
from encodax.families import ENCODERS
from encodax.model_files.peft import check_base, check_savable
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Tokenizer
from encodax.training.step.lora import LoraConfig, save_adapter
from encodax.training.step.partition import merged_params, trainable
from encodax.types.batches import Params

KEY = jax.random.key(5)
LORA = LoraConfig(rank=3, alpha=6.0)
LABELS = ("no", "perhaps", "yes")
ROOT = "base_model.model."
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published BERT without a head, saved; no test changes it."""
    place = tmp_path_factory.mktemp("base")
    model = Model.load(published(place / "published", "bert/encoder"))
    replace(model, extra_tensors={}).save(place / "encoder")  # no pooler
    return place / "encoder"


@pytest.fixture(scope="module")
def made(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of that BERT, with a head."""
    return saved(encoder, tmp_path_factory.mktemp("adapter") / "adapter")[1]


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return shutil.copytree(made, tmp_path / "adapter")


def drawn(params: Params) -> Params:
    """Every leaf at random, so that no B is 0 and no bias hides."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jax.numpy.asarray(0.2 * generator.standard_normal(leaf.shape, np.float32)),
        params,
    )


def trained_beside(base: Path, lora: LoraConfig = LORA, **head: Any) -> tuple[Model, Params]:
    """A model with a new head and a random adapter merged, and what was trained of it."""
    model = Model.load(base).with_head("sequence", labels=LABELS, **head)
    trained, frozen = trainable(model.params, key=KEY, lora=lora)
    trained = drawn(trained)
    return replace(model, params=merged_params(trained, frozen)), trained


def saved(base: Path, place: Path, **head: Any) -> tuple[Model, Path]:
    model, trained = trained_beside(base, **head)
    save_adapter(place, model, trained, LORA, str(base))
    return model, place


def stored(place: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(place / "adapter_model.safetensors")


def store(place: Path, tensors: dict[str, np.ndarray]) -> None:
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    safetensors.numpy.save_file(tensors, place / "adapter_model.safetensors")


def as_peft_writes(place: Path) -> Path:
    """The same adapter, without what PEFT does not write."""
    for path in place.iterdir():
        if path.name not in ("adapter_config.json", "adapter_model.safetensors"):
            path.unlink()
    return place


def assert_same_model(first: Model, second: Model) -> None:
    """Up to the rounding of two ways to merge, compiled or not."""
    assert first.config.head == second.config.head
    assert first.config.labels == second.config.labels
    assert first.params.keys() == second.params.keys()
    for path, leaves in first.params.items():
        assert leaves.keys() == second.params[path].keys()
        for leaf, array in leaves.items():
            np.testing.assert_allclose(array, second.params[path][leaf], rtol=1e-6, atol=1e-7)


def test_what_was_saved_is_loaded_on_its_base(encoder: Path, tmp_path: Path) -> None:
    model, place = saved(encoder, tmp_path / "adapter", problem="multi_label")
    again = encodax.load(place)
    assert_same_model(again, model)
    assert again.config.head is not None
    assert again.config.head.problem == "multi_label"
    assert_same_model(Model.load(encoder).with_adapter(place), model)
    batch = model.batch(["the cat sat", "a dog"])
    np.testing.assert_allclose(
        again.apply(again.params, batch).logits, model.apply(model.params, batch).logits, rtol=1e-5
    )


def test_files_are_as_peft_has_them(encoder: Path, tmp_path: Path) -> None:
    model, trained = trained_beside(encoder)
    place = tmp_path / "adapter"
    save_adapter(place, model, trained, LORA, str(encoder))
    layers = len(model.config.encoder.layers)
    modules = [
        f"bert.encoder.layer.{layer}.attention.self.{name}"
        for layer in range(layers)
        for name in ("query", "value")
    ]
    content = json.loads((place / "adapter_config.json").read_text())
    assert content["peft_type"] == "LORA"
    assert content["task_type"] == "SEQ_CLS"
    assert content["base_model_name_or_path"] == str(encoder)
    assert (content["r"], content["lora_alpha"]) == (3, 6.0)
    assert content["target_modules"] == sorted(name.removeprefix("bert.") for name in modules)
    assert content["modules_to_save"] == ["classifier", "pooler.dense"]
    tensors = stored(place)
    factors = {f"{ROOT}{name}.lora_{f}.weight" for name in modules for f in "AB"}
    whole = {
        f"{ROOT}{name}.{leaf}"
        for name in ("bert.pooler.dense", "classifier")
        for leaf in ("weight", "bias")
    }
    assert tensors.keys() == factors | whole
    leaves = trained["encoder/layer_0/attention/query"]
    np.testing.assert_array_equal(tensors[f"{ROOT}{QUERY}.lora_A.weight"], leaves["lora_a"].T)
    b = np.asarray(leaves["lora_b"])
    np.testing.assert_array_equal(tensors[f"{ROOT}{QUERY}.lora_B.weight"], b.reshape(3, -1).T)
    np.testing.assert_array_equal(
        tensors[f"{ROOT}classifier.weight"], np.asarray(trained["head/output"]["w"]).T
    )


def test_the_weight_is_merged_as_the_paper_says(encoder: Path, tmp_path: Path) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    Model.load(place).save(tmp_path / "whole")
    tensors = stored(place)
    a, b = (tensors[f"{ROOT}{QUERY}.lora_{f}.weight"].astype(np.float64) for f in "AB")
    name = QUERY.removeprefix("bert.")
    wanted = tensors_of(encoder)[f"{name}.weight"] + 2.0 * b @ a
    np.testing.assert_allclose(
        tensors_of(tmp_path / "whole")[f"{QUERY}.weight"], wanted, rtol=1e-5, atol=1e-6
    )


def test_without_our_configuration_the_head_has_the_classes_of_the_file(
    encoder: Path, tmp_path: Path
) -> None:
    model, place = saved(encoder, tmp_path / "adapter")
    as_peft_writes(place)
    again = Model.load(place)
    assert again.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert_same_model(replace(again, config=replace(again.config, labels=LABELS)), model)


def test_a_head_that_was_frozen_is_saved_too_as_peft_wants_it(tmp_path: Path) -> None:
    base = published(tmp_path / "base")
    model = Model.load(base)
    trained, frozen = trainable(model.params, key=KEY, lora=LORA, freeze="^head/")
    trained = drawn(trained)
    wanted = replace(model, params=merged_params(trained, frozen))
    save_adapter(tmp_path / "adapter", wanted, trained, LORA, str(base))
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert content["modules_to_save"] == ["classifier", "pooler.dense"]
    np.testing.assert_array_equal(
        stored(tmp_path / "adapter")[f"{ROOT}classifier.weight"],
        np.asarray(model.params["head/output"]["w"]).T,
    )
    assert_same_model(Model.load(tmp_path / "adapter"), wanted)
    assert_same_model(Model.load(as_peft_writes(tmp_path / "adapter")), wanted)


def test_a_head_that_the_base_has_is_kept_where_the_adapter_has_none(tmp_path: Path) -> None:
    """So adapters were written before: nothing of a head that was frozen."""
    base = published(tmp_path / "base")
    model, place = written_before(base, tmp_path / "adapter")
    assert_same_model(Model.load(place), model)
    assert_same_model(Model.load(as_peft_writes(place)), model)


def written_before(base: Path, place: Path) -> tuple[Model, Path]:
    """An adapter as it was written with a `config.json` and without a tokenizer."""
    model = Model.load(base)
    trained, frozen = trainable(model.params, key=KEY, lora=LORA, freeze="^head/")
    trained = drawn(trained)
    model = replace(model, params=merged_params(trained, frozen))
    save_adapter(place, model, trained, LORA, str(base))
    (place / "adapted_config.json").rename(place / "config.json")
    for path in place.glob("tokenizer*"):
        path.unlink()
    edit_json(place / "adapter_config.json", lambda content: content.update(modules_to_save=None))
    whole = {name: array for name, array in stored(place).items() if ".lora_" not in name}
    store(place, {name: array for name, array in stored(place).items() if name not in whole})
    assert whole
    return model, place


def test_an_adapter_with_its_configuration_beside_it_as_written_before_is_read(
    encoder: Path, tmp_path: Path
) -> None:
    model, place = saved(encoder, tmp_path / "adapter", problem="multi_label")
    (place / "adapted_config.json").rename(place / "config.json")
    assert_same_model(Model.load(place), model)


def test_an_adapter_of_an_embedder_has_no_head(encoder: Path, tmp_path: Path) -> None:
    base = tmp_path / "embedder"
    Model.load(encoder).with_embeddings("mean", normalize=True).save(base)
    model = Model.load(base)
    trained, frozen = trainable(model.params, key=KEY, lora=LORA)
    trained = drawn(trained)
    save_adapter(tmp_path / "adapter", model, trained, LORA, str(base))
    assert f"{ROOT}{QUERY.removeprefix('bert.')}.lora_A.weight" in stored(tmp_path / "adapter")
    wanted = replace(model, params=merged_params(trained, frozen))
    assert_same_model(Model.load(tmp_path / "adapter"), wanted)


def test_scales_of_stable_ranks_are_read(encoder: Path, tmp_path: Path) -> None:
    model, place = saved(encoder, tmp_path / "adapter")
    plain = Model.load(place).params["encoder/layer_0/attention/query"]["w"]
    edit_json(place / "adapter_config.json", lambda content: content.update(use_rslora=True))
    stable = Model.load(place).params["encoder/layer_0/attention/query"]["w"]
    base = Model.load(encoder).params["encoder/layer_0/attention/query"]["w"]
    np.testing.assert_allclose(stable - base, (plain - base) * 3**0.5, rtol=1e-4, atol=1e-6)
    assert not np.allclose(plain, model.params["encoder/layer_0/attention/key"]["w"])


def modernbert(tmp_path: Path) -> tuple[Model, Path]:
    values = {
        "vocab_size": small_tokenizer().vocabulary_size, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": small_tokenizer().pad_id,
    }  # fmt: skip
    config = ENCODERS.by_name["modernbert"].read_config(values)
    model = Model.create(config, small_tokenizer())
    model.save(tmp_path / "base")
    return Model.load(tmp_path / "base").with_head("sequence", labels=LABELS), tmp_path / "base"


def test_fused_weights_are_refused_by_name_with_the_way_out(tmp_path: Path) -> None:
    model, base = modernbert(tmp_path)
    trained, _ = trainable(model.params, key=KEY, lora=LORA)
    for refused in (
        lambda: check_savable(model.config, trained),
        lambda: save_adapter(tmp_path / "adapter", model, trained, LORA, str(base)),
    ):
        message = refusal(refused)
        assert "encoder/layer_0/attention/query" in message
        assert "Wqkv" in message
        assert "attention/output" in message
    assert not (tmp_path / "adapter").exists()


def test_modules_that_transformers_names_otherwise_are_refused(tmp_path: Path) -> None:
    model = Model.load(published(tmp_path / "base", "nomic_bert/encoder"))
    trained, _ = trainable(model.params, key=KEY, lora=LORA)
    assert "nomic_bert" in refusal(lambda: check_savable(model.config, trained))


def test_an_adapter_of_fused_weights_is_read_part_by_part(tmp_path: Path) -> None:
    model, base = modernbert(tmp_path)
    lora = LoraConfig(rank=3, alpha=6.0, targets="attention/output$")
    trained, _ = trainable(model.params, key=KEY, lora=lora)
    save_adapter(tmp_path / "adapter", model, trained, lora, str(base))
    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal(shape).astype(np.float32) for shape in ((3, 16), (48, 3)))
    name = "model.layers.1.attn.Wqkv"
    factors = {f"{ROOT}{name}.lora_A.weight": a, f"{ROOT}{name}.lora_B.weight": b}
    store(tmp_path / "adapter", {**stored(tmp_path / "adapter"), **factors})
    edit_json(
        tmp_path / "adapter" / "adapter_config.json",
        lambda content: content["target_modules"].append("layers.1.attn.Wqkv"),
    )
    Model.load(tmp_path / "adapter").save(tmp_path / "whole")
    np.testing.assert_allclose(
        tensors_of(tmp_path / "whole")[f"{name}.weight"],
        tensors_of(base)[f"{name.removeprefix('model.')}.weight"] + 2.0 * b @ a,
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_head_of_a_masked_lm_is_to_be_frozen(tmp_path: Path) -> None:
    base = published(tmp_path / "base", "bert/vocabulary")
    model = Model.load(base)
    trained, _ = trainable(model.params, key=KEY, lora=LORA)
    message = refusal(lambda: save_adapter(tmp_path / "a", model, trained, LORA, str(base)))
    assert "head/" in message
    assert "freeze" in message
    trained, frozen = trainable(model.params, key=KEY, lora=LORA, freeze="^head/")
    trained = drawn(trained)
    save_adapter(tmp_path / "a", model, trained, LORA, str(base))
    assert_same_model(
        Model.load(tmp_path / "a"), replace(model, params=merged_params(trained, frozen))
    )


def test_a_model_that_no_published_family_has_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    layers = tuple(replace(layer, placement="pre") for layer in tiny_model.config.encoder.layers)
    encoder = replace(tiny_model.config.encoder, layers=layers)
    model = replace(tiny_model, config=replace(tiny_model.config, encoder=encoder))
    trained, _ = trainable(model.params, key=KEY, lora=LORA)
    assert "no published family" in refusal(
        lambda: save_adapter(tmp_path / "adapter", model, trained, LORA, "base")
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peft_type": "IA3"}, 'peft_type = "IA3"'),
        ({"peft_type": None}, "peft_type = null"),
        ({"use_dora": True}, "use_dora = true"),
        ({"lora_bias": True}, "lora_bias = true"),
        ({"bias": "all"}, 'bias = "all"'),
        ({"trainable_token_indices": [3]}, "trainable_token_indices = [3]"),
        ({"target_parameters": ["query.weight"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication = [[0, 2]]"),
        ({"use_qalora": True}, "use_qalora = true"),
        ({"kasa_config": {"beta": 1}}, "kasa_config"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"arrow_config": {"top_k": 1}}, "arrow_config"),
        ({"monteclora_config": {"num_samples": 1}}, "monteclora_config"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens = [5]"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"velora_config": {"scale": 1}}, "velora_config"),
        ({"init_lora_weights": "pissa_niter_16"}, 'init_lora_weights = "pissa_niter_16"'),
        ({"init_lora_weights": "corda"}, 'init_lora_weights = "corda"'),
        ({"init_lora_weights": "loftq"}, 'init_lora_weights = "loftq"'),
        ({"init_lora_weights": "lora_ga"}, 'init_lora_weights = "lora_ga"'),
        ({"init_lora_weights": "new"}, 'init_lora_weights = "new"'),
        ({"init_lora_weights": 2}, "init_lora_weights = 2"),
        ({"a_key_of_tomorrow": 0.5}, "a_key_of_tomorrow = 0.5"),
        ({"task_type": "SEQ"}, 'task_type = "SEQ"'),
        ({"task_type": ["SEQ_CLS"]}, "task_type"),
        ({"task_type": "SEQ_2_SEQ_LM"}, "sequence-to-sequence"),
        ({"r": 0}, "r = 0"),
        ({"r": True}, "r = true"),
        ({"r": 3.0}, "r = 3.0"),
        ({"r": 2**70}, "r = 1180591620717411303424"),
        ({"r": 8}, "with the rank 8"),
        ({"rank_pattern": {"query": 4}}, "with the rank 4"),
        ({"rank_pattern": {"query": "4"}}, "rank_pattern"),
        ({"rank_pattern": {"(": 3}}, "rank_pattern gives "),
        ({"rank_pattern": [3]}, "rank_pattern = [3]"),
        ({"alpha_pattern": {"query": float("nan")}}, "alpha_pattern"),
        ({"alpha_pattern": 3}, "alpha_pattern = 3"),
        ({"lora_alpha": "much"}, 'lora_alpha = "much"'),
        ({"lora_alpha": float("nan")}, "lora_alpha = NaN"),
        ({"lora_alpha": 10**400}, "lora_alpha = 1000"),
        ({"use_rslora": "yes"}, 'use_rslora = "yes"'),
        ({"target_modules": None}, "target_modules = null"),
        ({"target_modules": []}, "target_modules = []"),
        ({"target_modules": [["query"]]}, 'target_modules = [["query"]]'),
        ({"target_modules": ["key"]}, "it does not adapt bert.encoder.layer.0.attention.self"),
        ({"target_modules": "query"}, "it does not adapt bert.encoder.layer.0.attention.self"),
        ({"target_modules": "("}, 'target_modules gives "(", which is not a'),
        ({"exclude_modules": ["query"]}, "it does not adapt"),
        ({"exclude_modules": {"a": 1}}, "exclude_modules"),
        ({"layers_to_transform": [0]}, "it does not adapt bert.encoder.layer.1.attention.self"),
        (
            {"layers_to_transform": 1, "layers_pattern": "layer"},
            "it does not adapt bert.encoder.layer.0",
        ),
        ({"layers_to_transform": "all"}, 'layers_to_transform = "all"'),
        ({"modules_to_save": ["query"]}, "query"),
        (
            {"modules_to_save": ["LayerNorm"]},
            "LayerNorm.weight, which modules_to_save names, is missing",
        ),
        ({"modules_to_save": "classifier"}, 'modules_to_save = "classifier"'),
        ({"modules_to_save": [3]}, "modules_to_save = [3]"),
        ({"revision": 3}, "revision = 3"),
        ({"base_model_name_or_path": {"a": 1}}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "a\nb"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": None}, "with_adapter"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "/nowhere/at/all does not exist"),
    ],
)
def test_what_is_not_computed_is_refused(adapter: Path, change: dict[str, Any], named: str) -> None:
    edit_json(adapter / "adapter_config.json", lambda content: content.update(change))
    assert named in load_refusal(adapter)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda t: t.update({f"{ROOT}bert.odd.lora_A.weight": np.zeros((3, 4), np.float32)}),
            "odd",
        ),
        (lambda t: t.update({"odd": np.zeros(3, np.float32)}), "odd must start with"),
        (
            lambda t: t.pop(f"{ROOT}{QUERY}.lora_A.weight"),
            "query.lora_B.weight: lora_A and lora_B belong together",
        ),
        (
            lambda t: t.update({f"{ROOT}{QUERY}.weight": np.zeros((8, 8), np.float32)}),
            "is there both whole and as factors",
        ),
        (
            lambda t: t.update(
                {f"{ROOT}{QUERY.removeprefix('bert.')}.lora_A.weight": np.zeros((3, 8), np.float32)}
            ),
            "are the same",
        ),
        (
            lambda t: t.update({f"{ROOT}{QUERY}.lora_A.weight": np.zeros(3, np.float32)}),
            "has the shape (3,); the model needs (3, 8)",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if ".lora_" in name],
            "there is no lora_A and lora_B",
        ),
        (lambda t: t.pop(f"{ROOT}bert.pooler.dense.bias"), "bert.pooler.dense.bias"),
        (
            lambda t: t.update({f"{ROOT}{QUERY}.lora_B.weight": np.zeros((5, 3), np.float32)}),
            "has the shape (5, 3)",
        ),
        (
            lambda t: t.update({f"{ROOT}classifier.bias": np.full(3, np.nan, np.float32)}),
            "classifier.bias",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(adapter: Path, change: Any, named: str) -> None:
    tensors = stored(adapter)
    change(tensors)
    store(adapter, tensors)
    assert named in load_refusal(adapter)


def test_an_adapter_for_another_encoder_is_refused(adapter: Path) -> None:
    place = adapter
    edit_json(place / "adapted_config.json", lambda content: content.update(layer_norm_eps=0.5))
    assert "another encoder" in load_refusal(place)


def test_an_adapter_of_an_adapter_is_refused(adapter: Path) -> None:
    place = adapter
    edit_json(
        place / "adapter_config.json",
        lambda content: content.update(base_model_name_or_path=str(place)),
    )
    assert "is an adapter too" in load_refusal(place)


def test_an_adapter_is_no_base_of_another(adapter: Path, tmp_path: Path) -> None:
    assert "save the whole model" in refusal(lambda: check_base(adapter))
    Model.load(adapter).save(tmp_path / "whole")
    check_base(tmp_path / "whole")


def test_a_whole_model_saved_over_an_adapter_is_no_adapter(encoder: Path, tmp_path: Path) -> None:
    model, place = saved(encoder, tmp_path / "adapter")
    model.save(place, overwrite=True)
    assert not (place / "adapter_config.json").exists()
    assert_same_model(Model.load(place), model)
    save_adapter(place, *trained_beside(encoder), LORA, str(encoder), overwrite=True)
    assert not (place / "model.safetensors").exists()
    assert_same_model(Model.load(place), model)


# What stands beside an adapter


def test_no_file_makes_transformers_take_it_for_a_whole_model(
    encoder: Path, tmp_path: Path
) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    names = {path.name for path in place.iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "adapted_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    Model.load(encoder).save(tmp_path / "whole")
    save_adapter(tmp_path / "whole", *trained_beside(encoder), LORA, str(encoder), overwrite=True)
    assert not (tmp_path / "whole" / "config.json").exists()


def embedder_saved(tmp_path: Path, encoder: Path) -> tuple[Model, Path]:
    """An adapter of an embedder with a dense layer that was trained, on its bare encoder."""
    model = Model.load(encoder).with_embeddings("cls", normalize=True)
    assert model.config.head is not None
    head = replace(model.config.head, dense_width=5, activation="tanh")
    usage = InferenceConfig((("query", "the "),), "query", "dot")
    config = replace(model.config, head=head, max_length=9, usage=usage)
    model = Model.create(config, model.tokenizer)
    model = replace(model, params={**model.params, **encoder_params(encoder)})
    trained, frozen = trainable(model.params, key=KEY, lora=LORA)
    trained = drawn(trained)
    check_savable(model.config, trained)
    save_adapter(tmp_path / "adapter", model, trained, LORA, str(encoder))
    return replace(model, params=merged_params(trained, frozen)), tmp_path / "adapter"


def encoder_params(encoder: Path) -> Params:
    params = Model.load(encoder).params
    return {path: leaves for path, leaves in params.items() if path.startswith("encoder/")}


def test_an_embedder_has_its_modules_beside_its_adapter(encoder: Path, tmp_path: Path) -> None:
    model, place = embedder_saved(tmp_path, encoder)
    assert (place / "modules.json").is_file()
    assert (place / "2_Dense" / "model.safetensors").is_file()
    again = Model.load(place)
    assert_same_model(again, model)
    assert (again.max_length, again.config.usage) == (9, model.config.usage)
    again.save(tmp_path / "whole")
    assert_same_model(Model.load(tmp_path / "whole"), model)


def test_an_adapter_among_modules_is_found(encoder: Path, tmp_path: Path) -> None:
    """As sentence-transformers keeps an encoder that has a folder of its own."""
    model, place = embedder_saved(tmp_path, encoder)
    (place / "0_Transformer").mkdir()
    for path in [*place.glob("a*"), *place.glob("t*"), *place.glob("sentence_bert*")]:
        path.rename(place / "0_Transformer" / path.name)
    modules = json.loads((place / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (place / "modules.json").write_text(json.dumps(modules))
    assert_same_model(Model.load(place), model)


def ids(tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode(["a bee"])[0].token_ids)


def test_the_tokenizer_beside_an_adapter_is_read(encoder: Path, tmp_path: Path) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    tokens = Model.load(encoder).tokenizer
    other = Tokenizer.train(("the bird sang", "a bee flew"), vocabulary_size=38)
    other.save(place)
    for model in (Model.load(place), Model.load(encoder).with_adapter(place)):
        assert ids(model.tokenizer) == ids(other) != ids(tokens)
    more = Tokenizer.train(("the bird sang", "a bee flew away over hills"), vocabulary_size=50)
    more.save(place)
    assert "they are from different models" in load_refusal(place)


def test_an_adapter_in_the_directory_of_its_base_is_put_on_that(
    encoder: Path, tmp_path: Path
) -> None:
    """As transformers has it, whatever base is named."""
    model, place = saved(encoder, tmp_path / "adapter")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(encoder / name, place / name)
    (place / "adapted_config.json").unlink()
    edit_json(place / "adapter_config.json", lambda c: c.update(base_model_name_or_path="/nowhere"))
    again = Model.load(place)
    assert_same_model(replace(again, config=replace(again.config, labels=LABELS)), model)


def test_a_base_that_is_not_there_is_named_with_the_key(encoder: Path, tmp_path: Path) -> None:
    model, place = saved(encoder, tmp_path / "adapter")
    edit_json(
        place / "adapter_config.json", lambda c: c.update(base_model_name_or_path="../nowhere")
    )
    message = load_refusal(place)
    assert "base_model_name_or_path: ../nowhere does not exist" in message
    assert "with_adapter" in message
    assert_same_model(Model.load(encoder).with_adapter(place), model)


def test_each_key_of_the_settings_is_reported(adapter: Path) -> None:
    place = adapter
    edit_json(
        place / "adapter_config.json", lambda c: c.update(peft_version="1", loftq_config={}, new=0)
    )
    keys = Model.load(place).files["adapter_config.json"]
    assert {"r", "lora_alpha", "target_modules", "bias", "modules_to_save"} <= {*keys.used}
    assert dict(keys.kept) == {
        "lora_dropout": 0.0, "fan_in_fan_out": False, "inference_mode": True,
        "peft_version": "1", "loftq_config": {}, "new": 0,
    }  # fmt: skip


def test_an_embedding_that_was_trained_apart_from_a_tied_head_is_refused(tmp_path: Path) -> None:
    base = published(tmp_path / "base", "bert/vocabulary")
    model = Model.load(base)
    trained, _ = trainable(model.params, key=KEY, lora=LORA, freeze="^head/")
    place = tmp_path / "adapter"
    save_adapter(place, model, drawn(trained), LORA, str(base))
    name = "bert.embeddings.word_embeddings.weight"
    store(place, {**stored(place), ROOT + name: tensors_of(base)[name] + 1})
    edit_json(
        place / "adapter_config.json", lambda c: c.update(modules_to_save=["word_embeddings"])
    )
    assert "ensure_weight_tying is off" in load_refusal(place)
    edit_json(place / "adapter_config.json", lambda c: c.update(ensure_weight_tying=True))
    table = Model.load(place).params["encoder/embeddings/token"]["w"]
    np.testing.assert_allclose(table, tensors_of(base)[name] + 1)


@pytest.mark.parametrize(
    ("freeze", "named"),
    [("^head/|lora_a", "both lora_a and lora_b"), ("^head/|lora", "freeze less")],
)
def test_half_an_adapter_is_not_saved(encoder: Path, freeze: str, named: str) -> None:
    model = Model.load(encoder).with_head("token", 2)
    freeze = freeze.replace("^head/", "^head/output/b")
    trained, _ = trainable(model.params, key=KEY, lora=LORA, freeze=freeze)
    assert named in refusal(lambda: check_savable(model.config, trained))
