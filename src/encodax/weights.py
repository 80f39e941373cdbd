"""Weights files: safetensors to parameters and back, strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array

from encodax.config import ModelConfig
from encodax.errors import EncodaxError
from encodax.families import Family
from encodax.types import Params

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")
"""Formats that are never read: most of them run code when they are opened."""
FLOATS = ("F32", "F16", "BF16")
"""Types that are read; all become float32."""
BUFFER = re.compile(r".*(position_ids|inv_freq)")
"""Stray tensors that PyTorch computes again."""


@dataclass(frozen=True)
class Loaded:
    """What a weights file holds."""

    params: Params
    carried: Mapping[str, np.ndarray]
    """Tensors that belong to no parameter, of those that the family lets a file carry."""


def load(
    directory: Path, shapes: Mapping[str, Mapping[str, Any]], family: Family, config: ModelConfig
) -> Loaded:
    """Read parameters; every tensor of the file must be wanted, and every one wanted be there.

    Args:
        directory: holds `model.safetensors`, or an index of several such files.
        shapes: the parameter tree, with anything that has a `shape` for leaves.
        family: says where each parameter stands.
        config: of the model.

    Raises:
        EncodaxError: a file is missing or broken, or tensors are missing, too many, not finite, of
            another shape or dtype; all such problems in one line.
    """
    with _opened(directory) as stored:
        reader = _Reader(stored, family)
        params: dict[str, dict[str, Array]] = {}
        for path, leaves in shapes.items():
            for leaf, wanted in leaves.items():
                tensor = family.tensor(config, path, leaf)
                array = reader.take(tensor.name, tensor.file_shape(wanted.shape))
                if array is not None:
                    parameter = tensor.to_parameter(array, wanted.shape)
                    params.setdefault(path, {})[leaf] = jnp.asarray(parameter)
        carried = reader.rest()
    if reader.problems:
        raise EncodaxError(f"{directory / WEIGHTS_FILE}: {'; '.join(reader.problems)}")
    return Loaded(params, carried)


class _Reader:
    """Takes tensors out of files, and notes what is wrong with each."""

    def __init__(self, stored: Mapping[str, Any], family: Family):
        self._family = family
        self._stored: dict[str, tuple[str, Any]] = {}
        self._taken: set[str] = set()
        self._last: tuple[str, np.ndarray | None] = ("", None)
        self.problems: list[str] = []
        for name, file in stored.items():
            canonical = family.canonical(name)
            if canonical in self._stored:
                other = self._stored[canonical][0]
                self.problems.append(f"{name} and {other} are the same tensor")
            self._stored[canonical] = name, file

    def take(self, canonical: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """A tensor in float32, or None where something is wrong with it."""
        if self._last[0] != canonical:  # one of several parts has been read before the others
            self._last = canonical, self._read(canonical, shape)
        return self._last[1]

    def _read(self, canonical: str, shape: tuple[int, ...] | None) -> np.ndarray | None:
        if canonical not in self._stored:
            self.problems.append(f"{canonical} is missing (wanted {shape})")
            return None
        self._taken.add(canonical)
        name, file = self._stored[canonical]
        view = file.get_slice(name)
        dtype, found = view.get_dtype(), tuple(view.get_shape())
        if dtype not in FLOATS or (shape is not None and found != shape):
            wanted = f"wanted {', '.join(FLOATS)}" + (f" {shape}" if shape is not None else "")
            self.problems.append(f"{name} is {dtype} {found}, {wanted}")
            return None
        array = np.asarray(file.get_tensor(name), np.float32)
        if not np.isfinite(array).all():
            self.problems.append(f"{name} holds a value that is not finite")
            return None
        return array

    def rest(self) -> dict[str, np.ndarray]:
        """What nobody took: copies are checked, strays are kept, all else is a problem."""
        carried = {}
        for canonical in sorted(self._stored.keys() - self._taken):
            name = self._stored[canonical][0]
            original = self._family.copies.get(canonical)
            if original in self._taken:
                if not _equal(self._read(canonical, None), self._read(original, None)):
                    self.problems.append(f"{name} should repeat {original}, and does not")
            elif not self._family.is_stray(canonical):
                self.problems.append(f"{name} belongs to no parameter")
            elif not BUFFER.fullmatch(canonical):
                array = self._read(canonical, None)
                carried |= {} if array is None else {canonical: array}
        return carried


def _equal(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


@contextmanager
def _opened(directory: Path) -> Iterator[dict[str, Any]]:
    """Every tensor's name -> the open file that has it."""
    stored: dict[str, Any] = {}
    path = directory
    with ExitStack() as stack:
        try:
            for path, expected in _files(directory):
                file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
                names = set(file.keys())
                if expected is not None and names != expected:
                    odd = ", ".join(sorted(names ^ expected)[:5])
                    raise EncodaxError(f"{path}: {odd}: the index and the file do not agree")
                stored |= dict.fromkeys(names, file)
        except (safetensors.SafetensorError, OSError) as error:
            raise EncodaxError(f"{path} cannot be read: {error}") from error
        yield stored


def _files(directory: Path) -> list[tuple[Path, set[str] | None]]:
    """The weights files of a model, each with the tensors that an index says it has."""
    single, index = directory / WEIGHTS_FILE, directory / INDEX_FILE
    if single.is_file():
        return [(single, None)]
    if not index.is_file():
        raise EncodaxError(_missing(directory))
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files: dict[str, set[str]] = {}
        for tensor, file in places.items():
            files.setdefault(file, set()).add(tensor)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodaxError(f"{index} is no index of weights files: {error}") from error
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise EncodaxError(f"{index}: {name!r} is no safetensors file of this directory")
        if not (directory / name).is_file():
            raise EncodaxError(f"{directory / name} does not exist, and {index.name} names it")
    return [(directory / name, tensors) for name, tensors in sorted(files.items())]


def _missing(directory: Path) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if not pickles:
        return f"{directory / WEIGHTS_FILE} does not exist"
    return (
        f"{directory / WEIGHTS_FILE} does not exist, and {pickles[0]} is not read: such a file can "
        "run code when it is opened; convert it once where you trust it, with transformers: "
        f"AutoModel.from_pretrained({str(directory)!r}).save_pretrained(NEW_DIRECTORY)"
    )


def save(
    path: Path,
    params: Params,
    family: Family,
    config: ModelConfig,
    carried: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write parameters, in the names and layouts of the family.

    Raises:
        OSError: the file cannot be written.
    """
    parts: dict[str, dict[int, np.ndarray]] = {}
    for module, leaves in params.items():
        for leaf, array in leaves.items():
            tensor = family.tensor(config, module, leaf)
            parts.setdefault(tensor.name, {})[tensor.part] = tensor.to_file(np.asarray(array))
    tensors = {
        name: found[0] if len(found) == 1 else np.concatenate([found[i] for i in sorted(found)])
        for name, found in parts.items()
    }
    named = {family.file_name(config, name): a for name, a in {**(carried or {}), **tensors}.items()}
    try:
        safetensors.numpy.save_file(named, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error
