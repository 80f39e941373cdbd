"""Where a run begins: which head goes on, under which names, and what is said of a new one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from toys import classifier, tagger

from encodax.models.encoder_model import Model
from encodax.tasks import task_named
from encodax.training.setup.start import as_named, with_head

SENTIMENT, TAGS = task_named("classification"), task_named("token-classification")


def named(labels: tuple[str, ...]) -> Model:
    model = classifier().model
    assert isinstance(model, Model)
    return model.with_head("sequence", labels=labels, seed=3)


@pytest.mark.parametrize(
    ("known", "labels", "expected"),
    [
        (("NEGATIVE", "POSITIVE"), ("negative", "positive"), ("negative", "positive")),
        (("NEGATIVE", "POSITIVE"), ("positive", "negative"), ("negative", "positive")),
        (("NEGATIVE", "NEUTRAL", "POSITIVE"), ("positive",), ("NEGATIVE", "NEUTRAL", "positive")),
        (("LABEL_0", "LABEL_1"), ("0", "1"), ("0", "1")),
        (("0.0", "1.0"), ("0", "1"), ("0", "1")),
        (("LABEL_0", "LABEL_1"), ("0.0", "1.0"), ("0.0", "1.0")),
        (("True", "False"), ("false", "true"), ("true", "false")),
        (("0", "1"), ("LABEL_1", "LABEL_0"), ("LABEL_0", "LABEL_1")),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("2", "0"), ("0", "LABEL_1", "2")),
        (("O", "B-PER", "I-PER"), ("O", "B-per", "I-per"), ("O", "B-per", "I-per")),
        (("not spam", "spam"), (" Not  Spam ", "Spam"), (" Not  Spam ", "Spam")),
        (("LABEL_0", "LABEL_1"), ("negative", "positive"), None),
        (("LABEL_0", "LABEL_1"), ("1", "2"), None),
        (("yes", "no"), ("true", "false"), None),
        (("yes", "Yes"), ("YES",), None),
        (("yes", "no"), ("YES", "Yes"), None),
    ],
    ids=str,
)
def test_labels_are_matched_where_it_is_plain_which_is_which(
    known: tuple[str, ...], labels: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    assert as_named(known, labels) == expected


def test_a_head_goes_on_under_the_names_of_the_data_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = named(("NEGATIVE", "POSITIVE"))
    with caplog.at_level(logging.WARNING, "encodax"):
        start = with_head(model, SENTIMENT, ("positive", "negative"), seed=0)
    assert start.labels == ("negative", "positive")
    np.testing.assert_array_equal(
        start.params["head/output"]["w"], model.params["head/output"]["w"]
    )
    assert "'NEGATIVE', 'POSITIVE' are taken as the data's 'negative', 'positive'" in caplog.text


def test_a_new_head_is_said_with_both_lists(caplog: pytest.LogCaptureFixture) -> None:
    model = named(("LABEL_0", "LABEL_1"))
    with caplog.at_level(logging.WARNING, "encodax"):
        start = with_head(model, SENTIMENT, ("bad", "good"), seed=0)
    assert start.labels == ("bad", "good")
    assert not np.array_equal(start.params["head/output"]["w"], model.params["head/output"]["w"])
    assert "the head is new" in caplog.text
    assert "'LABEL_0', 'LABEL_1', and the data's 'bad', 'good'" in caplog.text


def test_a_tagger_goes_on_with_its_head(caplog: pytest.LogCaptureFixture) -> None:
    model = tagger().model
    assert isinstance(model, Model)
    theirs = tuple(label.upper() for label in model.labels)
    with caplog.at_level(logging.WARNING, "encodax"):
        start = with_head(model, TAGS, theirs, seed=0)
    assert sorted(start.labels) == sorted(theirs)
    np.testing.assert_array_equal(
        start.params["head/output"]["w"], model.params["head/output"]["w"]
    )
    caplog.clear()
    assert with_head(start, TAGS, theirs, seed=0) is start  # no word where nothing changes
    assert not caplog.records


def test_a_model_without_such_a_head_gets_one_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bare = named(("a", "b")).with_embeddings()
    assert with_head(bare, SENTIMENT, ("bad", "good"), seed=0).labels == ("bad", "good")
    assert not caplog.records
