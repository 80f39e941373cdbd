"""Files of vectors, written as the vectors arrive: .npy, Parquet, JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from encodax.data import sources
from encodax.errors import EncodaxError

GROUP = 4096
"""Number of rows in a row group of Parquet, which are buffered until they are written."""


@contextmanager
def opened(path: Path | str, width: int, dtype: Any) -> Iterator[VectorFile]:
    """Open a file for vectors, in the format of its suffix; `-` is standard output, JSON Lines.

    If the work ends early, the vectors written so far are kept in FILE.partial, a valid file of
    fewer vectors, and the error says so.

    Args:
        path: the file.
        width: number of dimensions of a vector.
        dtype: data type of the numbers.

    Raises:
        EncodaxError: the suffix has no format, or the file cannot be written.
    """
    kind = kind_of(path)
    written = 0
    with sources.open_output(
        path, binary=kind.IS_BINARY, unit="vector", count=lambda: written
    ) as stream:
        file = kind(stream, width, np.dtype(dtype), str(path))
        try:
            yield file
        finally:
            file.close()
            written = file.count


def kind_of(path: Path | str) -> type[VectorFile]:
    """Return the class that writes a file of this name.

    Raises:
        EncodaxError: the suffix has no format.
    """
    ending = "jsonl" if str(path) == "-" else Path(path).suffix.removeprefix(".")
    if ending not in KINDS:
        known = ", ".join(f".{name}" for name in KINDS)
        raise EncodaxError(f"{path}: the name of a file of vectors must end in {known}")
    return KINDS[ending]


class VectorFile:
    """File of vectors of one width, open for writing."""

    IS_BINARY = True

    def __init__(self, stream: Any, width: int, dtype: np.dtype[Any], path: str):
        """Start a file without vectors.

        Args:
            stream: stream to write to.
            width: number of dimensions of a vector.
            dtype: data type of the numbers.
            path: name of the file in errors.
        """
        self.stream, self.width, self.dtype, self.path = stream, width, dtype, path
        self.count = 0
        """Number of vectors written."""
        self._begin()

    def write(self, text: str, vector: np.ndarray) -> None:
        """Write a text's vector."""
        self._add(text, vector)
        self.count += 1

    def close(self) -> None:
        """Complete the file; the stream stays open."""

    def _begin(self) -> None:
        pass

    def _add(self, text: str, vector: np.ndarray) -> None:
        raise NotImplementedError


class _Npy(VectorFile):
    """One array; its header, of the same length for any number of rows, is rewritten at the end."""

    def _begin(self) -> None:
        if not self.stream.seekable():
            raise EncodaxError(
                f"{self.path}: a .npy file starts with the number of its rows, which is known only "
                "at the end; give a plain file instead of a pipe, or write JSON Lines"
            )
        self._write_header()

    def _add(self, text: str, vector: np.ndarray) -> None:
        self.stream.write(vector.astype(self.dtype, copy=False).tobytes())

    def close(self) -> None:
        self.stream.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, self.width),
        }
        np.lib.format.write_array_header_1_0(self.stream, header)


class _JsonLines(VectorFile):
    """One JSON object for each text."""

    IS_BINARY = False

    def _add(self, text: str, vector: np.ndarray) -> None:
        line = {"text": text, "vector": vector.tolist()}
        self.stream.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Parquet(VectorFile):
    """Columns `text` and `vector`, written one row group at a time."""

    def _begin(self) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            message = f"{self.path}: writing Parquet needs pyarrow: pip install pyarrow"
            raise EncodaxError(message) from error
        vector = pyarrow.list_(pyarrow.from_numpy_dtype(self.dtype), self.width)
        self._schema = pyarrow.schema([("text", pyarrow.string()), ("vector", vector)])
        self._writer = pyarrow.parquet.ParquetWriter(self.stream, self._schema)
        self._texts: list[str] = []
        self._vectors = np.empty((GROUP, self.width), self.dtype)

    def _add(self, text: str, vector: np.ndarray) -> None:
        self._vectors[len(self._texts)] = vector
        self._texts.append(text)
        if len(self._texts) == GROUP:
            self._write_group()

    def close(self) -> None:
        if self._texts:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow

        rows = self._vectors[: len(self._texts)]
        vectors = pyarrow.FixedSizeListArray.from_arrays(rows.reshape(-1), self.width)
        columns = [pyarrow.array(self._texts, pyarrow.string()), vectors]
        self._writer.write_batch(pyarrow.record_batch(columns, self._schema))
        self._texts = []


KINDS: dict[str, type[VectorFile]] = {"npy": _Npy, "parquet": _Parquet, "jsonl": _JsonLines}
"""Class that writes a file, by file suffix."""
