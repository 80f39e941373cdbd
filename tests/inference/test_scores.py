"""What scores are called, and where a cross-encoder would have others."""

from __future__ import annotations

from pathlib import Path

import pytest

from encodax import Model
from encodax.inference.scores import described, difference

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
    assert str(described(config)).startswith(scores)
    told = difference(config)
    assert told == difference(config, is_cross_encoder=True)
    assert told is None if other is None else str(told).endswith(other)


def test_one_score_may_be_that_of_a_cross_encoder() -> None:
    """No file says so: it is told where one asks, and where pairs are scored."""
    config = Model.load(SENTENCE / "ce-plain").config
    assert difference(config) is None
    assert str(difference(config, is_cross_encoder=True)).endswith(RERANK)
    assert described(config) == difference(config, is_cross_encoder=True)


def test_the_scores_of_other_models(tiny_model: Model) -> None:
    config = tiny_model.with_head("sequence", labels=("no", "yes")).config
    assert (described(config), difference(config)) == ("softmax of the logits", None)
    assert str(difference(config, is_cross_encoder=True)).endswith(SOFTMAX)
    config = tiny_model.with_head("token", labels=("O", "X")).config
    assert (described(config), difference(config, is_cross_encoder=True)) == (
        "softmax of the logits", None
    )  # fmt: skip
    assert described(tiny_model.with_embeddings().config) is None
