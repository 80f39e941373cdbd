"""Operations on vectors: compare, search, and store in fewer bytes."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, UInt8, UInt64

from encodax.config import Similarity
from encodax.data import sources
from encodax.errors import EncodaxError
from encodax.storage import json_files

Rows = Float[np.ndarray, "n E"] | Int8[np.ndarray, "n E"]
Corpus = Float[np.ndarray, "m E"] | Int8[np.ndarray, "m E"]
MAX_SCORES = 1 << 20
"""Number of scores held at a time, ..."""
MAX_NUMBERS = 1 << 22
"""... and of numbers of the corpus: both bound the memory of a search."""
MAX_QUERIES = 1024
"""Most queries that are compared together."""
BLOCK = 1024
"""Number of items of a stream that are compared together."""
RANGES_COMMAND = "encodax embed MODEL --input CORPUS --output vectors.npy --save-ranges FILE"
"""Command that writes a file of ranges."""


@dataclass(frozen=True)
class Hit:
    """Vector of a corpus that a search found."""

    index: int
    """Row of the vector in the corpus."""
    score: float


def similarity(
    first: Float[np.ndarray, "n E"], second: Float[np.ndarray, "m E"], by: Similarity = "cosine"
) -> Float[np.ndarray, "n m"]:
    """Return the similarity of each first vector to each second one; larger is more similar.

    cosine: a b / (|a| |b|), and 0 if one is zero. dot: a b. euclidean and manhattan: minus the
    distance.

    Raises:
        EncodaxError: the vectors are of different widths.
    """
    first, second = (np.atleast_2d(each).astype(np.float32) for each in (first, second))
    if first.shape[1] != second.shape[1]:
        raise EncodaxError(
            f"vectors of width {first.shape[1]} and of width {second.shape[1]} cannot be compared: "
            "are they from the same model?"
        )
    if by == "cosine":
        return np.asarray(unit(first) @ unit(second).T)
    if by == "dot":
        return np.asarray(first @ second.T)
    if by == "euclidean":
        first, second = first.astype(np.float64), second.astype(np.float64)  # near vectors need it
        squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None]
        nearness = -np.sqrt(np.maximum(squares - 2 * (first @ second.T), 0))
        return np.asarray(nearness, np.float32)
    distances = [np.abs(second - row).sum(axis=1) for row in first]
    return -np.asarray(distances, np.float32).reshape(len(first), len(second))


def unit(rows: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    """Scale each vector to length 1; zeros stay zeros."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12))


