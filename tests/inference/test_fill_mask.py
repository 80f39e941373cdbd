"""Guesses for masks: the most probable tokens, and the text with each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest
import tokenizers
from blocks import drawn

from encodax import FillMask
from encodax.errors import EncodaxError
from encodax.inference.fill_mask import Guess
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Tokenizer

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


def test_targets_have_their_probabilities_among_all_tokens(model: Model) -> None:
    targets = ["dog", "##t", "cat", "dog"]
    ids = [model.tokenizer.id_of(word) for word in ("dog", "##t", "cat")]
    found = FillMask(model, targets=targets).predict(MASKED)
    for text, masks in zip(MASKED, found, strict=True):
        for guesses, scores in zip(masks, wanted(model, text), strict=True):
            best = sorted(ids, key=lambda token_id: -scores[token_id])
            assert [guess.token_id for guess in guesses] == best
            np.testing.assert_allclose([guess.score for guess in guesses], scores[best], rtol=1e-4)
    ((guesses,), *_) = FillMask(model, targets=targets, top_k=1).predict(MASKED)
    assert len(guesses) == 1


@pytest.mark.parametrize("word", ["dogcat", "two words", " ", "猫"])
def test_a_target_of_several_tokens_or_none_is_refused(model: Model, word: str) -> None:
    with pytest.raises(EncodaxError, match=f"the target {word!r} is not one token of the model"):
        FillMask(model, targets=["dog", word])


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


def filled(model: Model, text: str) -> dict[str, str]:
    """The text with each token of the vocabulary for its first mask."""
    return {guess.token: guess.text for guess in guesses_of(model, text)}


def guesses_of(model: Model, text: str) -> list[Guess]:
    """All guesses for its first mask; the head has more rows than some tokenizers have tokens."""
    assert model.config.head is not None
    (masks,) = FillMask(model, top_k=model.config.head.classes).predict([text])
    return masks[0]


def test_the_rest_of_a_text_stands_as_it_was_given(model: Model) -> None:
    text = "  What's  a [MASK]-DOG\u00e9?\t([MASK])\n"
    found = filled(model, text)
    assert found["cat"] == "  What's  a cat-DOG\u00e9?\t([MASK])\n"
    assert found["##t"] == "  What's  at-DOG\u00e9?\t([MASK])\n"
    assert filled(model, "the c[MASK]")["##t"] == "the ct"
    assert filled(model, "the c[MASK]")["cat"] == "the ccat"
    assert filled(model, "[MASK] sat")["##t"] == "t sat"
    readable = {guess.token: guess.token_text for guess in guesses_of(model, "a [MASK]")}
    assert (readable["##t"], readable["cat"], readable["[SEP]"]) == ("t", "cat", "[SEP]")


def with_tokenizer(model: Model, tokenizer: Tokenizer) -> Model:
    """The model with another tokenizer, of no more tokens."""
    assert tokenizer.vocabulary_size <= model.tokenizer.vocabulary_size
    return replace(model, tokenizer=tokenizer)


def bpe_tokenizer(*, takes_space: bool) -> Tokenizer:
    """Byte-level BPE, whose mask holds the space before it as RoBERTa's does."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *"outwalknz", "\u0120", "\u0120o", "\u0120ou"]
    ids = {token: index for index, token in enumerate([*tokens, "\u0120out", "ou", "out"])}
    merges = [("\u0120", "o"), ("\u0120o", "u"), ("\u0120ou", "t"), ("o", "u"), ("ou", "t")]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(ids, merges))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    mask = tokenizers.AddedToken("<mask>", lstrip=takes_space, special=True)
    backend.add_special_tokens([mask])
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return Tokenizer(backend)


@pytest.mark.parametrize("takes_space", [True, False])
def test_spaces_of_byte_level_tokens_are_those_of_the_text(model: Model, takes_space: bool) -> None:
    other = with_tokenizer(model, bpe_tokenizer(takes_space=takes_space))
    found = filled(other, "walk <mask>s,  now")
    assert found["\u0120out"] == "walk outs,  now"
    # Without its space a token goes on with the word before, unless the space is a token's own.
    assert found["out"] == ("walkouts,  now" if takes_space else "walk outs,  now")
    assert filled(other, "walk  \t<mask>")["\u0120out"] == "walk  \tout"
    assert filled(other, "walk<mask>")["\u0120out"] == "walk out"
    assert filled(other, "walk<mask>")["out"] == "walkout"
    assert filled(other, "<mask> walk <mask>")["\u0120out"] == "out walk <mask>"
    readable = {guess.token: guess.token_text for guess in guesses_of(other, "a<mask>")}
    assert (readable["\u0120out"], readable["out"]) == (" out", "out")


def test_pieces_of_sentencepiece_are_words_of_the_text(model: Model) -> None:
    scored = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = ["\u2581", "\u2581out", "out", "\u6211", "\u4f60", "\u7231"]
    model_of_pieces = tokenizers.models.Unigram([*scored, *((p, -1.0) for p in pieces)], unk_id=3)
    backend = tokenizers.Tokenizer(model_of_pieces)
    space = tokenizers.pre_tokenizers.Metaspace()
    backend.pre_tokenizer, backend.decoder = space, tokenizers.decoders.Metaspace()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    backend.add_special_tokens([mask])
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    other = with_tokenizer(model, Tokenizer(backend))
    assert filled(other, "\u6211<mask>\u4f60\u3002")["\u7231"] == "\u6211\u7231\u4f60\u3002"
    found = filled(other, "walk <mask>!")
    assert (found["\u2581out"], found["out"]) == ("walk out!", "walkout!")
    readable = {guess.token: guess.token_text for guess in guesses_of(other, "a<mask>")}
    assert (readable["\u2581out"], readable["\u7231"]) == (" out", "\u7231")


def test_no_text_has_no_guess(model: Model) -> None:
    assert FillMask(model).predict([]) == []


def test_a_text_without_a_mask_is_refused(model: Model) -> None:
    with pytest.raises(EncodaxError, match=r"text 1: the text has no \[MASK\] to fill"):
        FillMask(model).predict(TEXTS)


def test_one_string_is_no_list_of_texts(model: Model) -> None:
    with pytest.raises(EncodaxError, match="give a list of texts, not one string"):
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
