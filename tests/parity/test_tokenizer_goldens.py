"""Tokenizers' directories, key by key: ids, types, offsets and decoding equal transformers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer_directories import GOLDENS, cases, files_of, write

from encodax.errors import EncodaxError
from encodax.tokenizer import Tokenizer

MOST = 6
CASES = dict(cases())
TEXTS = json.loads(GOLDENS.read_text(encoding="utf-8"))["texts"]


def given(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    found = []
    for text in TEXTS:
        (one,) = tokenizer.encode([tuple(text) if isinstance(text, list) else text])
        found.append(
            {
                "ids": one.token_ids.tolist(),
                "types": one.type_ids.tolist(),
                "offsets": one.offsets.ravel().tolist(),
                "cut": one.truncated(MOST).token_ids.tolist(),
                "text": tokenizer.decode(one.token_ids),
            }
        )
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_directory_is_read_as_transformers_reads_it(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write(tmp_path, files_of(case))
    if "refused" in case:
        with pytest.raises(EncodaxError):
            Tokenizer.load(tmp_path).encode(TEXTS)
        return
    tokenizer = Tokenizer.load(tmp_path)
    assert given(tokenizer) == case["texts"]
    assert tokenizer.pad_id == case["roles"].get("pad_token", tokenizer.pad_id)
    assert tokenizer.mask_id == case["roles"].get("mask_token", tokenizer.mask_id)
