"""Which tokens are one word, and what a token is of, for each kind of tokenizer."""

from __future__ import annotations

import pytest
from kinds import KINDS, TEXTS, tokenizer
from tokenizers import Regex, pre_tokenizers

from encodax.tasks.token_classification import words_of
from encodax.text.words import blank_of, rule_of


def words(kind: str, text: str) -> list[str]:
    (encoding,) = tokenizer(kind).encode([text])
    found = []
    for word in words_of(text, encoding):
        starts, ends = encoding.offsets[word].T
        found.append(text[starts.min() : ends.max()])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_marks_belong_to_their_letters(kind: str) -> None:
    by_spaces = kind in ("metaspace", "spaces, metaspace", "unsplit")
    blank = [" "] if kind == "char" else []
    found = [word for word in words(kind, TEXTS["hindi"]) if word not in blank]
    assert found == ["मैं", "दिल्ली", "में", "हूँ"]
    hebrew = [word for word in words(kind, TEXTS["hebrew"]) if word not in blank]
    joined = ["בֶּן־טוֹב"] if by_spaces else ["בֶּן", "־", "טוֹב"]
    assert hebrew == ["שָׁלוֹם", *joined]
    accents = [word for word in words(kind, TEXTS["accents"]) if word not in blank]
    assert accents == ["cafe\u0301", "e\u0301te\u0301"]


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace", "spaces, metaspace", "unsplit", "char"])
def test_each_chinese_character_is_a_word(kind: str) -> None:
    assert words(kind, "韩梅梅") == ["韩", "梅", "梅"]
    assert words(kind, TEXTS["chinese"]) == list(TEXTS["chinese"])


def test_a_clause_of_bytes_is_no_single_word() -> None:
    """Tokens of a byte-level vocabulary may hold parts of two characters: those stay together."""
    assert len(words("bytes", TEXTS["chinese"])) >= 4


@pytest.mark.parametrize("kind", ["metaspace", "char"])
def test_katakana_writes_words_and_other_scripts_without_spaces_do_not(kind: str) -> None:
    assert words(kind, TEXTS["japanese"]) == ["昨", "日", "マット", "で"]
    assert words(kind, TEXTS["thai"]) == ["ดี", "ค", "รั", "บ"]


def test_words_of_wordpiece_are_those_of_its_pre_tokenizer() -> None:
    assert words("wordpiece", TEXTS["english"]) == [
        "Ada", "'", "s", "e", "-", "mail", "(", "3", ".", "5", ")", "to", "B2B",
    ]  # fmt: skip
    assert words("wordpiece", TEXTS["thai"]) == ["ดีครับ"]


@pytest.mark.parametrize("kind", ["bytes", "bytes, a space first"])
def test_words_of_bytes_are_those_of_their_expression(kind: str) -> None:
    assert words(kind, TEXTS["english"]) == [
        "Ada", "'s", "e", "-", "mail", "(", "3", ".", "5", ")", "to", "B", "2", "B",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["metaspace", "spaces, metaspace", "unsplit"])
def test_words_of_sentencepiece_stand_between_spaces(kind: str) -> None:
    assert words(kind, TEXTS["english"]) == ["Ada's", "e-mail", "(3.5)", "to", "B2B"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_is_no_word_but_where_each_character_is_a_token(kind: str) -> None:
    wanted = [" ", "a", " ", " ", "b", " "] if kind == "char" else ["a", "b"]
    assert words(kind, TEXTS["spaces"]) == wanted


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "unsplit"])
def test_emoji_stay_whole(kind: str) -> None:
    assert words(kind, TEXTS["emoji"]) == ["ok", "❤️", "👩\u200d👩"]


@pytest.mark.parametrize("kind", KINDS)
def test_words_keep_their_numbers_in_a_piece(kind: str) -> None:
    text = "Ada's e-mail to B2B"
    (encoding,) = tokenizer(kind).encode([text])
    numbers = encoding.words(text)[~encoding.is_special]
    pieces = encoding.windows(0, 4, 1)
    assert len(pieces) > 1
    for number, piece in enumerate(pieces):
        own, found = numbers[3 * number :][:4], piece.words(text)
        assert (found[piece.is_special] == 0).all()
        assert (found[~piece.is_special] == own - own[0] + 1).all()


def test_what_a_word_is_is_told_by_the_pre_tokenizer() -> None:
    whitespace = pre_tokenizers.Whitespace()
    nested = pre_tokenizers.Sequence([pre_tokenizers.Sequence([whitespace])])
    assert rule_of(None) == "spaces"
    assert rule_of(pre_tokenizers.BertPreTokenizer()) == "pieces"
    assert rule_of(nested) == "regex"
    assert rule_of(pre_tokenizers.Split(Regex("."), "isolated")) == "letters"
    assert rule_of(pre_tokenizers.Split(Regex("a|b"), "isolated")) == "regex"
    assert blank_of(pre_tokenizers.ByteLevel()) == "Ġ"
    assert blank_of(pre_tokenizers.Metaspace()) == "▁"
