"""The picture: how many times as fast, a line a workload."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.speed.comparisons import (
    FASTEMBED,
    ONNX,
    ONNX_INT8,
    TORCH,
    TORCH_BFLOAT16,
    Results,
    ratios,
)

LOOKS = {
    TORCH: ("#b5532c", "o"),
    TORCH_BFLOAT16: ("#dd9a6c", "s"),
    ONNX: ("#1f5c8b", "o"),
    ONNX_INT8: ("#6fa8d0", "s"),
    FASTEMBED: ("#4d8a5b", "D"),
}
"""Colour and marker; the same colour at another precision is paler."""
WORKLOADS = {
    "sentences": "sentences",
    "documents": "documents",
    "latency": "one short text",
    "start": "fresh process\nto first vector",
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 8, 12, 20, 32)
APART = 0.22
"""Between the markers of a line, as a share of the distance of lines."""


def plot(results: Results, path: Path) -> None:
    """Draw every comparison with its spread, and the targets as short strokes."""
    found = list(ratios(results))
    lines = list(dict.fromkeys((pair.workload, pair.precision) for pair, _ in found))
    figure, axes = pyplot.subplots(figsize=(8.4, 0.8 + 0.68 * len(lines)), layout="constrained")
    labelled = set()
    for number, line in enumerate(lines):
        group = [entry for entry in found if (entry[0].workload, entry[0].precision) == line]
        for index, (pair, ratio) in enumerate(group):
            height = number + APART * (index - (len(group) - 1) / 2)
            colour, marker = LOOKS[pair.rival]
            label = None if pair.rival in labelled else pair.rival
            labelled.add(pair.rival)
            around = [[ratio.of_medians - ratio.smallest], [ratio.largest - ratio.of_medians]]
            around = [[max(0.0, side[0])] for side in around]
            axes.errorbar(ratio.of_medians, height, xerr=around, fmt=marker, color=colour,
                          markersize=6, capsize=2.5, elinewidth=1.2, label=label)  # fmt: skip
            if pair.target is not None:
                axes.plot([pair.target] * 2, [height - APART / 2.4, height + APART / 2.4],
                          color=colour, linewidth=2.2, alpha=0.55)  # fmt: skip
    axes.plot([], [], color="#777777", linewidth=2.2, alpha=0.55, label="its target")
    decorate(axes, [f"{WORKLOADS[workload]}, {precision}" for workload, precision in lines])
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def decorate(axes: pyplot.Axes, names: list[str]) -> None:
    """Axes that are read without effort."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.9) * 0.95, high * 1.08)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.axvline(1, color="#444444", linewidth=1)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("times as fast as the other library (median; the line spans the rounds)")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
