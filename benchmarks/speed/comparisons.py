"""What is compared with what, how many times as fast each is, and the targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.ratios import Ratio

Results = dict[str, Any]

TORCH, TORCH_BFLOAT16 = "sentence-transformers, float32", "sentence-transformers, bfloat16"
ONNX, ONNX_INT8 = "ONNX Runtime, float32", "ONNX Runtime, int8"
FASTEMBED = "fastembed, float32"
EQUAL = 1e-5
"""Differences of float32 vectors below this are rounding."""
LARGEST_SHARE = 1.2
"""Peak memory over many sentences, over that over few."""
LEAST_SHARE = 0.8
"""Of the matmul peak that float32 is to reach on sentences."""


@dataclass(frozen=True)
class Comparison:
    """Encodax at a precision beside a rival, and how many times as fast it is to be."""

    workload: str
    precision: str
    rival: str
    target: float | None = None
    stretch: float | None = None

    @property
    def ours(self) -> str:
        return f"Encodax, {self.precision}"


COMPARISONS = (
    Comparison("sentences", "float32", TORCH, 3.0, 3.3),
    Comparison("sentences", "float32", ONNX, 1.7, 1.9),
    Comparison("sentences", "float32", FASTEMBED),
    Comparison("sentences", "bfloat16", TORCH, 4.5, 5.5),
    Comparison("sentences", "bfloat16", TORCH_BFLOAT16),
    Comparison("sentences", "bfloat16", ONNX, 2.7),
    Comparison("sentences", "int8", TORCH, 6.0),
    Comparison("sentences", "int8", TORCH_BFLOAT16),
    Comparison("sentences", "int8", ONNX_INT8, 1.3),
    Comparison("documents", "float32", TORCH, 2.0),
    Comparison("documents", "float32", ONNX, 1.3),
    Comparison("documents", "bfloat16", TORCH),
    Comparison("latency", "float32", TORCH, 2.0),
    Comparison("latency", "float32", ONNX, 1.0),
    Comparison("latency", "float32", FASTEMBED),
    Comparison("latency", "int8", ONNX_INT8),
    Comparison("start", "float32", TORCH, 4.0),
    Comparison("start", "float32", ONNX),
)


def ratios(results: Results) -> Iterator[tuple[Comparison, Ratio]]:
    """Of all comparisons whose sides were both measured."""
    for comparison in COMPARISONS:
        ours = rounds(results, comparison.workload, comparison.ours)
        theirs = rounds(results, comparison.workload, comparison.rival)
        if ours is not None and theirs is not None:
            yield comparison, Ratio.of(theirs, ours)


def rounds(results: Results, workload: str, name: str) -> np.ndarray | None:
    """Times, one a round: of a latency the median of its calls."""
    if workload in ("sentences", "documents"):
        found = results["encode"][workload].get(name, {}).get("seconds")
    else:
        found = results[workload].get(name)
    if found is None:
        return None
    return np.median(found, axis=1) if workload == "latency" else np.asarray(found)


def verdict(comparison: Comparison, ratio: Ratio) -> str:
    """Whether the target was met."""
    if comparison.target is None:
        return ""
    if ratio.of_medians < comparison.target:
        return "**no**"
    if comparison.stretch is None:
        return "yes"
    return "yes, and the stretch" if ratio.of_medians >= comparison.stretch else "yes"


def shares_of_peak(results: Results, workload: str) -> np.ndarray | None:
    """FLOP/s of Encodax in float32 over those of the best product, a round each."""
    seconds = rounds(results, workload, "Encodax, float32")
    work = results["work"].get(workload)
    if seconds is None or work is None:
        return None
    best = np.asarray([max(peak.values()) for peak in work["peaks"]])
    return work["flops"] / seconds / best


def unequal(results: Results) -> list[str]:
    """The float32 contenders whose vectors differ by more than rounding."""
    return [
        f"{name} over {workload}: {found['difference']:.1e}"
        for workload, contenders in results["encode"].items()
        for name, found in contenders.items()
        if name.endswith("float32") and found.get("difference", 0.0) >= EQUAL
    ]
