"""Characters of each token, and words of tokens, for every task that marks parts of a text.

Tokenizers mean different things by an offset. Byte-level BPE and SentencePiece count the space
before a word as part of it, and normalizers that compose or drop accents lose them. Here a token
begins and ends at visible characters: without spaces at its edges, and with the accents of its last
letter.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int, UInt8

WordRule = Literal["pieces", "regex", "spaces", "letters"]
"""Rule of a tokenizer's words. `pieces`: a piece of its pre-tokenizer, as in BERT. `regex`: a piece
too, but the expression takes marks for punctuation and knows no Chinese (byte-level BPE). `spaces`:
text between spaces (SentencePiece). `letters`: adjacent letters and digits, where each character is
a token."""

OTHER, LETTER, NUMBER, MARK, SPACE = range(5)
_JOINERS = ("\u200c", "\u200d")
_LATIN = 0x300
_TABLE_END = 0x20000
_UNSPACED = np.asarray(
    [
        (0x0E00, 0x0EFF),  # Thai, Lao
        (0x1000, 0x109F),  # Myanmar
        (0x1780, 0x17FF),  # Khmer
        (0x3005, 0x3007),
        (0x3040, 0x309F),  # Hiragana; not Katakana, which writes single words
        (0x3400, 0x4DBF),  # Chinese characters, as BERT defines them
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
        (0x20000, 0x2FA1F),
    ]
)
"""First and last code points of scripts without spaces between words."""
_CHARACTERS = frozenset({r"[\s\S]", ".", "(?s).", ""})
"""Regular expressions that match every single character."""


def _class_of(code: int) -> int:
    character = chr(code)
    if character.isspace():
        return SPACE
    if character in _JOINERS:
        return MARK
    kinds = {"L": LETTER, "N": NUMBER, "M": MARK}
    return kinds.get(unicodedata.category(character)[0], OTHER)


_LATIN_CLASSES = np.asarray([_class_of(code) for code in range(_LATIN)], np.uint8)


@functools.cache
def _all_classes() -> UInt8[np.ndarray, " codes"]:
    return np.asarray([_class_of(code) for code in range(_TABLE_END)], np.uint8)


def _classes(codes: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Return the class of each code point."""
    found: np.ndarray
    if not len(codes) or codes.max() < _LATIN:  # most texts: the full table is not built
        found = _LATIN_CLASSES[codes]
        return found
    found = _all_classes()[np.minimum(codes, _TABLE_END - 1)]
    found[(codes >= _TABLE_END) & (codes < 0x40000)] = LETTER  # Chinese
    found[(codes >= 0xE0100) & (codes < 0xE01F0)] = MARK  # variation selectors
    return found


def _codes(*texts: str) -> Int[np.ndarray, " n"]:
    """Return code points, and after each text a 0, which is neither a space nor a mark."""
    ended = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(ended.encode("utf-32-le", "surrogatepass"), np.int32)


def visible_offsets(
    offsets: Int[np.ndarray, "tokens 2"],
    sequence_ids: Int[np.ndarray, " tokens"],
    is_blank: Bool[np.ndarray, " tokens"],
    texts: tuple[str, ...],
) -> Int[np.ndarray, "tokens 2"]:
    """Return offsets without spaces at the edges, and with the marks after the last letter.

    A token of spaces only has no characters: it begins and ends where they end.

    Args:
        offsets: offsets of the tokenizer.
        sequence_ids: index of the text of each token, from 0; -1 for none.
        is_blank: whether a token stands for a space, which the tokenizer may have added.
        texts: the text, or both of a pair.
    """
    codes = _codes(*texts)
    tokens = np.flatnonzero((sequence_ids >= 0) & (offsets[:, 0] < offsets[:, 1]))
    shift = np.where(sequence_ids[tokens] == 1, len(texts[0]) + 1, 0)
    starts, ends = offsets[tokens, 0] + shift, offsets[tokens, 1] + shift
    at_edges = _classes(np.stack([codes[starts], codes[ends - 1], codes[ends]]).ravel())
    at_edges = at_edges.reshape(3, -1)
    has_space = bool((at_edges[:2] == SPACE).any())
    has_mark = bool((at_edges[2] == MARK).any())
    blank = is_blank[tokens]
    if not (has_space or has_mark or blank.any()):
        return offsets
    kinds = _classes(codes)
    if has_space:
        seen = np.flatnonzero(kinds != SPACE)
        starts = np.minimum(seen[np.searchsorted(seen, starts)], ends)
        before = np.searchsorted(seen, ends) - 1
        last = np.where(before >= 0, seen[before], -1)
        ends = np.maximum(last + 1, starts)
    ends = np.where(blank & (codes[starts] != ord("▁")), starts, ends)
    if has_mark:
        whole = np.flatnonzero(kinds != MARK)
        after_marks = whole[np.searchsorted(whole, ends)]
        next_start = np.append(starts[1:], len(codes))
        reach = np.maximum(ends, np.minimum(after_marks, next_start))
        ends = np.where(starts < ends, reach, ends)
    found = offsets.copy()
    found[tokens, 0], found[tokens, 1] = starts - shift, ends - shift
    return found


