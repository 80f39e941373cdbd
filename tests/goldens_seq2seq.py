"""Stored sequence-to-sequence models of the parity tests."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from encodax import families
from encodax.model_files import weights
from encodax.models.seq2seq_model import Seq2SeqModel, parameter_shapes
from encodax.text.tokenizer import EncodedPair, Encoding, Tokenizer

FOLDER = Path(__file__).parent / "parity" / "goldens-seq2seq"
ALL = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def published(golden: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a golden, and what is said of its generation, with keys changed."""
    found = {}
    for name in ("generation_config", "config"):
        found |= json.loads((FOLDER / golden / f"{name}.json").read_text())
    return {**found, **changes}


@functools.cache
def parts(golden: str) -> Seq2SeqModel:
    """The model, with a tokenizer of another: a golden has ids alone."""
    values = published(golden)
    family = families.seq2seq_family_named(values["model_type"])
    config = family.read_config(values)
    loaded = weights.load(FOLDER / golden, parameter_shapes(config), family, config)
    tokenizer = Tokenizer.train(["a b"], "char", begins=False)
    return Seq2SeqModel(config, loaded.params, tokenizer, loaded.extra_tensors)


def pair_of(source: np.ndarray, given: np.ndarray) -> EncodedPair:
    """A pair of these ids; what is wanted is of no account."""
    return EncodedPair(_sequence(source), _sequence(given), given.astype(np.int32))


def _sequence(ids: np.ndarray) -> Encoding:
    zeros = np.zeros(len(ids), np.int32)
    return Encoding(
        ids.astype(np.int32), zeros, np.zeros((len(ids), 2), np.int32), zeros.astype(bool), zeros
    )
