"""Under jit a block gives what it gives without, and is compiled once for one shape."""

import logging
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import numpy as np
import pytest
import zoo
from blocks import assert_close, drawn

from encodax.models.encoder_model import Model


def compilations(caplog: pytest.LogCaptureFixture, run: Callable[[], Any]) -> int:
    """How many functions XLA compiles while something runs."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run()
    return sum(message.startswith("Finished XLA compilation") for message in caplog.messages)


@pytest.mark.parametrize(("block", "arguments"), zoo.BLOCKS.values(), ids=zoo.BLOCKS)
def test_jit_equals_eager_and_is_traced_once(block: Any, arguments: tuple[Any, ...]) -> None:
    transformed = hk.transform(block)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), *arguments))
    traces = []

    @jax.jit
    def compiled(params: Any, *arguments: Any) -> Any:
        traces.append(1)
        return transformed.apply(params, None, *arguments)

    eager = transformed.apply(params, None, *arguments)
    for _ in range(2):
        assert_close(compiled(params, *arguments), eager)
    assert len(traces) == 1


def test_the_second_batch_of_a_model_compiles_nothing(
    tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    apply = jax.jit(tiny_model.apply)

    def run(*texts: str) -> None:
        batch = tiny_model.batch(texts)
        assert batch.token_ids.shape == (2, 8)
        assert np.isfinite(apply(tiny_model.params, batch).logits).all()

    assert compilations(caplog, lambda: run("a cat sat", "the cat")) == 1
    assert compilations(caplog, lambda: run("one film", "a dog sat on")) == 0
