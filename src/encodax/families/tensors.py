"""How a parameter stands in a weights file, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Layout = Literal["same", "flat", "row", "transposed"]
"""`flat`: all axes in one. `row`: the same, as a matrix of one row. `transposed`: (out, in), all
output axes in one, where ours is (in, *out)."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a weights file that holds one parameter, or several, one after the other."""

    name: str
    layout: Layout = "same"
    part: int = 0
    """Which of the parts this is."""
    parts: int = 1
    """How many parameters stand in it, along its first axis: 3 for fused query, key, value."""

    def file_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape in the file of a parameter of this shape, other parts included."""
        stored: tuple[int, ...]
        if self.layout == "transposed":
            stored = int(np.prod(shape[1:])), shape[0]
        elif self.layout == "row":
            stored = 1, int(np.prod(shape))
        else:
            stored = (int(np.prod(shape)),) if self.layout == "flat" else tuple(shape)
        return self.parts * stored[0], *stored[1:]

    def to_parameter(self, stored: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """From the file's layout to ours."""
        rows = stored.shape[0] // self.parts
        array = stored[self.part * rows : (self.part + 1) * rows]
        array = array.T if self.layout == "transposed" else array
        return np.ascontiguousarray(array).reshape(shape)

    def to_file(self, parameter: np.ndarray) -> np.ndarray:
        """From our layout to the file's, of this part alone: the inverse of `to_parameter`."""
        shape = replace(self, parts=1).file_shape(parameter.shape)
        if self.layout == "transposed":
            parameter = parameter.reshape(shape[::-1]).T
        return np.ascontiguousarray(parameter).reshape(shape)


@runtime_checkable
class TensorNames(Protocol):
    """What a weights file asks of a family, of whatever kind of model."""

    @property
    def tensor_aliases(self) -> Mapping[str, str]:
        """Tensors that repeat another where files store both -> that other one."""

    def tensor(self, config: Any, path: str, leaf: str) -> Tensor:
        """Where a parameter stands, under its canonical name."""

    def canonical(self, stored: str) -> str:
        """The one form of a tensor's name, of those that files have."""

    def file_name(self, config: Any, name: str) -> str:
        """A canonical name as the model's file has it."""

    def is_ignored(self, config: Any, name: str) -> bool:
        """Whether the file of such a model may carry this tensor beside those of the model."""


Leaves = Mapping[str, Tensor]
Table = Mapping[str, tuple[str, Leaves]]
"""Our module path -> (its name in the file, its leaves); `{}` stands for a layer's number."""

LINEAR: Leaves = {"w": Tensor("weight", "transposed"), "b": Tensor("bias", "flat")}
"""A PyTorch linear layer."""
NORM: Leaves = {"alpha": Tensor("weight"), "beta": Tensor("bias")}
"""A PyTorch layer norm."""
TABLE: Leaves = {"w": Tensor("weight")}
"""A PyTorch embedding."""


def part_of(leaves: Leaves, part: int, parts: int) -> Leaves:
    """The same leaves, as one part of fused tensors."""
    return {leaf: replace(tensor, part=part, parts=parts) for leaf, tensor in leaves.items()}


def split(weight: Leaves, bias: str) -> Leaves:
    """A weight, and a bias that stands under a name of its own, not beside the weight."""
    return {"w": weight["w"], "b": Tensor(f"={bias}", "flat")}


def look_up(table: Table, path: str, leaf: str) -> Tensor:
    """The tensor of a parameter, from a table of modules.

    Args:
        table: where each module stands.
        path: such as `encoder/layer_3/attention/query`.
        leaf: such as `w`.

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
