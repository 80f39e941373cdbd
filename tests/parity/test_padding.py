"""Texts that hold the padding token, in every family: against transformers, packed with others."""

from __future__ import annotations

from pathlib import Path

import goldens
import jax
import numpy as np
import pytest
from blocks import assert_close, packed

STORED = np.load(Path(__file__).parent / "padding.npz")
CASES = ("within", "at both ends", "in a row", "none")
COUNT_NO_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet"}


@pytest.mark.parametrize("family", goldens.ENCODERS)
def test_padding_in_a_text_counts_as_the_reference_counts_it(family: str) -> None:
    model = goldens.parts(goldens.ENCODERS[family])
    texts = [STORED[f"{family}/{case}/token_ids"].tolist() for case in CASES]
    rows = [[0, 1], [2, 3]]
    batch = packed(texts, rows, tokens=20, slots=2)
    hidden = np.asarray(jax.jit(model.apply)(model.params, batch).hidden)
    for b, row in enumerate(rows):
        for n, index in enumerate(row):
            expected = STORED[f"{family}/{CASES[index]}/last"]
            start = int(np.asarray(batch.starts)[b, n])
            assert_close(hidden[b, start : start + len(expected)], expected, 1e-5)
    follows = model.config.encoder.embeddings.uncounted_id is not None
    assert follows == (family in COUNT_NO_PADDING)
