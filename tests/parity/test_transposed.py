"""No square matrix may stand transposed: each, turned, moves the hidden states.

Where a matrix is square, its shape does not tell how it stands in the file: the numbers must.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from goldens import ENCODERS, FOLDER, parts
from parity.test_goldens import CASES, batch_of

MOVED = 1e-3


def kind_of(path: str) -> str:
    """A module, whatever its layer."""
    return "/".join("layer" if part.startswith("layer_") else part for part in path.split("/"))


@pytest.mark.parametrize("golden", ENCODERS.values(), ids=ENCODERS)
def test_a_transposed_square_matrix_moves_the_hidden_states(golden: str) -> None:
    model = parts(golden)
    stored = np.load(FOLDER / golden / "outputs.npz")
    cases = [
        {name: stored[f"{case}/{name}"] for name in ("token_ids", "type_ids", "last")}
        for case in CASES
    ]
    rows = [[3, 0, 1], [4, 2]]
    batch = batch_of(cases, rows)
    real = batch.segment_ids > 0
    apply = jax.jit(lambda params: model.apply(params, batch).hidden)
    kept = np.asarray(apply(model.params))[real]
    wanted = np.concatenate([cases[index]["last"] for row in rows for index in row])
    assert np.abs(kept - wanted).max() < MOVED / 10

    turned = set()
    for path, leaves in model.params.items():
        shape = leaves["w"].shape if "w" in leaves else ()
        side = shape[0] if shape else 0
        if np.prod(shape) != side**2 or len(shape) < 2 or kind_of(path) in turned:
            continue
        turned.add(kind_of(path))
        flat = np.asarray(leaves["w"]).reshape(side, side)
        changed = {**leaves, "w": flat.T.reshape(shape)}
        hidden = np.asarray(apply({**model.params, path: changed}))[real]
        assert np.abs(hidden - kept).max() > MOVED, path
    own = {f"encoder/layer/attention/{name}" for name in ("query", "key", "value", "output")}
    assert own <= turned
