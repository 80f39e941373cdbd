"""Guesses for masks: the most probable tokens, and the text with each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest
from blocks import drawn

from encodax import FillMask
from encodax.errors import EncodaxError
from encodax.model import Model
from encodax.tokenizer import Tokenizer

TEXTS = ["the [MASK] sat", "a dog ran", "[MASK] met [MASK] in Paris", "what a wonderful [MASK]!"]
MASKED = [TEXTS[0], TEXTS[2], TEXTS[3]]


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    classes = tiny_model.tokenizer.vocabulary_size
    model = tiny_model.with_head("vocabulary", classes=classes)
    # Parameters that let no two tokens be equally probable.
    return replace(model, params=drawn(jax.eval_shape(lambda: model.params)))


def wanted(model: Model, text: str) -> list[np.ndarray]:
    """The probabilities of every token at each mask, from the logits of the text alone."""
    batch = model.batch([text])
    logits = np.asarray(model.apply(model.params, batch).logits, np.float64)[0]
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return list(scores[np.asarray(batch.token_ids)[0] == model.tokenizer.mask_id])


def test_guesses_are_the_most_probable_tokens(model: Model) -> None:
    found = FillMask(model, top_k=7).predict(MASKED)
    assert [len(masks) for masks in found] == [1, 2, 1]
    for text, masks in zip(MASKED, found, strict=True):
        for guesses, scores in zip(masks, wanted(model, text), strict=True):
            best = np.argsort(-scores)[:7]
            assert [guess.token_id for guess in guesses] == best.tolist()
            np.testing.assert_allclose([guess.score for guess in guesses], scores[best], rtol=1e-4)
            assert [guess.token for guess in guesses] == model.tokenizer.tokens(best)


def test_all_tokens_can_be_asked_for(model: Model) -> None:
    size = model.tokenizer.vocabulary_size
    ((guesses,),) = FillMask(model, top_k=size).predict(MASKED[:1])
    assert sorted(guess.token_id for guess in guesses) == list(range(size))
    assert sum(guess.score for guess in guesses) == pytest.approx(1, abs=1e-5)


def test_a_guess_has_its_text(model: Model) -> None:
    (first,), (second, third), _ = FillMask(model, top_k=120).predict(MASKED)
    words = {guess.token: guess.text for guess in first}
    assert words["cat"] == "the cat sat"
    assert words["##t"] == "thet sat"
    words = {guess.token: guess.text for guess in second}
    assert words["dog"] == "dog met [MASK] in Paris"  # the other mask stays
    words = {guess.token: guess.text for guess in third}
    assert words["dog"] == "[MASK] met dog in Paris"
    assert words["[MASK]"] == "[MASK] met [MASK] in Paris"


def test_no_text_has_no_guess(model: Model) -> None:
    assert FillMask(model).predict([]) == []


def test_a_text_without_a_mask_is_refused(model: Model) -> None:
    with pytest.raises(EncodaxError, match=r"text 1: the text has no \[MASK\] to fill"):
        FillMask(model).predict(TEXTS)


def test_one_string_is_no_list_of_texts(model: Model) -> None:
    with pytest.raises(EncodaxError, match="a list of texts is wanted, not one string"):
        FillMask(model).predict(TEXTS[0])


@pytest.mark.parametrize("top_k", [0, -1, 121, 10**6])
def test_top_k_is_in_the_vocabulary(model: Model, top_k: int) -> None:
    with pytest.raises(EncodaxError, match=rf"top_k = {top_k} is not in 1\.\.120"):
        FillMask(model, top_k=top_k)


def test_another_head_is_refused(tiny_model: Model) -> None:
    for other in (tiny_model, tiny_model.with_embeddings()):
        with pytest.raises(EncodaxError, match="the model has no masked-language-model head"):
            FillMask(other)


def test_a_tokenizer_without_a_mask_is_refused(model: Model) -> None:
    backend = Tokenizer.train(["ab"] * 2, "char")
    backend.special_tokens = {
        role: token for role, token in backend.special_tokens.items() if role != "mask_token"
    }
    with pytest.raises(EncodaxError, match="the tokenizer of the model has no mask token"):
        FillMask(replace(model, tokenizer=backend))


def test_a_long_text_is_refused_or_cut(model: Model) -> None:
    long = "the [MASK] sat " + "cat " * 40
    with pytest.raises(EncodaxError, match=r"text 0: .* tokens, and the model takes 32"):
        FillMask(model).predict([long])
    ((guesses,),) = FillMask(model).predict([long], truncate=True)
    assert len(guesses) == 5


def test_a_stream_reads_a_few_windows_ahead_of_an_endless_source(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 4)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for text in itertools.cycle(MASKED):
            read += 1
            yield text

    answers = FillMask(model).stream(endless())
    assert read == 0
    assert len(next(answers)) == 1
    assert read <= 6 * 4
    assert [len(masks) for masks in itertools.islice(answers, 5)] == [2, 1, 1, 2, 1]
    assert read <= 5 + 6 * 4
    with pytest.raises(EncodaxError, match="text 4: the text has no"):
        list(FillMask(model).stream([*MASKED, *TEXTS]))
