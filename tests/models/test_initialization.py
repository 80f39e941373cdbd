"""Parameters are drawn without a forward pass, and are those that it would draw."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import ENCODERS, read

from encodax.models import forward
from encodax.models.initialization import draw_params
from encodax.types.batches import PackedBatch


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_the_bits_are_those_of_init(family: str) -> None:
    init = forward.transformed(read(ENCODERS[family])).init
    rest = (PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32)),)
    options = {"is_training": False, "record": frozenset()}
    wanted = init(jax.random.key(3), *rest, **options)
    drawn = draw_params(init, jax.random.key(3), *rest, **options)
    assert list(drawn) == list(wanted)
    jax.tree.map(np.testing.assert_array_equal, drawn, wanted)


def test_the_function_gets_no_values() -> None:
    def f(x: jax.Array) -> jax.Array:
        assert isinstance(x + 1, jax.core.Tracer)  # nothing is computed
        shared = hk.Linear(2)
        return shared(shared(x + hk.get_parameter("b", (2,), init=jnp.ones)))

    drawn = draw_params(hk.transform(f).init, jax.random.key(0), jnp.zeros((1, 2)))
    assert {path: sorted(leaves) for path, leaves in drawn.items()} == {
        "~": ["b"], "linear": ["b", "w"],
    }  # fmt: skip
