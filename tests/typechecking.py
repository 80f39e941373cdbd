"""Type checker that `conftest.py` installs on every function of `encodax`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, but for two things that it cannot know of a function alone."""
    try:
        checked = beartype(function)
    except BeartypeDecorHintPep673Exception:  # `Self`, without its class
        return function
    if not function.__qualname__.endswith(".__init__"):
        return checked

    @functools.wraps(function)
    def init(self: Any, *args: Any, **kwargs: Any) -> Any:
        # JAX rebuilds a pytree around what is no array: shapes, None, one row of a batch.
        is_pytree = not jax.tree_util.all_leaves([self])
        return (function if is_pytree else checked)(self, *args, **kwargs)

    return init
