"""The same numbers as transformers: every family and head against stored outputs.

The goldens are tiny models with random weights, made by `interop/generate/models.py`.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from blocks import assert_close
from goldens import ALL, ENCODERS, FOLDER, parts

from encodax.types.batches import PackedBatch

CASES = ("one", "two", "some", "longest", "pair")
TOLERANCE = 1e-5
"""Times max(1, |x|)."""


def batch_of(cases: list[dict[str, np.ndarray]], rows: list[list[int]]) -> PackedBatch:
    """Cases in rows of the fullest one's length, written out without the library's packer."""
    tokens = max(sum(len(cases[index]["token_ids"]) for index in row) for row in rows)
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


ALONE = [[0], [1], [2], [3], [4]]
PACKED = [[3, 0, 1], [4, 2]]


def assert_reference(golden: str, *batches: list[list[int]]) -> None:
    """The golden's outputs for each case, wherever it stands in batches of these rows."""
    model = parts(golden)
    stored = np.load(FOLDER / golden / "outputs.npz")
    cases = [
        {name.split("/")[1]: stored[name] for name in stored.files if name.startswith(f"{case}/")}
        for case in CASES
    ]
    apply = jax.jit(functools.partial(model.apply, record=frozenset({"hidden"})))
    for rows in batches:
        batch = batch_of(cases, rows)
        output = jax.device_get(apply(model.params, batch))
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
                    place = n if model.config.head.kind == "sequence" else here
                    assert_close(output.logits[b, place], case["output"], TOLERANCE)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("golden", ALL)
def test_hidden_states_and_answers_are_those_of_transformers(golden: str) -> None:
    """Padded and packed, in one batch: each shape compiles."""
    assert_reference(golden, ALONE + PACKED)


@pytest.mark.parametrize("golden", ENCODERS.values(), ids=ENCODERS)
def test_so_are_those_of_a_text_without_padding(golden: str) -> None:
    assert_reference(golden, *([row] for row in ALONE))
