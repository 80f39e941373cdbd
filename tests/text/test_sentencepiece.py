"""Tokenizers of SentencePiece models, against those of transformers."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directories import refusal
from goldens_seq2seq import FOLDER
from toys import writer

from encodax import Seq2SeqModel, Translator
from encodax.config import TransformerConfig
from encodax.errors import EncodaxError
from encodax.text.tokenizer import Tokenizer

TOKENIZERS = FOLDER / "tokenizers"
FAMILIES = ("marian", "t5")


def texts(family: str, kind: str) -> list[dict[str, Any]]:
    stored = json.loads((TOKENIZERS / family / "texts.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = stored[kind]
    return found


def copied(family: str, place: Path) -> Path:
    """The directory of a tokenizer, to be broken."""
    return Path(shutil.copytree(TOKENIZERS / family, place / family))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_transformers(family: str) -> None:
    tokenizer = Tokenizer.load(TOKENIZERS / family)
    cases = texts(family, "texts")
    found = tokenizer.encode([case["text"] for case in cases])
    assert [one.token_ids.tolist() for one in found] == [case["ids"] for case in cases]


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_and_back_are_those_of_transformers(family: str) -> None:
    tokenizer = Tokenizer.load(TOKENIZERS / family)
    for case in texts(family, "targets"):
        (found,) = tokenizer.encode_targets([case["text"]])
        assert found.token_ids.tolist() == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["back"]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_tokenizes_alike(family: str, tmp_path: Path) -> None:
    directory = copied(family, tmp_path)
    (directory / "tokenizer_config.json").unlink()  # an older file names no class
    Tokenizer.load(directory, model_type=family).save(tmp_path)
    again = Tokenizer.load(tmp_path)
    for case in texts(family, "texts"):
        assert again.encode([case["text"]])[0].token_ids.tolist() == case["ids"]
    assert not (tmp_path / "tokenizer.json").exists()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == {"marian": "MarianTokenizer", "t5": "T5Tokenizer"}[family]


def test_offsets_are_places_in_the_whole_text() -> None:
    tokenizer = Tokenizer.load(TOKENIZERS / "marian")
    text = ">>deu<<A child finds the letter."
    (found,) = tokenizer.encode([text])
    assert np.flatnonzero(found.is_special).tolist() == [0, len(found) - 1]
    assert found.offsets[0].tolist() == [0, len(">>deu<<")]
    parts = [text[start:end] for start, end in found.offsets[:-1]]
    assert "".join(parts) == text.replace(" ", "")
    assert tokenizer.tokens(found.token_ids[[0, -1]]) == [">>deu<<", "</s>"]


def test_pairs_are_refused() -> None:
    with pytest.raises(EncodaxError, match="takes texts, not pairs"):
        Tokenizer.load(TOKENIZERS / "t5").encode([("one", "other")])


def test_tokens_have_their_roles() -> None:
    marian, t5 = (Tokenizer.load(TOKENIZERS / family) for family in FAMILIES)
    assert (marian.eos_id, t5.eos_id, t5.pad_id) == (0, 1, 0)
    assert marian.pad_id == marian.vocabulary()["<pad>"] == marian.vocabulary_size - 1
    assert marian.languages == ("deu", "nld")
    assert t5.languages is None
    hidden = t5.vocabulary()["<extra_id_0>"]
    assert hidden == t5.vocabulary_size - 1
    assert t5.decode([*t5.encode(["apples"])[0].token_ids, hidden]) == "apples"


BROKEN: dict[str, tuple[str, str, bytes, str]] = {
    "a model": ("t5", "spiece.model", b"text", "spiece.model is not a SentencePiece model"),
    "an empty model": ("marian", "source.spm", b"", "source.spm is not a SentencePiece model"),
    "a vocabulary": ("marian", "vocab.json", b"[]", "vocab.json must hold an object, not a list"),
    "an id": ("marian", "vocab.json", b'{"a": "1"}', "the id of 'a' is '1', not a token id"),
    "no end": ("marian", "vocab.json", b'{"a": 1}', "vocab.json has no '</s>', the eos_token"),
    "ids": (
        "t5",
        "tokenizer_config.json",
        b'{"tokenizer_class": "T5Tokenizer", "extra_ids": -1}',
        "extra_ids = -1 is not a number of tokens",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_refused(what: str, tmp_path: Path) -> None:
    family, name, content, message = BROKEN[what]
    directory = copied(family, tmp_path)
    (directory / name).write_bytes(content)
    assert message in refusal(lambda: Tokenizer.load(directory))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(EncodaxError, match=r"pip install 'encodax\[sentencepiece\]'"):
        Tokenizer.load(TOKENIZERS / "t5")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    directory = copied("marian", tmp_path)
    (directory / "target.spm").unlink()
    assert refusal(lambda: Tokenizer.load(directory)) == (
        f"{directory}/target.spm does not exist: a tokenizer of marian needs source.spm, "
        "target.spm, vocab.json"
    )


def test_added_tokens_are_tokens(tmp_path: Path) -> None:
    directory = copied("t5", tmp_path)
    (directory / "added_tokens.json").write_text('{"<sep>": 190}')
    (found,) = Tokenizer.load(directory).encode(["apples<sep>lamp"])
    assert found.token_ids.tolist().count(190) == 1
    (directory / "added_tokens.json").write_text('{"<unk>": 190}')
    message = refusal(lambda: Tokenizer.load(directory))
    assert "the added token '<unk>' has the id 190, and in spiece.model it is 2" in message


def test_two_vocabularies_are_refused(tmp_path: Path) -> None:
    directory = copied("marian", tmp_path)
    config = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    assert "separate_vocabs = True is not supported" in refusal(lambda: Tokenizer.load(directory))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the files of OPUS-MT."""
    tokenizer = Tokenizer.load(TOKENIZERS / "marian")
    size = tokenizer.vocabulary_size
    stacks = writer().config.transformer
    sides = {
        side: dataclasses.replace(
            stack,
            embeddings=dataclasses.replace(stack.embeddings, vocabulary_size=size),
        )
        for side, stack in (("encoder", stacks.encoder), ("decoder", stacks.decoder))
    }
    config = dataclasses.replace(
        writer().config,
        transformer=TransformerConfig(**sides, output_bias=True),
        decoder_start_id=tokenizer.pad_id,
        eos_id=0,
        pad_id=tokenizer.pad_id,
        suppressed_ids=(tokenizer.pad_id,),
    )
    place = tmp_path_factory.mktemp("marian") / "model"
    Seq2SeqModel.create(config, tokenizer).save(place)
    return place