def numbers(
    offsets: Int[np.ndarray, "tokens 2"],
    word_ids: Int[np.ndarray, " tokens"] | None,
    text: str,
    rule: WordRule,
) -> Int[np.ndarray, " tokens"]:
    """Return the number of each token's word, from 1.

    A word never continues beyond a space, and marks belong to the letter before. In scripts without
    spaces each token is a separate word, except by the rule `pieces`.

    Args:
        offsets: offsets of the tokens of one text, from `visible_offsets`.
        word_ids: the pre-tokenizer's word of each; None where it has none.
        text: text that was encoded.
        rule: rule that says what a word is.
    """
    if not len(offsets):
        return np.zeros(0, np.int32)
    goes_on = np.ones(len(offsets) - 1, bool)
    if word_ids is not None:
        goes_on = word_ids[1:] == word_ids[:-1]
    if rule != "pieces":
        goes_on = _goes_on(offsets, goes_on, text, rule)
    return (1 + np.cumsum(np.append(False, ~goes_on))).astype(np.int32)


def _goes_on(
    offsets: Int[np.ndarray, "tokens 2"],
    is_same: Bool[np.ndarray, " others"],
    text: str,
    rule: WordRule,
) -> Bool[np.ndarray, " others"]:
    """Return for each token but the first whether it continues the word of the one before."""
    codes = _codes(text)
    kinds = _classes(codes)
    base = np.maximum.accumulate(np.where(kinds == MARK, 0, np.arange(len(codes))))
    begins, (starts, ends) = offsets[1:, 0], offsets[:-1].T
    spaces = np.append(0, np.cumsum(kinds == SPACE))
    touches = spaces[begins] <= spaces[np.minimum(ends, begins)]
    before, here = np.maximum(begins - 1, 0), begins
    letter, kind = kinds[base[before]], kinds[here]  # of the letter before any marks
    if rule == "letters":
        is_same = np.isin(letter, (LETTER, NUMBER)) & np.isin(kind, (LETTER, NUMBER))
    follows_marks = (kinds[before] == MARK) & (letter == LETTER)
    if rule == "regex":
        is_same = is_same & ~(follows_marks & (kind == OTHER))
    is_unspaced = _is_unspaced(codes[base[before]]) | _is_unspaced(codes[here])
    joined = (is_same & ~is_unspaced) | ((kind == MARK) & (letter != SPACE))
    if rule != "spaces":
        joined |= follows_marks & (kind == LETTER) & ~is_unspaced
    joined |= begins < ends  # they share a character
    goes_on: np.ndarray = touches & np.where(starts < ends, joined, is_same)
    return goes_on


def _is_unspaced(codes: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    place = np.searchsorted(_UNSPACED[:, 0], codes, side="right") - 1
    found: np.ndarray = (place >= 0) & (codes <= _UNSPACED[place, 1])
    return found


def rule_of(pre_tokenizer: Any) -> WordRule:
    """Return the word rule of a tokenizer, by its pre-tokenizer of the `tokenizers` library."""
    if pre_tokenizer is None:
        return "spaces"
    try:
        state = json.loads(pre_tokenizer.__getstate__())
    except (TypeError, ValueError):  # one written in Python has no state to read
        return "regex"
    steps = _steps(state)
    kinds = {step["type"] for step in steps}
    if "BertPreTokenizer" in kinds:
        return "pieces"
    if kinds <= {"Metaspace", "WhitespaceSplit"}:
        return "spaces"
    if kinds == {"Split"} and any(_is_of_characters(step) for step in steps):
        return "letters"
    return "regex"


def blank_of(pre_tokenizer: Any) -> str:
    """Return the token that stands for a single space, where a vocabulary has one."""
    return "Ġ" if "ByteLevel" in repr(pre_tokenizer) else "▁"


def _steps(state: dict[str, Any]) -> list[dict[str, Any]]:
    if state["type"] != "Sequence":
        return [state]
    return [inner for step in state["pretokenizers"] for inner in _steps(step)]


def _is_of_characters(step: dict[str, Any]) -> bool:
    return step["pattern"].get("Regex") in _CHARACTERS and step["behavior"] == "Isolated"
