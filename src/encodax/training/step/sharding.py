"""Sharding: a mesh of devices, and rules from parameter paths to partitions.

A mesh has two axes. The rows of a batch are divided over both. Parameters, and their optimizer
state, are replicated along `data`, and divided along `fsdp` (fully sharded data parallel;
Rajbhandari et al. 2020, arXiv:1910.02054, section 5, stage 3): XLA gathers a part when a layer
needs it.
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
"""(regular expression of `path/leaf`, partition on the mesh) pairs; the first match counts."""

RULES: Rules = (
    (r"encoder/embeddings/(token|position|type)/w", P(None, "fsdp")),  # (V, D): V may be odd
    (r".*/w", P("fsdp")),  # (D, ...): the input dimension
    (r".*/lora_a", P("fsdp")),
    (r".*", P()),  # biases and norms
)
"""Default rules: weights are divided along D, a multiple of most numbers of devices."""


def parse_mesh(text: str) -> dict[str, int]:
    """Parse `data=4,fsdp=2` to the sizes of the axes; an axis that is not named has size 1.

    Raises:
        EncodaxError: an axis is unknown, or a size is invalid.
    """
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        name, _, size = part.strip().partition("=")
        if name not in AXES or not size.isdecimal() or int(size) < 1:
            raise EncodaxError(f"mesh {text!r}: {part!r} is not one of data=N, fsdp=N")
        sizes[name] = int(size)
    return sizes


def make_mesh(text: str | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the mesh of a text over all devices of all processes; None has all on `data`.

    Raises:
        EncodaxError: the mesh does not have as many devices as there are.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": len(devices), "fsdp": 1} if text is None else parse_mesh(text)
    if math.prod(sizes.values()) != len(devices):
        raise EncodaxError(
            f"mesh {text}: needs {math.prod(sizes.values())} devices, and there are {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape([sizes[axis] for axis in AXES]), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that replicates an array on every device."""
    return NamedSharding(mesh, P())


def by_row(mesh: Mesh) -> NamedSharding:
    """Return the sharding of leaves (A, B, ...): rows of each micro-batch over all devices."""
    return NamedSharding(mesh, P(None, AXES))


def shardings_of(params: Params | Shapes, mesh: Mesh | AbstractMesh, rules: Rules = RULES) -> Any:
    """Return each parameter's sharding on the mesh, by the first rule that matches its path.

    A dimension that its axis does not divide is not divided.

    Args:
        params: arrays, or their shapes.
        mesh: the devices.
        rules: regular expressions that must match the whole `path/leaf`, and partitions.
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
    """Return the shardings of the optimizer state: a parameter's state is sharded like it."""
    state = jax.eval_shape(optimizer.init, params)
    return optax.tree.map_params(
        optimizer.init,
        lambda _, sharding: sharding,
        state,
        shardings,
        transform_non_params=lambda _: replicated(mesh),
    )


def put(tree: Any, shardings: Any) -> Any:
    """Put arrays from the host of every process on the devices; each device gets its part."""

    def place(array: Any, sharding: NamedSharding) -> jax.Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree, shardings)


def share_of_rows(row_count: int) -> range:
    """Return the rows of each micro-batch of B rows that this process reads.

    Raises:
        EncodaxError: the rows cannot be divided evenly.
    """
    processes = jax.process_count()
    own, rest = divmod(row_count, processes)
    if rest:
        raise EncodaxError(f"{row_count} rows are not a multiple of {processes} processes")
    return range(jax.process_index() * own, (jax.process_index() + 1) * own)


def put_batch(local: Any, mesh: Mesh) -> Any:
    """Assemble the batch of all processes, each with its own rows: leaves (A, B, ...)."""
    sharding, processes = by_row(mesh), jax.process_count()

    def place(array: np.ndarray) -> jax.Array:
        micro, rows, *others = array.shape
        whole = (micro, rows * processes, *others)
        placed: jax.Array = jax.make_array_from_process_local_data(sharding, array, whole)
        return placed

    return jax.tree.map(place, local)


def bytes_of(tree: Any) -> int:
    """Return the bytes of one device's part of arrays, or of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def gather(params: Params, mesh: Mesh) -> Params:
    """Replicate each parameter on every device from here on; for use under jit."""
    whole: Params = jax.lax.with_sharding_constraint(params, replicated(mesh))
    return whole


def gathered(params: Params, mesh: Mesh) -> Params:
    """Gather parameters from all devices of all processes into a copy on one device."""
    if not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(params)):
        params = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(params)
    copies: Params = jax.tree.map(lambda leaf: jnp.array(leaf.addressable_data(0)), params)
    return copies
