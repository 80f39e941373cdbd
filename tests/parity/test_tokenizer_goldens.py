"""Tokenizers' directories, key by key: ids, types, offsets, cuts and decoding as transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizer_directories import files_of, goldens, write

from encodax.errors import EncodaxError
from encodax.text import words
from encodax.text.tokenizer import Encoding, Text, Tokenizer

MOST = 6
CASES: dict[str, dict[str, Any]] = goldens()["cases"]
TEXTS = [tuple(text) if isinstance(text, list) else text for text in goldens()["texts"]]


def answer(tokenizer: Tokenizer, text: Text, one: Encoding, expected: dict[str, Any]) -> Any:
    """What we make of a text, with their offsets where ours are these without what is not seen."""
    theirs = np.asarray(expected["offsets"], np.int32).reshape(-1, 2)
    if len(theirs):  # those of Python classes have none
        texts = (text,) if isinstance(text, str) else text
        is_blank = one.token_ids == (-1 if tokenizer._blank_id is None else tokenizer._blank_id)
        seen = words.visible_offsets(theirs, one.sequence_ids, is_blank, texts)
        assert one.offsets.tolist() == seen.tolist(), text
    return {
        "ids": one.token_ids.tolist(),
        "types": one.type_ids.tolist(),
        "offsets": expected["offsets"],
        "cut": one.truncated(MOST).token_ids.tolist(),
        "text": tokenizer.decode(one.token_ids),
    }


@pytest.mark.parametrize("base", sorted({case["base"] for case in CASES.values()}))
def test_directories_are_read_as_transformers_reads_them(base: str, tmp_path: Path) -> None:
    names = [name for name in CASES if CASES[name]["base"] == base]
    assert len(names) >= 14
    for number, name in enumerate(names):
        case = CASES[name]
        directory = write(tmp_path / str(number), files_of(case))
        if "refused" in case:
            with pytest.raises(EncodaxError):
                Tokenizer.load(directory)
            continue
        tokenizer = Tokenizer.load(directory)
        encodings = tokenizer.encode(TEXTS[: len(case["texts"])])
        for text, one, expected in zip(TEXTS, encodings, case["texts"], strict=False):
            assert answer(tokenizer, text, one, expected) == expected, (name, text)
        for role, index in case["roles"].items():
            assert tokenizer.vocabulary()[tokenizer.special_tokens[role]] == index, (name, role)
