"""Offsets slice back to the source text, whatever it is written in."""

import re
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kinds import KINDS, tokenizer

from encodax.tasks import question_answering, token_classification
from encodax.tasks.task import Example
from encodax.text.tokenizer import Encoding, Tokenizer
from encodax.types.batches import Span

CORPUS = (
    "the cat sat on the mat, and the dog ran away",
    "Die Katze saß auf der Matte. Ça va très bien, merci!",
    "Кошка сидела на коврике; 猫がマットの上に座った。 안녕하세요 세계",
    "🙂 naïve café — 12 May 2021 … x² + y² = z²\n\ttabs and  spaces",
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WORDS = st.lists(st.sampled_from(" ".join(CORPUS).split()), max_size=12).map(" ".join)
# A special token written in a text is taken for one, as in BERT: tests/text/test_tokenizer.py.
EITHER = st.one_of(TEXTS, WORDS).filter(lambda text: not re.search(r"\[[A-Z]+\]", text))
HARD = (
    "",
    " ",
    "a b",
    "é",
    "e\u0301",
    "👩‍👩‍👧 family",
    "İstanbul",
    "ﬁn",
    "\u200b",
    "\x00",
    "\r\n",
    "  x",
)


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return Tokenizer.train(CORPUS, "char", vocabulary_size=400)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.train(CORPUS, "bpe", vocabulary_size=400)


@pytest.fixture(scope="module", params=[False, True], ids=["cased", "lowercase"])
def wordpiece(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.train(CORPUS, "wordpiece", vocabulary_size=400, lowercase=request.param)


def real(encoding: Encoding) -> list[tuple[int, int]]:
    """Offsets of the tokens that stand for text, after what holds for all of them."""
    text_tokens = encoding.offsets[~encoding.is_special]
    assert (encoding.offsets[encoding.is_special] == 0).all()
    starts, ends = text_tokens.T
    assert (starts <= ends).all()
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(ends) >= 0).all()
    return [(int(start), int(end)) for start, end in text_tokens]


def hard(test):  # type: ignore[no-untyped-def]
    for text in HARD:
        test = example(text=text)(test)
    return test


@given(text=EITHER)
@hard
def test_a_char_token_is_its_character(char: Tokenizer, text: str) -> None:
    (encoding,) = char.encode([text])
    assert real(encoding) == [(index, index + 1) for index in range(len(text))]
    for index, token in zip(range(len(text)), char.tokens(encoding.token_ids)[1:-1], strict=True):
        assert token in (text[index], "[UNK]")


@given(text=EITHER)
@hard
def test_bpe_covers_every_character_that_is_no_space(bpe: Tokenizer, text: str) -> None:
    (encoding,) = bpe.encode([text])
    offsets = real(encoding)
    covered = {index for start, end in offsets for index in range(start, end)}
    assert covered <= set(range(len(text)))
    assert covered >= {index for index, sign in enumerate(text) if not sign.isspace()}


@given(text=EITHER)
@hard
def test_bpe_decodes_to_the_text(bpe: Tokenizer, text: str) -> None:
    (encoding,) = bpe.encode([text])
    assert bpe.decode(encoding.token_ids) == text


@given(text=EITHER)
@hard
def test_a_wordpiece_slices_back_to_itself(wordpiece: Tokenizer, text: str) -> None:
    """What a known token slices out, written as the vocabulary writes, is the token."""
    (encoding,) = wordpiece.encode([text])
    offsets = real(encoding)
    tokens = [
        token
        for token, special in zip(
            wordpiece.tokens(encoding.token_ids), encoding.is_special, strict=True
        )
        if not special
    ]
    for (start, end), token in zip(offsets, tokens, strict=True):
        assert 0 <= start < end <= len(text)
        if token != "[UNK]":
            assert simplified(token.removeprefix("##")) in simplified(text[start:end])


def simplified(text: str) -> str:
    """Without case, accents and signs that are not seen."""
    plain = unicodedata.normalize("NFD", text).lower()
    plain = unicodedata.normalize("NFD", plain)
    return "".join(sign for sign in plain if unicodedata.category(sign)[0] not in "MC")


@given(words=st.lists(st.sampled_from(["the", "cat", "sat", "mat", "dog"]), min_size=1, max_size=8))
def test_known_words_slice_back_exactly(wordpiece: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    (encoding,) = wordpiece.encode([text])
    pieces = [text[start:end] for start, end in real(encoding)]
    assert "".join(pieces) == "".join(words)
    tokens = wordpiece.tokens(encoding.token_ids)[1:-1]
    assert pieces == [token.removeprefix("##") for token in tokens]


@given(first=EITHER, second=EITHER)
def test_the_offsets_of_a_pair_are_of_each_text(bpe: Tokenizer, first: str, second: str) -> None:
    (pair,) = bpe.encode([(first, second)])
    for kind, text in enumerate((first, second)):
        (single,) = bpe.encode([text])
        own = ~pair.is_special & (pair.type_ids == kind)
        np.testing.assert_array_equal(pair.offsets[own], single.offsets[~single.is_special])
        np.testing.assert_array_equal(pair.token_ids[own], single.token_ids[~single.is_special])


# Every kind of tokenizer: those of other people hold the space before a word, put one before the
# first, change the length of a text, and drop accents.

OF_LETTERS = [kind for kind in KINDS if kind != "char"]
SIGNS = "aé猫カก9.,-' \t\u3000\u0301\u093e\u200d🙂ﬁ½"
MIXED = st.text(SIGNS, max_size=20)
LABELS = ("O", "B-x", "I-x")


@pytest.mark.parametrize("kind", OF_LETTERS)
@given(text=st.one_of(MIXED, TEXTS))
@hard
def test_tokens_begin_and_end_at_what_is_seen(kind: str, text: str) -> None:
    (encoding,) = tokenizer(kind).encode([text])
    offsets = real(encoding)
    for start, end in offsets:
        assert 0 <= start <= end <= len(text)
        piece = text[start:end]
        assert piece == piece.strip()
    covered = {index for start, end in offsets for index in range(start, end)}
    for place in sorted(covered):
        after = place + 1
        if after < len(text) and unicodedata.category(text[after])[0] == "M":
            assert after in covered, "a letter has lost its accent"


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.one_of(MIXED, TEXTS))
@hard
def test_words_hold_no_space_and_keep_marks(kind: str, text: str) -> None:
    (encoding,) = tokenizer(kind).encode([text])
    end_before = 0
    for word in token_classification.words_of(text, encoding):
        starts, ends = encoding.offsets[word].T
        start, end = int(starts.min()), int(ends.max())
        for later, sooner in zip(starts[1:], ends[:-1], strict=True):
            assert not any(map(str.isspace, text[sooner:later]))
        if start == end_before > 0 and not text[start - 1].isspace() and kind != "wordpiece":
            assert unicodedata.category(text[start])[0] != "M"
        end_before = end


@pytest.mark.parametrize("kind", KINDS)
@given(names=st.lists(st.sampled_from(["Ada", "Gro\u0308ße", "韩梅", "मैं", "ab"]), min_size=1))
def test_spans_and_answers_come_back(kind: str, names: list[str]) -> None:
    """A model that has learned a text by heart tells the same spans, by tokens and by words."""
    text = f"we met  {names[0]} " + " ".join(names)
    span = Span(8, 8 + len(names[0]), "x")
    (encoding,) = tokenizer(kind).encode([text])
    targets = token_classification.targets(Example(text, (span,), "here"), encoding, LABELS)
    scores = np.eye(3)[np.asarray(targets.values)]
    for way in ("simple", "first"):
        (found,) = token_classification.decode(scores, encoding, LABELS, way, text)  # type: ignore[arg-type]
        assert (found.start, found.end) == (span.start, span.end)


@pytest.mark.parametrize("kind", KINDS)
@given(text=MIXED.filter(lambda text: text.strip() != ""), seed=st.integers(0, 99))
def test_answers_begin_and_end_at_what_is_seen(kind: str, text: str, seed: int) -> None:
    (pair,) = tokenizer(kind).encode([("ab", text)])
    pair = replace(pair, sequence_ids=np.where(pair.is_special, -1, pair.sequence_ids))
    if not (pair.offsets[pair.sequence_ids == 1] > 0).any():
        return  # the tokenizer has dropped it all
    scores = np.random.default_rng(seed).normal(size=(len(pair), 2)).astype(np.float32)
    answer = question_answering.decode(scores, pair, ())
    piece = text[answer.start : answer.end]
    assert piece
    assert piece == piece.strip() or kind == "char"
