"""Parameters drawn at random, without a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array


def draw_params(
    init: Callable[..., Any], key: Array, *inputs: Any, **options: Any
) -> dict[str, dict[str, Array]]:
    """Return `init(key, *inputs, **options)` of a Haiku transform, the same bits in less time.

    `init` is traced without values, for the parameters that it asks for; then their initializers
    run, in the same order and with the same keys.

    Args:
        init: `init` of an `hk.Transformed`, whose function draws from its key for parameters alone.
        key: random key.
        inputs: further arguments of `init`.
        options: named arguments of `init`.
    """
    asked: list[tuple[str, str, Sequence[int], Any, hk.initializers.Initializer]] = []

    def record(
        _: Any,
        shape: Sequence[int],
        dtype: Any,
        initializer: hk.initializers.Initializer,
        context: Any,
    ) -> Array:
        module, _, name = context.full_name.rpartition("/")
        asked.append((module, name, shape, dtype, initializer))
        return jnp.zeros(shape, dtype)

    def trace() -> None:
        with hk.custom_creator(record):
            init(None, *inputs, **options)

    def draw() -> dict[str, dict[str, Array]]:
        params: dict[str, dict[str, Array]] = {}
        for module, name, shape, dtype, initializer in asked:
            params.setdefault(module, {})[name] = initializer(shape, dtype)
        return params

    jax.eval_shape(lambda: hk.transform(trace).init(None))
    drawn: dict[str, dict[str, Array]] = hk.transform(draw).apply({}, key)
    return drawn
