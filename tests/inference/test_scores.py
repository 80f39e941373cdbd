"""What scores are called, and where a cross-encoder would have others."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from encodax import Embedder, Model
from encodax.inference.scores import describe_scores, difference

SENTENCE = Path(__file__).parent.parent / "parity" / "goldens-sentence"
RERANK = "gives the sigmoid of the logits: encodax rerank gives those too"
SOFTMAX = "gives the logits: its predict(..., apply_softmax=True) gives these"


@pytest.mark.parametrize(
    ("name", "scores", "other"),
    [
        ("ce-identity", "logits", None),
        ("ce-null", "sigmoid of the logits", None),
        ("ce-tanh", "tanh of the logits", None),
        ("ce-three", "softmax of the logits", SOFTMAX),
        ("ce-three-sigmoid", "sigmoid of the logits", None),
    ],
)
def test_the_scores_of_a_cross_encoder(name: str, scores: str, other: str | None) -> None:
    config = Model.load(SENTENCE / name).config
    assert str(describe_scores(config)).startswith(scores)
    told = difference(config)
    assert told == difference(config, is_cross_encoder=True)
    assert told is None if other is None else str(told).endswith(other)


def test_one_score_may_be_that_of_a_cross_encoder() -> None:
    """No file says so: it is told where one asks, and where pairs are scored."""
    config = Model.load(SENTENCE / "ce-plain").config
    assert difference(config) is None
    assert str(difference(config, is_cross_encoder=True)).endswith(RERANK)
    assert describe_scores(config) == difference(config, is_cross_encoder=True)


def test_the_scores_of_other_models(tiny_model: Model) -> None:
    config = tiny_model.with_head("sequence", labels=("no", "yes")).config
    assert (describe_scores(config), difference(config)) == ("softmax of the logits", None)
    assert str(difference(config, is_cross_encoder=True)).endswith(SOFTMAX)
    config = tiny_model.with_head("token", labels=("O", "X")).config
    assert (describe_scores(config), difference(config, is_cross_encoder=True)) == (
        "softmax of the logits", None
    )  # fmt: skip
    assert describe_scores(tiny_model.with_embeddings().config) is None


@pytest.mark.parametrize("name", ["ce-three", "ce-plain", "ce-identity", "prompts"])
@pytest.mark.parametrize("is_read_with_its_head", [False, True])
def test_vectors_of_a_cross_encoder_are_warned_of_once(
    name: str, is_read_with_its_head: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if is_read_with_its_head:
        embedder = Embedder(Model.load(SENTENCE / name))
    else:
        embedder = Embedder.load(SENTENCE / name)
    embedder.encode(["the cat"])
    embedder.encode(["a dog"])
    warned = [(each.levelno, "encodax rerank" in each.getMessage()) for each in caplog.records]
    assert warned == ([] if name == "prompts" else [(logging.WARNING, True)])


def test_vectors_of_a_classifier_are_not_warned_of(
    tiny_model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model.with_head("sequence", labels=("no", "yes"))
    model.save(tmp_path / "model")
    Embedder(model)
    Embedder.load(tmp_path / "model")
    Embedder(Model.load(SENTENCE / "ce-three").with_embeddings())  # by whoever means it
    assert not caplog.records
