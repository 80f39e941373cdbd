"""A `Translator` without options gives the very tokens of transformers' `generate` without any.

The directories are made by `interop/generate/decoding.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens_decoding import ALL, ids_of, p_of_first_tokens, saying, stored

from encodax import Translator

SOME = 2, 3, 4, 6, 9, 10, 12, 13, 14, 15
"""Cases that every rule has a part in, a family each in turn; `interop/decoding.py` has all."""
CASES = [(ALL[place % len(ALL)], number) for place, number in enumerate(SOME)]


@pytest.mark.parametrize(("family", "number"), CASES)
def test_the_same_tokens(tmp_path: Path, family: str, number: int) -> None:
    cases = stored(family, "cases")
    case = cases["cases"][number]
    texts = cases["sources"]
    translator = Translator.load(saying(family, case["said"], tmp_path / "model"), batch_size=8)
    few = [place for place, ids in enumerate(encoded(translator, texts)) if len(ids) <= 16]
    assert len(few) > 3
    wanted = [case["ids"][place] for place in few]
    assert ids_of(translator, [texts[place] for place in few]) == wanted


def encoded(translator: Translator, texts: list[str]) -> list[list[int]]:
    """Token ids of the sources."""
    return [each.token_ids.tolist() for each in translator.model.encode(texts)[0]]


def test_the_texts_and_the_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = stored("bart", "cases")
    case = cases["cases"][6]
    translator = Translator.load(saying("bart", case["said"], tmp_path / "model"), batch_size=8)
    found = translator.translate(cases["sources"][:2])
    assert [[each.text, *(other.text for other in each.others)] for each in found] == case["texts"][
        :2
    ]
    (note,) = [record.getMessage() for record in caplog.records]
    assert "num_beams = 4" in note and "no_repeat_ngram_size = 2" in note
    other = translator.generation_options(
        beams=2, length_penalty=0.5, no_repeat_ngram_size=0, max_tokens=7
    )
    assert other.beams is not None and other.rules is not None
    assert (other.beams.size, other.beams.length_penalty, other.beams.offset) == (2, 0.5, 0.0)
    assert (other.beams.early_stopping, other.max_tokens, other.n_best) == (True, 7, 1)
    assert (other.rules.no_repeat_ngram_size, other.rules.min_tokens) == (0, 9)


@pytest.mark.parametrize("number", [0, 2, 3, 4, 5, 6, 7, 8, 9])
def test_first_tokens_are_drawn_as_often(tmp_path: Path, number: int) -> None:
    sample = stored("bart", "samples")[number]
    text = stored("bart", "cases")["sources"][0]
    place = saying("bart", sample["said"], tmp_path / "model")
    translator = Translator.load(place, batch_size=2_000)
    assert p_of_first_tokens(translator, text, sample["chances"]) > 0.001
