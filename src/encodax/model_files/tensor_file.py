"""Safetensors files, read without memory mapping.

The safetensors library maps files into memory. A file that is being overwritten in place (`cp`,
`rsync --inplace`) is shorter for a moment, and reading mapped memory beyond its end kills the
process (SIGBUS).
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

LONGEST_HEADER = 100_000_000
"""Maximum number of bytes of a header, as in the safetensors library."""
NUMPY: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""Supported types, by their names in the format."""
BITS = {
    **{name: 8 * np.dtype(kind).itemsize for name, kind in NUMPY.items()},
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one number, for every type of the format."""


@dataclass(frozen=True)
class TensorInfo:
    """Type, shape and position of a tensor in its file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset in bytes from the beginning of the file."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def get_dtype(self) -> str:
        """Return the name of the type in the format."""
        return self.dtype

    def get_shape(self) -> list[int]:
        """Return the shape."""
        return list(self.shape)


class TensorFile:
    """Open safetensors file, with the methods of the library's `safe_open`."""

    def __init__(self, file: BinaryIO, slices: dict[str, TensorInfo]):
        self._file, self._slices = file, slices

    def keys(self) -> list[str]:
        """Return the names of the tensors."""
        return list(self._slices)

    def get_slice(self, name: str) -> TensorInfo:
        """Return the type, shape and position of a tensor, without reading it."""
        return self._slices[name]

    def get_tensor(self, name: str) -> np.ndarray:
        """Read a tensor.

        Raises:
            SafetensorError: NumPy has no such type, or the file was truncated.
        """
        slice = self._slices[name]
        if slice.dtype not in NUMPY:
            raise SafetensorError(f"{name} is {slice.dtype}, which is not supported")
        self._file.seek(slice.start)
        found = np.fromfile(self._file, np.dtype(NUMPY[slice.dtype]), slice.count)
        if len(found) < slice.count:
            raise SafetensorError(f"it ends within {name}")
        return found.reshape(slice.shape)


@contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """Open a file after checking its header.

    Raises:
        SafetensorError: it is not a safetensors file, or is incomplete.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        at = os.fstat(file.fileno())
        yield TensorFile(file, _slices(path, at.st_size, at.st_mtime_ns, at.st_ctime_ns))


@functools.lru_cache(maxsize=4)
def _slices(path: Path, size: int, *_: int) -> dict[str, TensorInfo]:
    """Return the tensors that the header names; size and times of the file are the cache key."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise SafetensorError("its header does not fit in it")
        content = file.read(length)
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_without_repeats)
        if not content.startswith(b"{"):
            raise ValueError("it is not an object")
        if any(not isinstance(note, str) for note in header.pop("__metadata__", {}).values()):
            raise ValueError("__metadata__ holds a value that is not a text")
        found = {name: _slice(entry, 8 + length) for name, entry in header.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise SafetensorError(f"its header is not that of a safetensors file: {error!r}") from error
    end = 8 + length
    for name, slice in sorted(found.items(), key=lambda item: (item[1].start, item[1].count)):
        bits = slice.count * BITS[slice.dtype]
        offsets = header[name]["data_offsets"]
        if slice.start != end or bits != 8 * (offsets[1] - offsets[0]):
            raise SafetensorError(f"{name} is not where its header says")
        end += bits // 8
    if end != size:
        raise SafetensorError(f"its header describes {end} bytes, and it has {size}")
    return found


def _slice(entry: dict[str, Any], first: int) -> TensorInfo:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (isinstance(shape, list) and isinstance(offsets, list)):
        raise ValueError("shape and data_offsets must be lists")
    numbers = [*shape, *offsets]
    if entry.keys() != {"dtype", "shape", "data_offsets"} or entry["dtype"] not in BITS:
        raise ValueError(f"a tensor has the dtype {entry['dtype']!r}")
    if len(offsets) != 2 or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"a tensor has the shape {shape!r}")
    return TensorInfo(entry["dtype"], tuple(shape), first + offsets[0])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found
