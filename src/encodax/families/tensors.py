"""Tensors of a weights file, and their conversion to parameters and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Layout = Literal["same", "flat", "row", "transposed"]
"""Layout of a parameter in a file. `flat`: all axes in one. `row`: all axes in one, as a matrix of
one row. `transposed`: (out, in), all output axes in one, where the parameter is (in, *out)."""


@dataclass(frozen=True)
class Tensor:
    """Tensor of a weights file that holds one parameter, or several concatenated."""

    name: str
    layout: Layout = "same"
    part: int = 0
    """Index of this parameter among the parts."""
    parts: int = 1
    """Number of parameters in the tensor, along its first axis: 3 for fused query, key, value."""

    def file_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the whole tensor in the file, for a parameter of shape `shape`."""
        stored: tuple[int, ...]
        if self.layout == "transposed":
            stored = int(np.prod(shape[1:])), shape[0]
        elif self.layout == "row":
            stored = 1, int(np.prod(shape))
        else:
            stored = (int(np.prod(shape)),) if self.layout == "flat" else tuple(shape)
        return self.parts * stored[0], *stored[1:]

    def to_parameter(self, stored: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Convert a stored tensor to the parameter."""
        rows = stored.shape[0] // self.parts
        array = stored[self.part * rows : (self.part + 1) * rows]
        array = array.T if self.layout == "transposed" else array
        return np.ascontiguousarray(array).reshape(shape)

    def to_file(self, parameter: np.ndarray) -> np.ndarray:
        """Convert the parameter to its part of the tensor: the inverse of `to_parameter`."""
        shape = replace(self, parts=1).file_shape(parameter.shape)
        if self.layout == "transposed":
            parameter = parameter.reshape(shape[::-1]).T
        return np.ascontiguousarray(parameter).reshape(shape)


@runtime_checkable
class TensorNames(Protocol):
    """Tensor names of a family: all that reading and writing weights files needs."""

    @property
    def tensor_aliases(self) -> Mapping[str, str]:
        """Tensors that repeat another where files store both -> that other one."""

    def tensor(self, config: Any, path: str, leaf: str) -> Tensor:
        """Return the tensor of a parameter, under its canonical name."""

    def canonical(self, stored: str) -> str:
        """Return the canonical form of a tensor's name in a file."""

    def stored_name(self, config: Any, name: str) -> str:
        """Return the name in this model's file of a tensor with a canonical name."""

    def is_ignored(self, config: Any, name: str) -> bool:
        """Return True if such a model's file may hold this tensor in addition to its own."""


Leaves = Mapping[str, Tensor]
Table = Mapping[str, tuple[str, Leaves]]
"""Module path in Encodax -> (its name in the file, its leaves); `{}` stands for a layer's
number."""

LINEAR: Leaves = {"w": Tensor("weight", "transposed"), "b": Tensor("bias", "flat")}
"""Leaves of a PyTorch linear layer."""
NORM: Leaves = {"alpha": Tensor("weight"), "beta": Tensor("bias")}
"""Leaves of a PyTorch layer norm."""
TABLE: Leaves = {"w": Tensor("weight")}
"""Leaves of a PyTorch embedding."""


def part_of(leaves: Leaves, part: int, parts: int) -> Leaves:
    """Return the leaves as part `part` of fused tensors."""
    return {leaf: replace(tensor, part=part, parts=parts) for leaf, tensor in leaves.items()}


def split(weight: Leaves, bias: str) -> Leaves:
    """Return leaves of a weight, and of a bias whose full name in the file is `bias`."""
    return {"w": weight["w"], "b": Tensor(f"={bias}", "flat")}


def look_up(table: Table, path: str, leaf: str) -> Tensor:
    """Return the tensor of a parameter, from a table of modules.

    Args:
        table: names of the modules in the file.
        path: path of the module, such as `encoder/layer_3/attention/query`.
        leaf: name of the parameter in it, such as `w`.

    Raises:
        KeyError: the family has no such parameter.
    """
    found = re.search(r"layer_(\d+)", path)
    index = found[1] if found else ""
    name, leaves = table[path.replace(f"layer_{index}", "layer_{}") if found else path]
    tensor = leaves[leaf]
    whole = tensor.name.removeprefix("=")
    full = whole if tensor.name.startswith("=") else f"{name.format(index)}.{whole}"
    return replace(tensor, name=full)
