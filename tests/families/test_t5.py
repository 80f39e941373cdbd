"""Whether the output of T5 and mT5 is tied and scaled, in each form that files have.

What is wanted is what transformers 5.23 computes of such directories.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from directories import store, tensors_of
from goldens_seq2seq import parts

from encodax import Seq2SeqModel

FLAGS = [(None, None), (True, False), (False, None), (False, True)]
"""`tie_word_embeddings` and `scale_decoder_outputs`."""


@pytest.mark.parametrize("golden", ["t5-1.1-tied", "mt5"])
@pytest.mark.parametrize("head", [None, "a copy", "its own"])
def test_the_output_is_that_of_the_file(tmp_path: Path, golden: str, head: str | None) -> None:
    place = tmp_path / "model"
    parts(golden).save(place)
    tensors = tensors_of(place)
    assert "lm_head.weight" not in tensors
    if head is not None:
        table = tensors["shared.weight"]
        store(place, tensors | {"lm_head.weight": table + np.float32(head == "its own")})
    for tied, scaled in FLAGS:
        content = json.loads((place / "config.json").read_text())
        content |= {"tie_word_embeddings": tied, "scale_decoder_outputs": scaled}
        given = {key: value for key, value in content.items() if value is not None}
        (place / "config.json").write_text(json.dumps(given))
        transformer = Seq2SeqModel.load(place).config.transformer
        wanted = scaled if scaled is not None else tied is not False
        wanted &= golden != "mt5"
        width = transformer.encoder.embeddings.width
        assert transformer.tied_output is (head != "its own")
        assert transformer.output_scale == (1 / math.sqrt(width) if wanted else 1.0)
