"""The same numbers as transformers: every family and head against stored outputs.

The goldens are tiny models with random weights, made by `generate.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from blocks import assert_close

from encodax import families, weights
from encodax.config import ModelConfig
from encodax.model import _transformed, parameter_shapes
from encodax.types import PackedBatch, Params

GOLDENS = Path(__file__).parent / "goldens"
ALL = sorted(
    path.parent.relative_to(GOLDENS).as_posix() for path in GOLDENS.glob("*/*/config.json")
)
CASES = ("one", "two", "some", "longest", "pair")
TOLERANCE = 1e-5
"""Times max(1, |x|)."""


def loaded(golden: str) -> tuple[ModelConfig, Params]:
    published = json.loads((GOLDENS / golden / "config.json").read_text())
    family = families.family_named(published["model_type"])
    config = family.read_config(published)
    return config, weights.load(GOLDENS / golden, parameter_shapes(config), family, config).params


def batch_of(cases: list[dict[str, np.ndarray]], rows: list[list[int]], tokens: int) -> PackedBatch:
    """Cases in rows, written out without the library's packer."""
    arrays = np.zeros((4, len(rows), tokens), np.int32)
    starts, lengths = np.zeros((2, len(rows), max(map(len, rows))), np.int32)
    for b, row in enumerate(rows):
        start = 0
        for n, index in enumerate(row):
            ids, types = cases[index]["token_ids"], cases[index]["type_ids"]
            here = slice(start, start + len(ids))
            arrays[:, b, here] = ids, np.arange(len(ids)), np.full(len(ids), n + 1), types
            starts[b, n], lengths[b, n] = start, len(ids)
            start += len(ids)
    token_ids, position_ids, segment_ids, type_ids = arrays
    return PackedBatch(token_ids, position_ids, segment_ids, type_ids, starts, lengths)


LAYOUTS = {
    "alone": ([[0]], [[1]], [[2]], [[3]], [[4]]),
    "padded": ([[0], [1], [2], [3], [4]],),
    "packed": ([[3, 0, 1], [4, 2]],),
}


@pytest.mark.parametrize("golden", ALL)
def test_hidden_states_and_answers_are_those_of_transformers(golden: str) -> None:
    config, params = loaded(golden)
    stored = np.load(GOLDENS / golden / "outputs.npz")
    cases = [
        {name.split("/")[1]: stored[name] for name in stored.files if name.startswith(f"{case}/")}
        for case in CASES
    ]
    apply = jax.jit(_transformed(config).apply, static_argnames=("is_training", "record"))
    longest = max(len(case["token_ids"]) for case in cases)
    for name, batches in LAYOUTS.items():
        if name == "alone" and not golden.endswith("/encoder"):
            continue  # each length compiles: once a family
        for rows in batches:
            tokens = {"alone": len(cases[rows[0][0]]["token_ids"]), "padded": longest, "packed": 32}
            batch = batch_of(cases, rows, tokens[name])
            output = apply(params, None, batch, is_training=False, record=frozenset({"hidden"}))
            for b, row in enumerate(rows):
                for n, index in enumerate(row):
                    start, length = batch.starts[b, n], batch.lengths[b, n]
                    here, case = slice(start, start + length), cases[index]
                    for ours, theirs in zip(
                        output.records["hidden"][:-1], case["hidden"][:-1], strict=True
                    ):
                        assert_close(ours[b, here], theirs, TOLERANCE)
                    assert_close(output.hidden[b, here], case["last"], TOLERANCE)
                    if output.logits is not None:
                        place = n if config.head.kind == "sequence" else here
                        assert_close(output.logits[b, place], case["output"], TOLERANCE)
