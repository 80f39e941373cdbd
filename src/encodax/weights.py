"""Weights files: safetensors to parameters and back, strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from encodax.errors import EncodaxError
from encodax.families.tensors import Tensor
from encodax.types import Params

WEIGHTS_FILE = "model.safetensors"

TensorOf = Callable[[str, str], Tensor]
"""(module path, leaf) -> the tensor that holds it."""


def load(path: Path, shapes: Mapping[str, Mapping[str, Any]], tensor_of: TensorOf) -> Params:
    """Read parameters; every tensor of the file must be wanted, and every one wanted be there.

    Args:
        path: a safetensors file.
        shapes: the parameter tree, with anything that has a `shape` for leaves.
        tensor_of: where each parameter stands in the file.

    Raises:
        EncodaxError: the file is missing or broken, or tensors are missing, too many, of another
            shape or dtype; all such problems in one line.
    """
    if not path.is_file():
        raise EncodaxError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            stored = set(file.keys())
            params: dict[str, dict[str, np.ndarray]] = {}
            problems = []
            for module, leaves in shapes.items():
                for leaf, wanted in leaves.items():
                    tensor = tensor_of(module, leaf)
                    if tensor.name not in stored:
                        problems.append(f"{tensor.name} is missing")
                        continue
                    stored.discard(tensor.name)
                    array = file.get_tensor(tensor.name)
                    shape = tensor.file_shape(wanted.shape)
                    if array.shape != shape or array.dtype != np.float32:
                        found = f"{array.dtype} {array.shape}"
                        problems.append(f"{tensor.name} is {found}, wanted float32 {shape}")
                        continue
                    params.setdefault(module, {})[leaf] = tensor.to_parameter(array, wanted.shape)
    except (safetensors.SafetensorError, OSError) as error:
        raise EncodaxError(f"{path} cannot be read: {error}") from error
    problems += [f"{name} belongs to no parameter" for name in sorted(stored)]
    if problems:
        raise EncodaxError(f"{path}: {'; '.join(problems)}")
    on_device: Params = jax.tree.map(jnp.asarray, params)
    return on_device


def save(path: Path, params: Params, tensor_of: TensorOf) -> None:
    """Write parameters, in the names and layouts of the family.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {}
    for module, leaves in params.items():
        for leaf, array in leaves.items():
            tensor = tensor_of(module, leaf)
            tensors[tensor.name] = tensor.to_file(np.asarray(array))
    try:
        safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error