def test_a_model_is_saved_and_loaded_with_its_files(marian: Path) -> None:
    names = {path.name for path in marian.iterdir()}
    assert {"source.spm", "target.spm", "vocab.json", "tokenizer_config.json"} <= names
    model = Seq2SeqModel.load(marian)
    assert model.config.family == "marian"
    (pair,), _ = model.encode_pairs([("A child.", "Ein Kind.")], names=["it"])
    (target,) = model.tokenizer.encode_targets(["Ein Kind."])
    np.testing.assert_array_equal(pair.wanted, target.token_ids)


def test_a_language_is_asked_for(marian: Path) -> None:
    translator = Translator.load(marian)
    asked = translator.translate(["A child finds the letter."], to="deu", max_tokens=8)
    written = translator.translate([">>deu<< A child finds the letter."], max_tokens=8)
    assert asked == written


@pytest.mark.parametrize("asked", ["fra", "zh-Hans", "es_419"])
def test_a_language_that_is_not_there_is_refused(marian: Path, asked: str) -> None:
    translator = Translator.load(marian)
    message = f"text 0: the model has no target language '{asked}'; it has: deu, nld"
    with pytest.raises(EncodaxError, match=message):
        translator.translate(["A child."], to=asked)
    with pytest.raises(EncodaxError, match=message):
        translator.translate([f">>{asked}<< A child."])


def test_a_blank_text_is_none_for_a_language_either(marian: Path) -> None:
    with pytest.raises(EncodaxError, match="the text is empty"):
        Translator.load(marian).translate(["  "], to="deu")


def test_a_text_without_a_language_is_counted(
    marian: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Translator.load(marian).translate(["A child.", ">>nld<< A child."], max_tokens=4)
    said = "1 texts name no target language, and the model has 2 (to, --to): deu, nld"
    assert said in caplog.messages


def test_a_model_of_one_language_is_asked_for_none() -> None:
    with pytest.raises(EncodaxError, match="the model has one target language"):
        Translator(writer()).translate(["a"], to="deu")
