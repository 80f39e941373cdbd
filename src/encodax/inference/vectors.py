"""What is done with vectors: compare, search, and store them in fewer bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, UInt8

from encodax.config import Similarity
from encodax.data import sources
from encodax.errors import EncodaxError

Vectors = Float[np.ndarray, "n E"] | Int8[np.ndarray, "n E"] | UInt8[np.ndarray, "n bytes"]
BLOCK = 65_536
"""Vectors of a corpus that are compared at a time: bounds the memory of a search."""


@dataclass(frozen=True)
class Hit:
    """A vector that was found."""

    index: int
    """Its row in the corpus."""
    score: float


def similarity(
    first: Float[np.ndarray, "n E"], second: Float[np.ndarray, "m E"], by: Similarity = "cosine"
) -> Float[np.ndarray, "n m"]:
    """How similar each of the first is to each of the second; larger is more.

    cosine: a b / (|a| |b|), and 0 where one is zero. dot: a b. euclidean and manhattan: minus the
    distance.

    Raises:
        EncodaxError: the vectors are of different widths.
    """
    first, second = (np.atleast_2d(each).astype(np.float32) for each in (first, second))
    if first.shape[1] != second.shape[1]:
        raise EncodaxError(
            f"vectors of width {first.shape[1]} and of width {second.shape[1]} do not compare: "
            "are they of one model?"
        )
    if by == "cosine":
        return np.asarray(unit(first) @ unit(second).T)
    if by == "dot":
        return np.asarray(first @ second.T)
    if by == "euclidean":
        first, second = first.astype(np.float64), second.astype(np.float64)  # for what is near
        squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None]
        nearness = -np.sqrt(np.maximum(squares - 2 * (first @ second.T), 0))
        return np.asarray(nearness, np.float32)
    distances = [np.abs(second - row).sum(axis=1) for row in first]
    return -np.asarray(distances, np.float32).reshape(len(first), len(second))


def unit(rows: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    """Each vector at length 1; zeros stay zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12))


def search(
    queries: Float[np.ndarray, "n E"],
    corpus: Float[np.ndarray, "m E"],
    top_k: int = 10,
    by: Similarity = "cosine",
) -> list[list[Hit]]:
    """For each query the `top_k` most similar of the corpus, best first, found by comparing all."""
    if top_k < 1:
        raise EncodaxError(f"top_k = {top_k} is not above 0")
    scores = np.empty((len(queries), 0), np.float32)
    places = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(corpus), BLOCK):
        block = similarity(queries, corpus[start : start + BLOCK], by)
        index = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        scores = np.concatenate([scores, block], axis=1)
        places = np.concatenate([places, index], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        scores = np.take_along_axis(scores, best, axis=1)
        places = np.take_along_axis(places, best, axis=1)
    return [
        [Hit(int(index), float(score)) for index, score in zip(*row, strict=True)]
        for row in zip(places, scores, strict=True)
    ]


def to_int8(
    vectors: Float[np.ndarray, "n E"], ranges: Float[np.ndarray, "2 E"] | None = None
) -> Int8[np.ndarray, "n E"]:
    """A quarter of the bytes: each feature in 255 steps between its least and its greatest value.

    Args:
        vectors: in float32.
        ranges: least and greatest value of each feature; those of `vectors` when not given. A
            corpus and its queries want the same ones.
    """
    if ranges is None:  # there may be no vector at all
        low, high = vectors.min(axis=0, initial=np.inf), vectors.max(axis=0, initial=-np.inf)
    else:
        low, high = ranges
    steps = np.maximum(high - low, 1e-12) / 255
    stepped = np.clip(np.round((vectors - low) / steps) - 128, -128, 127)
    return np.asarray(stepped, np.int8)


def to_binary(vectors: Float[np.ndarray, "n E"]) -> UInt8[np.ndarray, "n bytes"]:
    """A thirty-second of the bytes: of each feature whether it is above 0, eight in a byte."""
    return np.packbits(vectors > 0, axis=1)


def hamming(
    first: UInt8[np.ndarray, "n bytes"], second: UInt8[np.ndarray, "m bytes"]
) -> np.ndarray:
    """The number of features in which two binary vectors differ, (n, m)."""
    counts = [np.bitwise_count(second ^ row).sum(axis=1, dtype=np.int64) for row in first]
    return np.asarray(counts, np.int64).reshape(len(first), len(second))


def _write_npy(path: str, texts: Sequence[str], vectors: Vectors) -> None:
    with sources.open_output(path, binary=True) as stream:
        np.save(stream, vectors)


def _write_json_lines(path: str, texts: Sequence[str], vectors: Vectors) -> None:
    with sources.open_output(path) as stream:
        for text, vector in zip(texts, vectors, strict=True):
            line: dict[str, Any] = {"text": text, "vector": vector.tolist()}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_parquet(path: str, texts: Sequence[str], vectors: Vectors) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EncodaxError(f"{path}: writing Parquet needs pyarrow: pip install pyarrow") from error
    flat = pyarrow.array(vectors.reshape(-1))
    column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pyarrow.table({"text": pyarrow.array(texts), "vector": column})
    with sources.open_output(path, binary=True) as stream:
        pyarrow.parquet.write_table(table, stream)


WRITERS: dict[str, Callable[[str, Sequence[str], Vectors], None]] = {
    "npy": _write_npy,
    "parquet": _write_parquet,
    "jsonl": _write_json_lines,
}
"""File ending -> writer; `-` is standard output, for JSON Lines."""

TYPES: dict[str, Callable[[np.ndarray], Vectors]] = {
    "float32": lambda vectors: vectors,
    "int8": to_int8,
    "binary": to_binary,
}
"""What vectors are stored as."""
