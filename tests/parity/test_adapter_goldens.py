"""The same numbers as PEFT and sentence-transformers: each adapter's stored outputs.

The goldens are made by `interop/generate/adapters.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from blocks import assert_close
from directories import GOLDENS, published, refusal, small_tokenizer
from goldens import parts

from encodax.inference.embedder import Embedder
from encodax.models.encoder_model import Model
from encodax.types.batches import PackedBatch

FOLDER = Path(__file__).parent / "goldens-adapters"
OF_LIBRARY = ("cross-encoder", "sentence-transformers")
REFUSED = sorted(path.name for path in (FOLDER / "refused").iterdir())
SENSITIVE = "pissa-fused"
"""Singular vectors of fused weights: within 1e-5 on one version of JAX, and not on another."""
OTHERS = (*OF_LIBRARY, "refused", SENSITIVE)
CASES = sorted(path.name for path in FOLDER.iterdir() if path.name not in OTHERS)
TEXTS = ["the cat sat on a mat", "a dog", "the cat ran and a dog ran and the cat sat"]
PAIRS = [("the cat", "a dog ran"), ("a mat", "the dog sat on a cat")]
"""Texts and pairs as the generator has them."""
TOLERANCE = 1e-5


def base_of(case: str) -> str:
    settings = json.loads((FOLDER / case / "adapter_config.json").read_text())
    name: str = settings["base_model_name_or_path"]
    return name


def copied(case: str, place: Path) -> Path:
    """An adapter, with its base in a directory that exists."""
    base = published(place / "base", base_of(case))
    adapter = shutil.copytree(FOLDER / case, place / "adapter")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return adapter


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_gives_what_peft_gives_with_it(case: str) -> None:
    model = parts(base_of(case)).with_adapter(FOLDER / case)
    stored = np.load(FOLDER / case / "outputs.npz")
    batch = PackedBatch.from_rows(stored["token_ids"][None], type_ids=stored["type_ids"][None])
    logits = model.apply(model.params, batch).logits
    assert_close(logits[0, 0], stored["output"], TOLERANCE)


def test_singular_vectors_of_fused_weights_are_refused() -> None:
    model = parts(base_of(SENSITIVE))
    message = refusal(lambda: model.with_adapter(FOLDER / SENSITIVE))
    assert 'init_lora_weights = "pissa" of a weight of several parts is not supported' in message
    assert "model.merge_and_unload().save_pretrained(directory)" in message


@pytest.mark.parametrize("case", REFUSED)
def test_the_way_out_that_a_refusal_names_gives_the_model(case: str, tmp_path: Path) -> None:
    folder = FOLDER / "refused" / case
    message = refusal(lambda: parts("bert/sequence").with_adapter(folder))
    assert "model.merge_and_unload().save_pretrained(directory)" in message
    merged = shutil.copytree(folder / "merged", tmp_path / "merged")
    small_tokenizer().save(merged)
    model = Model.load(merged)
    stored = np.load(folder / "outputs.npz")
    batch = PackedBatch.from_rows(stored["token_ids"][None], type_ids=stored["type_ids"][None])
    logits = model.apply(model.params, batch).logits
    assert_close(logits[0, 0], stored["output"], TOLERANCE)


def test_every_key_that_peft_writes_is_accounted_for() -> None:
    for case in CASES:
        model = parts(base_of(case)).with_adapter(FOLDER / case)
        keys = model.files["adapter_config.json"]
        written = json.loads((FOLDER / case / "adapter_config.json").read_text())
        assert {*keys.used, *keys.kept} == written.keys()
        assert keys.reasons.keys() == keys.kept.keys()


def test_an_adapter_of_sentence_transformers_is_the_embedder_that_it_was(tmp_path: Path) -> None:
    """Its own pooling, dense layer, limit, prompts, similarity and tokenizer; not those of a base
    that has others."""
    case = "sentence-transformers"
    adapter = copied(case, tmp_path)
    stored = np.load(FOLDER / case / "outputs.npz")["vectors"]
    base = Model.load(tmp_path / "base")
    for model in (
        Model.load(adapter),
        base.with_embeddings("max").with_adapter(adapter),
        base.with_head("token", 3).with_adapter(adapter),
    ):
        assert model.config.head is not None
        assert (model.config.head.pooling, model.config.head.dense_width) == ("cls", 5)
        assert model.max_length == 7
        assert dict(model.config.usage.prompts) == {"query": "a mat ", "document": ""}
        assert model.config.usage.similarity == "dot"
        assert {path for path in model.params if path.startswith("head/")} == {"head/dense"}
        vectors = Embedder(model).encode(TEXTS, truncate=True)
        assert_close(vectors, stored, TOLERANCE)


def test_an_adapter_of_a_cross_encoder_scores_as_it_did(tmp_path: Path) -> None:
    adapter = copied("cross-encoder", tmp_path)
    stored = np.load(FOLDER / "cross-encoder" / "outputs.npz")["scores"]
    for model in (Model.load(adapter), Model.load(tmp_path / "base").with_adapter(adapter)):
        assert model.config.usage.activation == "linear"
        logits = model.apply(model.params, model.batch(PAIRS)).logits
        assert_close(logits[:, 0], stored, TOLERANCE)


def test_goldens_name_models_that_are_there() -> None:
    assert all((GOLDENS / base_of(case)).is_dir() for case in (*CASES, *OF_LIBRARY))
