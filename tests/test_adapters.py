"""Adapters in PEFT's layout: written, read, and refused where they cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from directories import edit_json, load_refusal, published, refusal, small_tokenizer, tensors_of

import encodax
from encodax.adapters import check_savable
from encodax.families import FAMILIES
from encodax.model import Model
from encodax.training.adapters import effective, trainable
from encodax.training.lora import LoraConfig, save_adapter
from encodax.types import Params

KEY = jax.random.key(5)
LORA = LoraConfig(rank=3, alpha=6.0)
LABELS = ("no", "perhaps", "yes")
ROOT = "base_model.model."
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A published BERT without a head, saved."""
    model = Model.load(published(tmp_path / "published", "bert/encoder"))
    replace(model, carried={}).save(tmp_path / "encoder")  # no pooler
    return tmp_path / "encoder"


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
    return replace(model, params=effective(trained, frozen)), trained


def saved(base: Path, place: Path, **head: Any) -> tuple[Model, Path]:
    model, trained = trained_beside(base, **head)
    save_adapter(place, model, trained, LORA, str(base))
    return model, place


def stored(place: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(place / "adapter_model.safetensors")


def store(place: Path, tensors: dict[str, np.ndarray]) -> None:
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    safetensors.numpy.save_file(tensors, place / "adapter_model.safetensors")


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
    assert sorted(content["target_modules"]) == sorted(modules)
    assert content["modules_to_save"] == ["bert.pooler.dense", "classifier"]
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
    (place / "config.json").unlink()  # PEFT writes none
    again = Model.load(place)
    assert again.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert_same_model(replace(again, config=replace(again.config, labels=LABELS)), model)


def test_a_head_that_the_base_has_is_kept(tmp_path: Path) -> None:
    base = published(tmp_path / "base")
    model = Model.load(base)
    trained, frozen = trainable(model.params, key=KEY, lora=LORA, freeze="^head/")
    trained = drawn(trained)
    save_adapter(tmp_path / "adapter", model, trained, LORA, str(base))
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert content["modules_to_save"] is None
    wanted = replace(model, params=effective(trained, frozen))
    assert_same_model(Model.load(tmp_path / "adapter"), wanted)
    (tmp_path / "adapter" / "config.json").unlink()
    assert_same_model(Model.load(tmp_path / "adapter"), wanted)


def test_an_adapter_of_an_embedder_has_no_head(encoder: Path, tmp_path: Path) -> None:
    base = tmp_path / "embedder"
    Model.load(encoder).with_embeddings("mean", normalize=True).save(base)
    model = Model.load(base)
    trained, frozen = trainable(model.params, key=KEY, lora=LORA)
    trained = drawn(trained)
    save_adapter(tmp_path / "adapter", model, trained, LORA, str(base))
    assert f"{ROOT}{QUERY.removeprefix('bert.')}.lora_A.weight" in stored(tmp_path / "adapter")
    wanted = replace(model, params=effective(trained, frozen))
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
    config = FAMILIES["modernbert"].read_config(values)
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
    assert_same_model(Model.load(tmp_path / "a"), replace(model, params=effective(trained, frozen)))


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
        ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"alpha_pattern": {"query": 4}}, "alpha_pattern"),
        ({"rank_pattern": {"query": 4}}, "rank_pattern"),
        ({"r": 0}, "r = 0"),
        ({"lora_alpha": "much"}, "lora_alpha = 'much'"),
        ({"base_model_name_or_path": None}, "with_adapter"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "/nowhere/at/all does not exist"),
    ],
)
def test_what_is_not_computed_is_refused(
    encoder: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    edit_json(place / "adapter_config.json", lambda content: content.update(change))
    assert named in load_refusal(place)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda t: t.update({f"{ROOT}bert.odd.lora_A.weight": np.zeros((3, 4), np.float32)}),
            "odd",
        ),
        (lambda t: t.update({"odd": np.zeros(3, np.float32)}), "odd does not begin"),
        (lambda t: t.pop(f"{ROOT}{QUERY}.lora_A.weight"), "attention/query has one of"),
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
def test_a_file_that_does_not_fit_is_refused(
    encoder: Path, tmp_path: Path, change: Any, named: str
) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    tensors = stored(place)
    change(tensors)
    store(place, tensors)
    assert named in load_refusal(place)


def test_an_adapter_for_another_encoder_is_refused(encoder: Path, tmp_path: Path) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    edit_json(place / "config.json", lambda content: content.update(layer_norm_eps=0.5))
    assert "another encoder" in load_refusal(place)


def test_an_adapter_of_an_adapter_is_refused(encoder: Path, tmp_path: Path) -> None:
    _, place = saved(encoder, tmp_path / "adapter")
    edit_json(
        place / "adapter_config.json",
        lambda content: content.update(base_model_name_or_path=str(place)),
    )
    assert "is an adapter too" in load_refusal(place)


def test_a_whole_model_saved_over_an_adapter_is_no_adapter(encoder: Path, tmp_path: Path) -> None:
    model, place = saved(encoder, tmp_path / "adapter")
    model.save(place, overwrite=True)
    assert not (place / "adapter_config.json").exists()
    assert_same_model(Model.load(place), model)
    save_adapter(place, *trained_beside(encoder), LORA, str(encoder), overwrite=True)
    assert not (place / "model.safetensors").exists()
    assert_same_model(Model.load(place), model)