class Nearest:
    """Search for the nearest vectors to each query, in a corpus that arrives in pieces.

    The search is exact. Of equal scores, the earlier one in the corpus is better.
    """

    def __init__(self, queries: Rows, top_k: int = 10, by: Similarity = "cosine"):
        """Start with an empty corpus.

        Args:
            queries: a vector each.
            top_k: number of hits for each query.
            by: similarity measure.

        Raises:
            EncodaxError: `top_k` is below 1.
        """
        if top_k < 1:
            raise EncodaxError(f"top_k = {top_k} is not above 0")
        self._top_k, self._by = top_k, by
        self._queries = self._prepared(queries)
        self._best = np.zeros((len(queries), 0), np.uint64)  # keys, worst first
        self._count = 0

    def add(self, corpus: Corpus) -> None:
        """Compare the next vectors of the corpus.

        Raises:
            EncodaxError: they are of another width, or a score is not a number.
        """
        together = min(max(1, len(self._queries)), MAX_QUERIES)
        height = max(1, min(MAX_SCORES // together, MAX_NUMBERS // max(1, corpus.shape[1])))
        for start in range(0, len(corpus), height):
            block = self._prepared(corpus[start : start + height])
            parts = [
                self._better(slice(first, first + together), block)
                for first in range(0, len(self._queries), together)
            ]
            self._best = np.concatenate(parts) if parts else self._best
            self._count += len(block)

    def hits(self) -> list[list[Hit]]:
        """Return the best hits for each query so far, best first."""
        best = self._best[:, ::-1]
        return [
            [Hit(index, score) for index, score in zip(*row, strict=True)]
            for row in zip(_places(best).tolist(), _scores(best).tolist(), strict=True)
        ]

    def places(self) -> set[int]:
        """Return the rows of the corpus that are among the best for any query so far."""
        return set(_places(self._best).ravel().tolist())

    def _prepared(self, rows: Rows) -> Float[np.ndarray, "n E"]:
        """Prepare vectors for comparison: in float32, and for the cosine at length 1."""
        rows = np.asarray(rows, np.float32)
        return unit(rows) if self._by == "cosine" else rows

    def _better(self, part: slice, block: Float[np.ndarray, "m E"]) -> UInt64[np.ndarray, "q best"]:
        """Return the best keys of some queries after these vectors are compared too."""
        scores = similarity(self._queries[part], block, "dot" if self._by == "cosine" else self._by)
        if np.isnan(scores).any():
            query, place = np.argwhere(np.isnan(scores))[0].tolist()
            raise EncodaxError(
                f"query {part.start + query} and vector {self._count + place} of the corpus "
                "cannot be compared: their score is not a number; are all of their numbers finite?"
            )
        best = self._best[part]
        if best.shape[1] == self._top_k:  # drop scores that are no better than the worst
            found = _padded_keys(scores, scores > _scores(best[:, :1]), self._count)
        else:
            found = _keys(scores, self._count + np.arange(len(block)))
        found = np.concatenate([best, found], axis=1)
        if (spare := found.shape[1] - self._top_k) > 0:
            found = np.partition(found, spare, axis=1)[:, spare:]
        return np.sort(found, axis=1)


SIGN = np.uint32(1 << 31)
LAST = np.uint64((1 << 32) - 1)
"""Largest place in a corpus."""


def _keys(scores: Float[np.ndarray, "*any"], places: np.ndarray) -> UInt64[np.ndarray, "*any"]:
    """Pack a score and its place into one number: larger for a larger score or an earlier place.

    The bits of a float sort as the float does, after those of negative floats are inverted.
    """
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    ordered = np.where(bits & SIGN, ~bits, bits | SIGN)
    return (ordered.astype(np.uint64) << np.uint64(32)) | (LAST - places.astype(np.uint64))


def _padded_keys(
    scores: Float[np.ndarray, "q m"], chosen: np.ndarray, before: int
) -> UInt64[np.ndarray, "q most"]:
    """Return the keys of the chosen scores; rows with fewer than the others are filled with 0."""
    rows, columns = np.nonzero(chosen)
    counts = np.bincount(rows, minlength=len(scores))
    keys = np.zeros((len(scores), int(counts.max(initial=0))), np.uint64)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    keys[rows, slots] = _keys(scores[rows, columns], before + columns)
    return keys


def _scores(keys: UInt64[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Unpack the scores of keys."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(ordered & SIGN, ordered ^ SIGN, ~ordered).view(np.float32)


def _places(keys: UInt64[np.ndarray, "*any"]) -> np.ndarray:
    """Unpack the places of keys."""
    return (LAST - (keys & LAST)).astype(np.int64)


def search(
    queries: Rows,
    corpus: Corpus,
    top_k: int = 10,
    by: Similarity = "cosine",
) -> list[list[Hit]]:
    """Find the `top_k` most similar vectors of a corpus for each query, best first; exact search.

    Memory holds the hits and a few MB more: the corpus may be memory-mapped (`np.load(path,
    mmap_mode="r")`).

    Raises:
        EncodaxError: the vectors are of different widths, a score is not a number, or `top_k` is
            below 1.
    """
    nearest = Nearest(queries, top_k, by)
    nearest.add(corpus)
    return nearest.hits()


def search_stream(
    items: Iterable[tuple[Any, Float[np.ndarray, " E"]]], nearest: Nearest
) -> dict[int, Any]:
    """Add a stream of items, each with its vector, to a search; return the hit items by place.

    Args:
        items: items with their vectors.
        nearest: the search.
    """
    kept: dict[int, Any] = {}
    for before, block in _blocks(items):
        nearest.add(np.stack([vector for _, vector in block]))
        places = nearest.places()
        kept |= {before + number: item for number, (item, _) in enumerate(block)}
        kept = {place: item for place, item in kept.items() if place in places}
    return kept


def _blocks(items: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield items in lists, each with the number of items before it."""
    stream, before = iter(items), 0
    while block := list(itertools.islice(stream, BLOCK)):
        yield before, block
        before += len(block)


def ranges_of(vectors: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "2 E"]:
    """Return the least and the greatest value of each feature, the ranges that `to_int8` needs."""
    return np.stack(
        [vectors.min(axis=0, initial=np.inf), vectors.max(axis=0, initial=-np.inf)]
    ).astype(np.float32)


def to_int8(
    vectors: Float[np.ndarray, "n E"], ranges: Float[np.ndarray, "2 _"]
) -> Int8[np.ndarray, "n E"]:
    """Quantize vectors to a quarter of the bytes: each feature in 255 steps over its range.

    Args:
        vectors: vectors in float32.
        ranges: least and greatest value of each feature in the corpus (`ranges_of`). Vectors that
            are compared, such as a corpus and its queries, need the same ranges; values outside are
            clipped.

    Raises:
        EncodaxError: the ranges are for another width, or come from too few vectors.
    """
    check_ranges(ranges, vectors.shape[1])
    low, high = ranges
    steps = np.maximum(high - low, 1e-12) / 255
    stepped = np.clip(np.round((vectors - low) / steps) - 128, -128, 127)
    return np.asarray(stepped, np.int8)


def check_ranges(ranges: Float[np.ndarray, "2 _"], width: int) -> None:
    """Refuse ranges that cannot be used for vectors of this width.

    Raises:
        EncodaxError: the ranges are for another width, or come from too few vectors.
    """
    if ranges.shape != (2, width):
        raise EncodaxError(
            f"the ranges are for vectors of {ranges.shape[-1]} numbers, and these have {width}: "
            "are they from another model?"
        )
    low, high = ranges
    if not (np.isfinite(ranges).all() and (low <= high).all() and (low < high).any()):
        raise EncodaxError(
            "the ranges come from one vector, or from none, and are empty: make them from a "
            "corpus, or from a sample of it"
        )


class RunningRanges:
    """Ranges of vectors that arrive one at a time."""

    def __init__(self, width: int):
        """Start without a vector of this width."""
        self.ranges = ranges_of(np.zeros((0, width), np.float32))
        self._count = 0

    def add(self, vector: Float[np.ndarray, " E"]) -> None:
        """Extend the ranges to include one more vector."""
        low, high = self.ranges
        np.minimum(low, vector, out=low)
        np.maximum(high, vector, out=high)
        self._count += 1

    def save(self, path: Path | str) -> None:
        """Write the ranges as JSON, for `read_ranges`.

        Raises:
            EncodaxError: the vectors are too few, or the file cannot be written.
        """
        check_ranges(self.ranges, self.ranges.shape[1])
        low, high = self.ranges.tolist()
        with sources.open_output(path) as stream:
            json.dump({"vectors": self._count, "low": low, "high": high}, stream)
            stream.write("\n")


def read_ranges(path: Path | str) -> Float[np.ndarray, "2 E"]:
    """Read the ranges of a file.

    Raises:
        EncodaxError: there is no such file, or it is not a file of ranges.
    """
    stored = json_files.read(Path(path), hint=f"; to make it: {RANGES_COMMAND}")
    try:
        ranges = np.asarray([stored["low"], stored["high"]], np.float32)
    except (KeyError, TypeError, ValueError):
        ranges = np.zeros(0)
    if ranges.ndim != 2:
        raise EncodaxError(
            f"{path} is not a file of ranges, with numbers 'low' and 'high'; to make one: "
            f"{RANGES_COMMAND}"
        )
    return ranges


def to_binary(vectors: Float[np.ndarray, "n E"]) -> UInt8[np.ndarray, "n bytes"]:
    """Quantize vectors to one bit for each feature (1 above 0), eight in a byte."""
    return np.packbits(vectors > 0, axis=1)


def hamming(
    first: UInt8[np.ndarray, "n bytes"], second: UInt8[np.ndarray, "m bytes"]
) -> np.ndarray:
    """Count the features in which two binary vectors differ, (n, m)."""
    found = np.empty((len(first), len(second)), np.int64)
    height = max(1, MAX_NUMBERS // max(1, second.shape[1]))
    for start in range(0, len(second), height):
        block = second[start : start + height]
        for differing, row in zip(found, first, strict=True):
            differing[start : start + height] = np.bitwise_count(block ^ row).sum(axis=1)
    return found


TYPES = ("float32", "int8", "binary")
"""Number formats in which vectors can be stored."""


def converter(
    kind: str, ranges: Float[np.ndarray, "2 E"] | None = None
) -> Callable[[Float[np.ndarray, "n E"]], np.ndarray]:
    """Return the function that converts vectors in float32 to their stored format.

    Args:
        kind: one of `TYPES`.
        ranges: ranges for int8, see `to_int8`.


    Raises:
        EncodaxError: there is no such kind, int8 has no ranges, or another kind has some.
    """
    if kind not in TYPES:
        raise EncodaxError(f"vectors {kind!r} is not one of: {', '.join(TYPES)}")
    if kind == "int8":
        if ranges is None:
            raise EncodaxError(
                "int8 needs the ranges of a corpus, the same for it and for its queries: --ranges "
                f"FILE; to make it: {RANGES_COMMAND}"
            )
        return functools.partial(to_int8, ranges=ranges)
    if ranges is not None:
        raise EncodaxError(f"ranges are for int8, not for {kind}: leave --ranges out")
    return to_binary if kind == "binary" else np.asarray
