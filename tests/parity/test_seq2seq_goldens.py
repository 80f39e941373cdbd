"""The same numbers as transformers, and the same tokens: every family that has a decoder.

The goldens are tiny models with random weights, made by `interop/generate/seq2seq.py`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from blocks import assert_close
from directories import tensors_of
from goldens_seq2seq import ALL, FOLDER, pair_of, parts

from encodax.data.packing import assemble_pairs
from encodax.generation.search import BeamSearch, DecodingLimits, Generated, beam_search, decode
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.types.batches import PackedBatch, PairBatch

CASES = ("one", "short", "some", "longest")
TOLERANCE = 1e-5
"""Times max(1, |x|)."""
MOST = 16
"""Tokens that were generated at most."""


@functools.cache
def stored(golden: str) -> dict[str, dict[str, Any]]:
    """What the reference gave for each case."""
    arrays = np.load(FOLDER / golden / "outputs.npz")
    return {
        case: {n.split("/")[1]: arrays[n] for n in arrays.files if n.startswith(f"{case}/")}
        for case in CASES
    }


ALONE = [[0], [1], [2], [3]]
PACKED = [[3, 0, 1], [2]]


@pytest.mark.parametrize("golden", ALL)
def test_scores_are_those_of_transformers(golden: str) -> None:
    model = parts(golden)
    cases = list(stored(golden).values())
    pairs = [pair_of(case["source"], case["given"]) for case in cases]

    @jax.jit
    def run(batch: PairBatch) -> tuple[jax.Array | None, jax.Array]:
        return model.apply(model.params, batch).logits, model.encode_states(
            model.params, batch.source
        )

    batches = [ALONE + PACKED]
    if "-" not in golden:
        batches += [[row] for row in ALONE]  # one row compiles again: once a family
    for rows in batches:
        batch = assemble_pairs(
            [[pairs[index] for index in row] for row in rows],
            row_count=len(rows),
            row_tokens=(24, 30),
            slots=3,
        )
        logits, hidden = jax.device_get(run(batch))
        for b, row in enumerate(rows):
            for n, index in enumerate(row):
                for side, ours, of_case in (
                    (batch.source, hidden, "encoded"),
                    (batch.target, logits, "logits"),
                ):
                    start, length = side.starts[b, n], side.lengths[b, n]
                    here = slice(int(start), int(start + length))
                    assert_close(ours[b, here], cases[index][of_case], TOLERANCE)


def sources(golden: str) -> tuple[PackedBatch, list[dict[str, Any]]]:
    """All sources as one batch, a row each."""
    cases = list(stored(golden).values())
    pairs = [pair_of(case["source"], case["given"]) for case in cases]
    size: dict[str, Any] = {"row_count": len(pairs), "row_tokens": (20, 20), "slots": 1}
    return assemble_pairs([[pair] for pair in pairs], **size).source, cases


def generated(golden: str, beams: BeamSearch | None) -> tuple[Generated, list[dict[str, Any]]]:
    model, (batch, cases) = parts(golden), sources(golden)
    config = model.config
    ends = DecodingLimits.of(config, MOST)

    def run(source: PackedBatch) -> Generated:
        cache = model.begin(model.params, source, MOST)
        step = functools.partial(model.step, model.params)
        return decode(step, cache, ends) if beams is None else beam_search(step, cache, ends, beams)

    found: Generated = jax.device_get(jax.jit(run)(batch))
    return found, cases


@pytest.mark.parametrize("golden", ALL)
def test_a_token_at_a_time_gives_the_same_scores(golden: str) -> None:
    model, (batch, cases) = parts(golden), sources(golden)
    most = max(len(case["given"]) for case in cases)
    given = np.zeros((len(cases), most), np.int32)
    for row, case in enumerate(cases):
        given[row, : len(case["given"])] = case["given"]
    cache = jax.jit(lambda batch: model.begin(model.params, batch, most))(batch)
    step = jax.jit(functools.partial(model.step, model.params))
    for place in range(most):
        scores, cache = step(given[:, place], cache)
        scores = jax.device_get(scores)
        for row, case in enumerate(cases):
            if place < len(case["given"]):
                assert_close(scores[row], case["logits"][place], TOLERANCE)


@pytest.mark.parametrize("golden", ALL)
def test_the_most_probable_tokens_are_those_of_transformers(golden: str) -> None:
    found, cases = generated(golden, None)
    for row, case in enumerate(cases):
        ours = found.token_ids[row, 0, : found.lengths[row, 0]]
        assert ours.tolist() == case["greedy"].tolist()


@pytest.mark.parametrize("golden", ALL)
def test_beams_are_those_of_transformers(golden: str) -> None:
    found, cases = generated(golden, BeamSearch(4, length_penalty=1.0, offset=0.0))
    for row, case in enumerate(cases):
        ours = found.token_ids[row, 0, : found.lengths[row, 0]]
        assert ours.tolist() == case["beams"].tolist()
        assert_close(found.scores[row, 0], case["score"], TOLERANCE)


@pytest.mark.parametrize("golden", ALL)
def test_what_is_saved_is_what_was_loaded(golden: str, tmp_path: Path) -> None:
    model = parts(golden)
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == (
        model.config.family
    )
    ours, theirs = tensors_of(tmp_path / "model"), tensors_of(FOLDER / golden)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    again = Seq2SeqModel.load(tmp_path / "model")
    assert again.config == model.config
