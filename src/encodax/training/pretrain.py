"""Pretraining: a tokenizer and a masked language model, from a corpus only."""

from __future__ import annotations

from typing import Any

import numpy as np

from encodax.data.formats import Columns
from encodax.data.records import Paths, open_records
from encodax.errors import EncodaxError
from encodax.options.presets import PRESETS
from encodax.training.batches.examples import Part

HELD_OUT = 100
"""One record in `HELD_OUT` is held out for evaluation if no evaluation texts are given."""


def pretraining(
    corpus: Paths,
    *,
    eval: Paths | None = None,
    preset: str = "tiny",
    columns: Columns | None = None,
    format: str | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """Return the arguments of `encodax.train("masked-lm", ...)` for a corpus and a published size.

    Args:
        corpus: files, folders or patterns of texts.
        eval: texts to evaluate on; None holds out one record in a hundred of the corpus.
        preset: size of the encoder, a name in `presets.PRESETS`.
        columns: columns of the files, see `encodax.train`.
        format: format of the files, if their names do not show it.
        **choices: other arguments of `encodax.train`; they take precedence over the preset.

    Raises:
        EncodaxError: there is no such preset, or the corpus is too small to hold some out.
    """
    if preset not in PRESETS:
        raise EncodaxError(f"preset {preset!r} is not one of: {', '.join(PRESETS)}")
    given = {name: value for name, value in choices.items() if value is not None}
    if eval is not None:
        read_options = (("columns", columns), ("format", format))
        read_by = {name: value for name, value in read_options if value is not None}
        return {"train": corpus, "eval": eval, **read_by, **PRESETS[preset], **given}
    records = open_records(corpus, columns=columns, format=format)
    if len(records) < HELD_OUT:
        raise EncodaxError(
            f"the corpus has {len(records)} records: give texts to measure on (--eval)"
        )
    # At random: every hundredth line might always be one of the empty ones between paragraphs.
    order = np.random.default_rng(0).permutation(len(records))
    held_out, kept = np.split(order, [len(records) // HELD_OUT])
    return {
        "train": Part(records, np.sort(kept).astype(np.int32)),
        "eval": Part(records, np.sort(held_out).astype(np.int32)),
        **PRESETS[preset],
        **given,
    }
