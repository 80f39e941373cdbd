"""A model that is saved over another leaves nothing of it that could be read."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import pytest
import toys
from directories import GOLDENS, published

from encodax import Model, Seq2SeqModel
from encodax.model_files.model_card import CARD_FILE
from encodax.model_files.saved_model import MODEL_FILES
from encodax.storage import outputs
from encodax.text.tokenizer import Tokenizer
from encodax.training.step.lora import LoraConfig, save_adapter
from encodax.training.step.partition import trainable

SENTENCE = GOLDENS.parent / "goldens-sentence"
READERS = (
    "generation.config", "model_files.peft", "model_files.peft_config", "model_files.saved_model",
    "model_files.sentence_modules", "model_files.weights", "models.seq2seq_model",
    "text.published", "text.published_classes", "text.sentencepiece", "text.tokenizer",
)  # fmt: skip
"""Modules that name the files of a model directory."""


def is_of_model(name: str) -> bool:
    return outputs._matches(MODEL_FILES, name)


def test_every_file_that_a_module_names_goes() -> None:
    named = set()
    for module in READERS:
        for key, value in vars(importlib.import_module(f"encodax.{module}")).items():
            if key.endswith("_FILE") and isinstance(value, str) and " " not in value:
                named.add(value)
            elif key.endswith("_FILES") and key != "MODEL_FILES" and isinstance(value, tuple):
                named |= set(value)
    assert len(named) > 25
    assert [name for name in sorted(named - {CARD_FILE}) if not is_of_model(name)] == []


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an adapter is added to."""
    place = tmp_path_factory.mktemp("base") / "base"
    classifier().save(place)
    return place


@functools.cache
def classifier() -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return Model.load(published(Path(folder) / "model"))


@functools.cache
def over_characters() -> Model:
    return replace(classifier(), tokenizer=Tokenizer.train(("the cat sat", "a dog"), "char"))


@functools.cache
def kinds(base: Path) -> dict[str, Callable[[Path], None]]:
    """A model of each kind that there are files of, and how it is saved."""

    def adapter(place: Path) -> None:
        lora = LoraConfig(rank=2)
        params = classifier().params
        trained = trainable(params, key=jax.random.key(0), lora=lora)[0]
        save_adapter(place, classifier(), trained, lora, str(base), overwrite=True)

    def saved(model: Model | Seq2SeqModel) -> Callable[[Path], None]:
        return lambda place: model.save(place, overwrite=True)

    return {
        "classifier": saved(classifier()),
        "over characters": saved(over_characters()),
        "embedder": saved(Model.load(SENTENCE / "two-dense")),
        "embedder with a norm": saved(Model.load(SENTENCE / "norm-and-dropout")),
        "cross-encoder": saved(Model.load(SENTENCE / "ce-sigmoid")),
        "adapter": adapter,
        "sequence to sequence": saved(toys.writer()),
    }


KINDS = (
    "classifier", "over characters", "embedder", "embedder with a norm", "cross-encoder", "adapter",
    "sequence to sequence",
)  # fmt: skip


NO_FILES = {outputs.REPLACING, "record"}
"""Names that are asked for only to tell what else a directory is."""


def names_in(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_over_any_other_is_what_it_is_alone(tmp_path: Path, base: Path, kind: str) -> None:
    saved = kinds(base)
    saved[kind](tmp_path / "model")
    alone = toys.snapshot(tmp_path / "model")
    for other in KINDS:
        saved[other](tmp_path / "model")
        saved[kind](tmp_path / "model")
        assert toys.snapshot(tmp_path / "model") == alone, other


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_is_asked_for_goes(
    tmp_path: Path, base: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, asked = tmp_path / "model", set()
    kinds(base)[kind](place)
    for name in ("lstat", "stat"):
        before = getattr(os, name)

        def noted(path: object, *arguments: object, before: object = before, **given: object):
            if isinstance(path, str | Path) and Path(path).is_relative_to(place):
                asked.add(Path(path).relative_to(place).as_posix())
            return before(path, *arguments, **given)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    (Seq2SeqModel if kind == "sequence to sequence" else Model).load(place)
    monkeypatch.undo()
    found = {name for name in asked if not (place / name).is_dir()} - NO_FILES
    assert len(found) > 15
    assert [name for name in sorted(found) if not is_of_model(name)] == []


FOREIGN = (
    "notes.txt", "onnx/model.onnx", "pytorch_model.bin", "1_Pooling/mine", "3_Mine/config.json",
    "tensorboard/events", "runs/config.json", "model.gguf",
)  # fmt: skip


def test_what_no_reader_reads_stays(tmp_path: Path, base: Path) -> None:
    place = tmp_path / "model"
    for name in FOREIGN:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("mine")
    for save in kinds(base).values():
        save(place)
        assert {(place / name).read_text() for name in FOREIGN} == {"mine"}


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "spiece.model", "vocab.txt", "chat_template.json", "generation_config.json",
     "added_tokens.json", "sentence_roberta_config.json", "additional_chat_templates/x.jinja",
     "0_Transformer/tokenizer.json", "model-00001-of-00002.safetensors", "target_vocab.json"],
)  # fmt: skip
def test_a_file_of_an_older_model_goes(tmp_path: Path, name: str) -> None:
    place = tmp_path / "model"
    classifier().save(place)
    whole = names_in(place)
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text("old")
    classifier().save(place, overwrite=True)
    assert names_in(place) == whole
    if name in whole:
        assert (place / name).read_text() != "old"


# The card.


def test_a_card_goes_with_its_model(tmp_path: Path, base: Path) -> None:
    place = tmp_path / "model"
    Model.load(SENTENCE / "two-dense").save(place)
    assert "sentence-similarity" in (place / CARD_FILE).read_text()
    classifier().save(place, overwrite=True)
    assert "text-classification" in (place / CARD_FILE).read_text()
    kinds(base)["adapter"](place)
    assert not (place / CARD_FILE).exists()


@pytest.mark.parametrize("kind", ["changed", "of a user", "no text", "link"])
def test_a_card_that_somebody_has_written_stays(tmp_path: Path, base: Path, kind: str) -> None:
    place = tmp_path / "model"
    classifier().save(place)
    card = place / CARD_FILE
    if kind == "changed":
        card.write_text(card.read_text().replace("layers", "LAYERS"))
    elif kind == "link":
        shutil.move(card, tmp_path / "card")
        card.symlink_to("../card")
    else:
        card.write_bytes(b"# mine" if kind == "of a user" else b"\xff\xfe")
    before = card.read_bytes()
    for save in kinds(base).values():
        save(place)
        assert card.read_bytes() == before
        assert card.is_symlink() == (kind == "link")
