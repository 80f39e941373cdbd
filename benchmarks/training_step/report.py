"""Tables of what was measured, in a page whose other parts stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.machine import told
from benchmarks.harness.pages import write_measured
from benchmarks.harness.ratios import QUIET, Ratio, spread
from benchmarks.harness.tables import in_markdown

TITLE = "Speed of training beside PyTorch"
COMMAND = "make bench-step SST2=FILE"
TARGETS = {"32 x 32": 1.7, "16 x 128": 1.3}
PACKED_TARGET, PEAK_TARGET, WAITING_TARGET = 3.5, 0.55, 0.02
EPOCHS = {
    "ours, tokens": "Encodax, packed, 2,048 tokens a step",
    "ours, examples": "Encodax, packed, 32 sentences a step",
    "theirs, random": "PyTorch, 32 a step, padded to the longest",
    "theirs, grouped": "PyTorch, 32 a step, grouped by length",
    "kept, random": "PyTorch with memory kept, 32 a step, padded to the longest",
    "kept, grouped": "PyTorch with memory kept, 32 a step, grouped by length",
}
Results = dict[str, Any]


def write_report(results: Results, page: Path) -> None:
    """Write the measured part of the page, and show it."""
    write_measured(page, TITLE, COMMAND, "\n\n".join(parts(results)))


def parts(results: Results) -> Iterator[str]:
    """The page, part by part."""
    yield introduction(results)
    yield f"## Full rows\n\n{step_table(results)}"
    yield f"## Sentences of SST-2\n\n{epoch_table(results)}\n\n{epoch_ratios(results)}"
    share = results["waiting"]
    yield (
        f"A whole run over these sentences waited for data {share:.2%} of its time (target: at "
        f"most {WAITING_TARGET:.0%}; met: {met(share <= WAITING_TARGET)})."
    )


def introduction(results: Results) -> str:
    """When, on what, and how."""
    machine, sizes, work = results["machine"], results["sizes"], results["other_work"]
    quick = "**A quick run, for development: these figures mean little.** "
    noisy = " **So ratios of seconds mean little; those of CPU seconds mean more.**"
    versions = {**results["versions"]["theirs"], **results["versions"]["ours"]}
    listed = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch", "transformers"))
    return (
        f"{quick if results['quick'] else ''}Measured on {results['date']} on {machine['cores']} "
        f"cores of {machine['processor']}, {machine['system']}; {listed}.{told(work)}"
        f"{noisy if work is not None and work > QUIET else ''}\n\nBoth sides train "
        "all-MiniLM-L6-v2 under a fresh head of two classes: float32, dropout 0.1, AdamW, clipping "
        f"at 1. They take turns, {sizes['rounds']} rounds of {sizes['steps']} steps a shape, and "
        f"{sizes['epoch_rounds']} rounds over {sizes['sentences']:,} sentences. Ratios are of "
        "medians, with the smallest and largest of a round; tokenization and compilation do not "
        "count. Encodax leaves out of the last layer what the head does not read: all tokens but "
        "the first. PyTorch with memory kept is PyTorch under the rule for freed memory that "
        "`encodax train` sets for itself (`encodax.keep_freed_memory`): it comes without."
    )


def step_table(results: Results) -> str:
    """Milliseconds of a step, ratios, and the share of the peak."""
    heads = ("rows x tokens", "Encodax, ms", "PyTorch, ms", "times as fast", "target", "met",
             "in CPU time", "PyTorch with memory kept, ms", "times as fast",
             "share of matmul peak", "met")  # fmt: skip
    return in_markdown(heads, (step_row(name, found) for name, found in results["steps"].items()))


def step_row(name: str, found: dict[str, Any]) -> list[str]:
    """One shape."""
    ours, theirs, kept = (column(found[side], "seconds") for side in ("ours", "theirs", "kept"))
    times = Ratio.of(theirs, ours)
    shares = column(found["ours"], "flops") / ours / np.asarray(found["peak"])
    return [
        name,
        spread(1e3 * ours, ".0f"),
        spread(1e3 * theirs, ".0f"),
        str(times),
        f"{TARGETS[name]}",
        met(times.of_medians >= TARGETS[name]),
        str(Ratio.of(column(found["theirs"], "cpu_seconds"), column(found["ours"], "cpu_seconds"))),
        spread(1e3 * kept, ".0f"),
        str(Ratio.of(kept, ours)),
        spread(shares, ".0%"),
        met(float(np.median(shares)) >= PEAK_TARGET),
    ]


def epoch_table(results: Results) -> str:
    """Sentences a second, and how much of what is computed is padding."""
    sentences, rows = results["sizes"]["sentences"], []
    for name, title in EPOCHS.items():
        found = results["epochs"][name]
        rows.append(
            [
                title,
                f"{found[0]['steps']:,}",
                f"{np.mean(column(found, 'padding')):.0%}",
                spread(sentences / column(found, "seconds"), ",.0f"),
            ]
        )
    return in_markdown(("", "steps", "padding", "sentences/s"), rows)


def epoch_ratios(results: Results) -> str:
    """Each form of ours beside each of theirs."""
    heads = ("Encodax", "beside PyTorch", "times as fast", "in CPU time", "target", "met")
    rows = []
    both = [name for name in EPOCHS if name.startswith("ours")]
    for ours in both:
        for theirs in (name for name in EPOCHS if name not in both):
            a, b = results["epochs"][ours], results["epochs"][theirs]
            times = Ratio.of(column(b, "seconds"), column(a, "seconds"))
            of_cpu = Ratio.of(column(b, "cpu_seconds"), column(a, "cpu_seconds"))
            is_judged = (ours, theirs) == ("ours, tokens", "theirs, random")
            rows.append(
                [
                    EPOCHS[ours].removeprefix("Encodax, "),
                    EPOCHS[theirs].removeprefix("PyTorch, "),
                    str(times),
                    str(of_cpu),
                    f"{PACKED_TARGET}" if is_judged else "",
                    met(times.of_medians >= PACKED_TARGET) if is_judged else "",
                ]
            )
    return in_markdown(heads, rows)


def column(found: list[dict[str, Any]], name: str) -> np.ndarray:
    """One figure a round."""
    return np.asarray([one[name] for one in found])


def met(is_met: bool) -> str:
    """Whether a target was met."""
    return "yes" if is_met else "**no**"
