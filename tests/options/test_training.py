"""Every choice of a run is checked before the run begins.

(Names of schedules and tokenizers are checked in `test_cli.py`: here the types are.)
"""

from __future__ import annotations

from typing import Any

import pytest

import encodax
from encodax.errors import EncodaxError
from encodax.training import NewModel, TrainSettings


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"steps": 0}, "steps = 0 is not above 0"),
        ({"epochs": -1}, "epochs = -1 is not above 0"),
        ({"epochs": float("nan")}, "epochs = nan is not finite"),
        ({"epochs": float("inf")}, "epochs = inf is not finite"),
        (
            {"metric": "recall@5"},
            "'recall@5' is not one of those of classification: f1, acc.*, loss",
        ),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_tokens": 0}, "batch_tokens = 0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan is not finite"),
        ({"learning_rate": float("inf")}, "learning_rate = inf is not finite"),
        ({"clip_norm": 0.0}, "clip_norm = 0.0"),
        ({"evaluate_every": 0}, "evaluate_every = 0"),
        ({"patience": 0}, "patience = 0"),
        (
            {"warmup": 1.0},
            "warmup = 1 is neither a share of the steps, below 1, nor a number of",
        ),
        ({"warmup": -0.1}, "warmup = -0.1"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"label_smoothing": float("nan")}, "label_smoothing = nan"),
        ({"weight_decay": -1.0}, "weight_decay = -1.0 is below 0"),
        ({"weight_decay": float("nan")}, "weight_decay = nan is not finite"),
        ({"seed": -1}, "seed = -1 is not in"),
        ({"seed": 2**32}, "seed = 4294967296 is not in"),
        ({"steps": 3, "epochs": 3}, "steps or epochs, not both"),
        ({"batch_size": 3, "batch_tokens": 3}, "batch_tokens or batch_size, not both"),
        ({"steps": 2**31}, "steps = 2147483648 is above 2147483647, the largest value"),
        ({"epochs": 1e300}, r"epochs = 1e\+300 is above 2147483647"),
        (
            {"epochs": 2**31 - 1, "batch_size": 2},
            "s = 2147483647 of 2 steps .*: give .* 1073741823",
        ),
        ({"batch_tokens": 2**31}, "batch_tokens = 2147483648 is above"),
        ({"batch_size": 2**31}, "batch_size = 2147483648 is above"),
        ({"warmup": 1e300}, r"warmup = 1e\+300 is above 2147483647"),
        ({"lora_rank": 2**31}, "lora_rank = 2147483648 is above"),
        ({"layers": 2**31}, "layers = 2147483648 is above"),
        ({"width": 2**40}, "width = 1099511627776 is above"),
        ({"ffn": 2**31}, "ffn = 2147483648 is above"),
        ({"max_positions": 2**31}, "max_positions = 2147483648 is above"),
        ({"vocabulary_size": 10**30}, "vocabulary_size = 10+ is above"),
        ({"layers": 0}, "layers = 0 is not above 0"),
        ({"ffn": 0}, "ffn = 0"),
        ({"max_positions": -5}, "max_positions = -5"),
        ({"vocabulary_size": 0}, "vocabulary_size = 0"),
        ({"width": 128, "heads": 3}, "width 128 is not a multiple of heads 3"),
        ({"dropout_rate": 1.0}, "dropout_rate = 1.0"),
        ({"tokenizer": "char", "lowercase": True}, "lowercase is for the wordpiece tokenizer"),
        ({"learning_rat": 1.0}, "not an option: learning_rat; known: accumulate, "),
    ],
)
def test_a_choice_that_cannot_be_is_named(choices: dict[str, Any], message: str) -> None:
    records = [{"text": "a", "label": label} for label in "xyxy"]
    with pytest.raises(EncodaxError, match=message):
        encodax.train("classification", train=records, eval=records, **choices)


def test_whole_epochs_are_one_choice_however_they_are_written() -> None:
    assert repr(TrainSettings(epochs=3.0)) == repr(TrainSettings(epochs=3))
    assert TrainSettings(epochs=0.5).epochs == 0.5


def test_the_defaults_are_a_choice() -> None:
    TrainSettings()
    NewModel()


def test_the_new_model_is_a_bert_of_that_shape() -> None:
    shape = NewModel(layers=3, width=24, heads=2, max_positions=7, dropout_rate=0.25)
    encoder = shape.encoder(vocabulary_size=11)
    assert (encoder.embeddings.vocabulary_size, encoder.embeddings.width) == (11, 24)
    assert encoder.embeddings.max_positions == 7
    assert encoder.embeddings.dropout_rate == 0.25
    assert len(encoder.layers) == 3
    for layer in encoder.layers:
        assert (layer.attention.heads, layer.attention.head_width) == (2, 12)
        assert layer.feed_forward.width == 96
        assert layer.placement == "post"
        assert layer.dropout_rate == layer.attention.dropout_rate == 0.25
