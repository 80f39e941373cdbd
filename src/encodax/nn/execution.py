"""Execution of a stack of layers: recomputed in the backward pass, or as a loop over one layer.

The numbers and the parameters are the same in each way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from encodax.config import ExecutionConfig, LayerConfig

REMAT_POLICIES: dict[str, Callable[..., bool]] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}
"""Checkpoint policy for each `remat` but `none`: what the forward pass keeps for the backward."""


def rematerialized(run: Callable[..., Array], execution: ExecutionConfig) -> Callable[..., Array]:
    """Return a layer that is computed again in the backward pass, by `execution.remat`."""
    if execution.remat == "none" or hk.running_init():
        return run
    again: Callable[..., Array] = hk.remat(run, policy=REMAT_POLICIES[execution.remat])
    return again


def scan_layers(
    run: Callable[[LayerConfig, Array], Array],
    specs: Sequence[LayerConfig],
    stack: str,
    x: Float[Array, "B T D"],
    execution: ExecutionConfig,
    *,
    is_training: bool,
) -> Float[Array, "B T D"]:
    """Apply all layers as a loop over one, which is compiled once.

    The parameters keep a path for each layer and are stacked here, so that code that uses paths is
    not affected.

    Args:
        run: function of a spec and x that makes a module called `layer` and applies it.
        specs: layers, all of one spec, each with parameters of its own.
        stack: path of the stack, whose layers are `layer_0`, `layer_1`, ...
        x: (B, T, D), input of the first layer.
        execution: remat of the layers.
        is_training: whether layers draw dropout.

    Raises:
        ValueError: the layers differ.
    """
    if len(set(specs)) > 1:
        raise ValueError("a scan needs layers of one spec, with parameters of their own")
    layer = hk.transform(lambda x: run(specs[0], x)).apply
    of_layers: list[dict[str, Any]] = [{} for _ in specs]
    for path, leaves in hk.get_params().items():
        place, _, rest = path.removeprefix(f"{stack}/layer_").partition("/")
        if path.startswith(f"{stack}/layer_"):
            of_layers[int(place)][f"layer/{rest}"] = leaves
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_layers)
    keys = jax.random.split(hk.next_rng_key(), len(specs)) if is_training else None

    def body(x: Array, own: tuple[Any, Array | None]) -> tuple[Array, None]:
        return layer(*own, x), None

    if execution.remat != "none":
        body = jax.checkpoint(body, policy=REMAT_POLICIES[execution.remat], prevent_cse=False)
    return jax.lax.scan(body, x, (stacked, keys))[0]
