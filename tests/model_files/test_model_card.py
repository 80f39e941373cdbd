"""The model card: front matter that the hub reads, and code that a reader can run."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from directories import BERT_HEADS, published

import encodax
from encodax.config import ModelConfig
from encodax.model_files import model_card
from encodax.models.encoder_model import Model

PIPELINES = {
    "encoder": "feature-extraction",
    "sequence": "text-classification",
    "sequence-multi": "text-classification",
    "sequence-regression": "text-classification",
    "span": "question-answering",
    "token": "token-classification",
    "vocabulary": "fill-mask",
    "embedder": "sentence-similarity",
}
"""Of each golden; the names are the hub's."""


def card_of(tmp_path: Path, head: str) -> str:
    golden = "encoder" if head == "embedder" else head
    model = Model.load(published(tmp_path / "model", f"bert/{golden}"))
    if head == "embedder":
        model = model.with_embeddings()
    model.save(tmp_path / "my model")
    return (tmp_path / "my model" / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(front)
    return content


@pytest.mark.parametrize("head", [*BERT_HEADS, "embedder"])
def test_the_hub_reads_what_the_model_is_for(tmp_path: Path, head: str) -> None:
    library = "sentence-transformers" if head == "embedder" else "transformers"
    assert front_matter(card_of(tmp_path, head)) == {
        "library_name": library,
        "pipeline_tag": PIPELINES[head],
        "tags": ["encodax", "jax", "bert"],
    }


@pytest.mark.parametrize("head", [*BERT_HEADS, "embedder"])
def test_the_code_of_the_card_is_python_and_names_what_there_is(tmp_path: Path, head: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card_of(tmp_path, head), re.DOTALL)
    tree = ast.parse(code)
    names = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "encodax"
    }
    assert names
    assert names <= set(encodax.__all__)
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert "my model" in constants


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    card = card_of(tmp_path, "sequence")
    assert "# my model\n" in card
    assert "2 layers of width\n8, 40 tokens, sequences of up to\n24 tokens" in card
    assert "Labels: negative, neutral, positive." in card


def test_a_model_that_only_encodax_loads_names_no_other_library(tiny_config: ModelConfig) -> None:
    front = front_matter(model_card.text(tiny_config, "encodax", "x"))
    assert "library_name" not in front
    assert front["tags"] == ["encodax", "jax", "encodax"]


def test_the_limit_of_an_embedder_is_its_own(tmp_path: Path) -> None:
    model = Model.load(published(tmp_path / "model", "bert/encoder")).with_embeddings()
    config = dataclasses.replace(model.config, max_length=7)
    assert "sequences of up to\n7 tokens" in model_card.text(config, "bert", "x")


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "ü", "a'b", "{0}", "%s"])
def test_any_name_gives_code_that_can_be_read(tiny_config: ModelConfig, name: str) -> None:
    card = model_card.text(tiny_config, "bert", name)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    constants = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
    assert name in constants


@pytest.mark.parametrize("label", ["---", "a\nb", "```", "a, b", "# a"])
def test_a_label_breaks_neither_the_front_matter_nor_the_code(
    tiny_config: ModelConfig, label: str
) -> None:
    config = dataclasses.replace(tiny_config, labels=("x", label, "y"))
    card = model_card.text(config, "bert", "x")
    assert front_matter(card)["pipeline_tag"] == "text-classification"
    lines = [line for line in card.splitlines() if line.startswith("Labels: ")]
    assert len(lines) == 1
    assert lines[0].endswith(".")
    assert card.count("\n```") == 2


ORIGIN: dict[str, Any] = {
    "data": {
        "train": {"files": [{"path": "a/b.tsv", "sha256": "12ab", "rows": 1000}], "examples": 990},
        "eval": {"files": [], "examples": 5},
    },
    "base": {"name": "me/it", "revision": "0" * 40, "sha256": "cd34"},
}
SECTION = f"""
{model_card.BEGIN}
## Training

- Trained on from `me/it` at commit `{"0" * 40}`, sha256 of parameters and configuration `cd34`
- Training data: 990 examples, of
  - `b.tsv`: 1,000 rows, sha256 `12ab`
- Evaluation data: 5 examples
{model_card.END}
"""


def test_what_it_is_made_of_is_told_once(tmp_path: Path) -> None:
    before = model_card.SEAL.sub("", card_of(tmp_path, "sequence"))
    card = tmp_path / "my model" / "README.md"
    other = {**ORIGIN, "base": {"sha256": "ef56"}}
    for origin in (other, ORIGIN, ORIGIN):
        model_card.write_origin(card, origin)
        assert model_card.may_write(card.parent)
    assert model_card.SEAL.sub("", card.read_text()) == before + SECTION
    card.write_text(f"My own.\n{SECTION}More.\n")
    model_card.write_origin(card, other)
    told = card.read_text()
    assert told.startswith("My own.\n")
    assert told.endswith(f"{model_card.END}\nMore.\n")
    assert "ef56" in told and "cd34" not in told


def test_the_card_of_a_trained_model_is_written_anew(tmp_path: Path) -> None:
    card_of(tmp_path, "token")
    place = tmp_path / "my model"
    model_card.write_origin(place / "README.md", ORIGIN)
    Model.load(published(tmp_path / "other", "bert/sequence")).save(place, overwrite=True)
    told = (place / "README.md").read_text()
    assert front_matter(told)["pipeline_tag"] == "text-classification"
    assert "negative, neutral, positive" in told and "## Training" not in told


@pytest.mark.parametrize("old", ["# my model", "## Training", "990", "-->\n"])
def test_a_card_that_was_changed_anywhere_is_kept(tmp_path: Path, old: str) -> None:
    card_of(tmp_path, "token")
    place = tmp_path / "my model"
    model_card.write_origin(place / "README.md", ORIGIN)
    mine = f"{old}mine".join((place / "README.md").read_text().rsplit(old, 1))
    (place / "README.md").write_text(mine)
    Model.load(published(tmp_path / "other", "bert/sequence")).save(place, overwrite=True)
    assert (place / "README.md").read_text() == mine


@pytest.mark.parametrize(
    "own", [b"My own.\n", b"\xff\xfe", f"Mine {model_card.BEGIN} of it".encode()]
)
def test_a_card_of_ones_own_stays(tmp_path: Path, own: bytes) -> None:
    card = tmp_path / "README.md"
    model_card.write_origin(card, ORIGIN)  # there is none
    assert not card.exists()
    card.write_bytes(own)
    model_card.write_origin(card, ORIGIN)
    assert card.read_bytes() == own
