"""What families share: how a parameter stands in a weights file, and how labels are named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Layout = Literal["same", "flat", "transposed"]
"""`flat`: all axes in one. `transposed`: (out, in), all output axes in one, where ours is
(in, *out)."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a weights file that holds one parameter."""

    name: str
    layout: Layout = "same"

    def file_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape in the file of a parameter of this shape."""
        if self.layout == "transposed":
            return int(np.prod(shape[1:])), shape[0]
        return (int(np.prod(shape)),) if self.layout == "flat" else tuple(shape)

    def to_parameter(self, stored: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """From the file's layout to ours."""
        array = stored.T if self.layout == "transposed" else stored
        return np.ascontiguousarray(array).reshape(shape)

    def to_file(self, parameter: np.ndarray) -> np.ndarray:
        """From our layout to the file's: the inverse of `to_parameter`."""
        shape = self.file_shape(parameter.shape)
        if self.layout == "transposed":
            parameter = parameter.reshape(shape[::-1]).T
        return np.ascontiguousarray(parameter).reshape(shape)


Leaves = Mapping[str, Tensor]

LINEAR: Leaves = {"w": Tensor("weight", "transposed"), "b": Tensor("bias", "flat")}
"""A PyTorch linear layer."""
NORM: Leaves = {"alpha": Tensor("weight"), "beta": Tensor("bias")}
"""A PyTorch layer norm."""
TABLE: Leaves = {"w": Tensor("weight")}
"""A PyTorch embedding."""


def look_up(table: Mapping[str, tuple[str, Leaves]], path: str, leaf: str) -> Tensor:
    """The tensor of a parameter, from a table of modules.

    Args:
        table: our module path -> (its name in the file, its leaves); `{}` stands for the index
            of a layer in both.
        path: such as `encoder/layer_3/attention/query`.
        leaf: such as `w`.

    Raises:
        KeyError: the family has no such parameter.
    """
    found = re.search(r"layer_(\d+)", path)
    index = found[1] if found else ""
    name, leaves = table[path.replace(f"layer_{index}", "layer_{}") if found else path]
    tensor = leaves[leaf]
    return Tensor(f"{name.format(index)}.{tensor.name}", tensor.layout)


def labels_of(published: Mapping[str, Any], unnamed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of the classes, in order, from `id2label`, or `unnamed` where it is missing."""
    if "id2label" not in published:
        return unnamed
    names = published["id2label"]
    return tuple(names[index] for index in sorted(names, key=int))
