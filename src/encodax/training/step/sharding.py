"""Which device holds what: a mesh of devices, and rules from paths of parameters to it.

A mesh has two axes. Rows of a batch are shared out over both. Parameters, and what the optimizer
keeps for each, are whole on every device along `data`, and in parts along `fsdp` (fully sharded
data parallel; Rajbhandari et al. 2020, arXiv:1910.02054, section 5, stage 3): XLA gathers a part
when a layer needs it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from encodax.errors import EncodaxError
from encodax.training.step.optimizer import Optimizer
from encodax.types.batches import Params, Shapes

AXES = ("data", "fsdp")

Rules = Sequence[tuple[str, P]]
"""(regular expression of `path/leaf`, how such a parameter lies on the mesh); the first counts."""

RULES: Rules = (
    (r"encoder/embeddings/(token|position|type)/w", P(None, "fsdp")),  # (V, D): V may be odd
    (r".*/w", P("fsdp")),  # (D, ...): what goes in
    (r".*/lora_a", P("fsdp")),
    (r".*", P()),  # biases and norms
)
"""Weights are cut along D, which is a multiple of most numbers of devices."""


def parse_mesh(text: str) -> dict[str, int]:
    """`data=4,fsdp=2` as sizes of the axes; an axis that is not named has size 1.

    Raises:
        EncodaxError: another axis, or a size that is none.
    """
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if name not in AXES or not size.isdecimal() or int(size) < 1:
            raise EncodaxError(f"mesh {text!r}: {part!r} is not one of data=N, fsdp=N")
        sizes[name] = int(size)
    return sizes


def make_mesh(text: str | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of that text over all devices of all processes; all of them on `data` without one.

    Raises:
        EncodaxError: the mesh wants another number of devices than there are.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": len(devices), "fsdp": 1} if text is None else parse_mesh(text)
    if math.prod(sizes.values()) != len(devices):
        raise EncodaxError(
            f"mesh {text}: is of {math.prod(sizes.values())} devices, and there are {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape([sizes[axis] for axis in AXES]), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole on every device."""
    return NamedSharding(mesh, P())


def by_row(mesh: Mesh) -> NamedSharding:
    """Leaves (A, B, ...) of a batch, each micro-batch shared out by rows over all devices."""
    return NamedSharding(mesh, P(None, AXES))


def shardings_of(params: Params | Shapes, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> Any:
    """How each parameter lies on the mesh: as the first rule says that its path matches.

    A dimension that its axis does not divide stays whole.

    Args:
        params: arrays, or their shapes.
        mesh: the devices.
        rules: a regular expression matches the whole of `path/leaf`.
    """
    return {
        path: {
            leaf: NamedSharding(mesh, _spec(f"{path}/{leaf}", np.shape(array), mesh, rules))
            for leaf, array in leaves.items()
        }
        for path, leaves in params.items()
    }


def _spec(name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules) -> P:
    spec = next((spec for pattern, spec in rules if re.fullmatch(pattern, name)), P())
    axes = tuple(spec)[: len(shape)]
    fitting = (
        axis if axis is None or size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=False)
    )
    return P(*fitting)


def shardings_of_optimizer(
    optimizer: Optimizer, params: Params | Shapes, shardings: Any, mesh: Mesh
) -> Any:
    """How the optimizer's state lies: what it keeps for a parameter, as the parameter."""
    state = jax.eval_shape(optimizer.init, params)
    return optax.tree.map_params(
        optimizer.init,
        lambda _, sharding: sharding,
        state,
        shardings,
        transform_non_params=lambda _: replicated(mesh),
    )


def put(tree: Any, shardings: Any) -> Any:
    """Arrays on the host of every process, laid out so: each device gets its own part."""

    def place(array: Any, sharding: NamedSharding) -> jax.Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree, shardings)


def share_of_rows(row_count: int) -> range:
    """The rows of each micro-batch of B rows that this process reads.

    Raises:
        EncodaxError: the rows cannot be shared out evenly.
    """
    processes = jax.process_count()
    own, rest = divmod(row_count, processes)
    if rest:
        raise EncodaxError(f"{row_count} rows cannot be shared out among {processes} processes")
    return range(jax.process_index() * own, (jax.process_index() + 1) * own)


def put_batch(local: Any, mesh: Mesh) -> Any:
    """The batch of all processes, of which each has its own rows: (A, B, ...) leaves."""
    sharding, processes = by_row(mesh), jax.process_count()

    def place(array: np.ndarray) -> jax.Array:
        micro, rows, *others = array.shape
        whole = (micro, rows * processes, *others)
        placed: jax.Array = jax.make_array_from_process_local_data(sharding, array, whole)
        return placed

    return jax.tree.map(place, local)


def bytes_of(tree: Any) -> int:
    """Bytes of one device's part of arrays, or of shapes that say how they lie."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def gather(params: Params, mesh: Mesh) -> Params:
    """Under jit: each parameter whole on every device, from here on."""
    whole: Params = jax.lax.with_sharding_constraint(params, replicated(mesh))
    return whole


def gathered(params: Params, mesh: Mesh) -> Params:
    """Parameters brought together from all devices of all processes: a copy, on one device."""
    if not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params)):
        params = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(params)
    copies: Params = jax.tree.map(lambda leaf: jnp.array(leaf.addressable_data(0)), params)
    return copies
