"""Tables and a picture of what was measured, in a page whose other parts stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness.machine import told
from benchmarks.harness.pages import write_measured
from benchmarks.harness.ratios import QUIET, spread
from benchmarks.harness.tables import in_markdown
from benchmarks.speed.comparisons import (
    EQUAL,
    LARGEST_SHARE,
    LEAST_SHARE,
    Results,
    ratios,
    shares_of_peak,
    unequal,
    verdict,
)
from benchmarks.speed.plot import plot

PICTURE = "images/benchmarks.png"
TITLE = "Speed and memory beside other libraries"


def write_report(results: Results, page: Path) -> None:
    """Write the measured part of the page with its picture, and show it."""
    picture = page.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot(results, picture)
    measured = "\n\n".join(part for part in parts(results) if part)
    write_measured(page, TITLE, "make bench DATA=FOLDER", measured)
    if different := unequal(results):
        raise SystemExit(f"error: vectors that should be equal are not: {'; '.join(different)}")


def parts(results: Results) -> Iterator[str]:
    """The page, part by part."""
    yield introduction(results)
    yield f"## Ratios\n\n{ratio_table(results)}\n\n![Times as fast as the others]({PICTURE})"
    for workload in results["encode"]:
        yield encode_table(results, workload)
    yield latency_table(results)
    yield start_table(results)
    yield memory_table(results)
    yield peak_table(results)
    yield versions_table(results)


def introduction(results: Results) -> str:
    """When, on what, and how."""
    machine, sizes = results["machine"], results["sizes"]
    quick = (
        "**A quick run, for development: these figures mean little.** " if results["quick"] else ""
    )
    work = results["other_work"]
    others = told(work)
    if work is not None and work > QUIET:
        others += " **That is not a quiet machine: the ratios are too kind to Encodax.**"
    absent = "".join(f" Left out: {name} ({why})." for name, why in results["absent"].items())
    return (
        f"{quick}Measured on {results['date']} in {results['minutes']:.0f} minutes on "
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory']} of memory, "
        f"{machine['system']}.{others}{absent}\n\n"
        "All contenders have the weights of all-MiniLM-L6-v2, cut texts at 256 tokens, may use all "
        f"cores, and take turns, round by round ({sizes['rounds']} rounds, of documents "
        f"{sizes['document_rounds']}), after an untimed pass over the same texts. A ratio is of "
        "medians over the rounds, with the smallest and the largest of a round in brackets."
    )


def ratio_table(results: Results) -> str:
    """Every comparison with its target, then the targets that are no ratio of times."""
    rows = []
    for comparison, ratio in ratios(results):
        target = "" if comparison.target is None else f"{comparison.target:g}"
        target += f" (stretch {comparison.stretch:g})" if comparison.stretch else ""
        shown = (titled(results, comparison.workload), comparison.precision, comparison.rival)
        rows.append((*shown, str(ratio), target, verdict(comparison, ratio)))
    shares = shares_of_peak(results, "sentences")
    if shares is not None:
        met = "yes" if np.median(shares) >= LEAST_SHARE else "**no**"
        rows.append((titled(results, "sentences"), "float32", "the matmul peak",
                     spread(shares, ".1%"), f"{LEAST_SHARE:.0%}", met))  # fmt: skip
    held = results["memory"].get("Encodax, float32")
    if held:
        (few, less), (many, more) = held.items()
        met = "yes" if more / less <= LARGEST_SHARE else "**no**"
        rows.append((f"peak memory, {int(many):,} sentences", "float32", f"itself, {int(few):,}",
                     f"{more / less:.2f}", f"at most {LARGEST_SHARE:g}", met))  # fmt: skip
    return in_markdown(("workload", "Encodax in", "beside", "times as fast", "target", "met"), rows)


def titled(results: Results, workload: str) -> str:
    """A workload by a name that says its size."""
    sizes = results["sizes"]
    return {
        "sentences": f"{sizes['sentences']:,} sentences",
        "documents": f"{sizes['documents']:,} documents",
        "latency": "one short text, p50",
        "start": "fresh process to first vector",
    }[workload]


def encode_table(results: Results, workload: str) -> str:
    """Seconds, speed, and how near the vectors are to those of sentence-transformers in float32."""
    work, contenders = results["work"][workload], results["encode"][workload]
    count = results["sizes"][workload]
    rows = [
        (
            name,
            str(found["batch_size"] or "its own"),
            spread(found["seconds"], ".2f"),
            f"{count / np.median(found['seconds']):,.0f}",
            f"{found['least_cosine']:.5f}" if "least_cosine" in found else "",
            f"{found['difference']:.1e}" if "difference" in found else "",
        )
        for name, found in contenders.items()
    ]
    heads = ("contender", "batch", "seconds", "texts/s", "least cosine", "greatest difference")
    said = (
        f"{work['tokens']:,} tokens, {work['tokens'] / count:.1f} a text. The batch size is the "
        "best of those tried on a sample. Cosine and difference are with the vectors of "
        f"sentence-transformers in float32; all of float32 must differ by less than {EQUAL:.0e}."
    )
    return f"## {titled(results, workload).capitalize()}\n\n{said}\n\n{in_markdown(heads, rows)}"


def latency_table(results: Results) -> str:
    """Percentiles over the calls of all rounds."""
    rows = []
    for name, taken in results["latency"].items():
        p50, p99 = np.percentile(np.concatenate(taken), (50, 99))
        rows.append((name, f"{p50:.2f}", f"{p99:.2f}"))
    calls = results["sizes"]["calls"] * results["sizes"]["rounds"]
    said = f"A call with one text of 4 to 10 words, {calls:,} calls each. Milliseconds."
    return f"## One short text\n\n{said}\n\n{in_markdown(('contender', 'p50', 'p99'), rows)}"


def start_table(results: Results) -> str:
    """Seconds to the first vector."""
    rows = [(name, spread(taken, ".2f")) for name, taken in results["start"].items()]
    shown = in_markdown(("contender", "seconds"), rows)
    said = (
        "From the start of an interpreter to the first vector, with the model on disk and every "
        "cache warm: imports, loading, compiling what is not cached. ONNX Runtime reads a graph "
        "that is already optimized."
    )
    return f"## Fresh process to first vector\n\n{said}\n\n{shown}"


def memory_table(results: Results) -> str:
    """Peaks of processes that embed few and many sentences."""
    rows = [
        (name, f"{int(count):,}", f"{held / 1e6:,.0f}", f"{held / next(iter(peaks.values())):.2f}")
        for name, peaks in results["memory"].items()
        for count, held in peaks.items()
    ]
    heads = ("contender", "sentences", "peak MB", "over the fewer")
    said = "The most memory that a process held, the library included, the vectors themselves not."
    return f"## Memory\n\n{said}\n\n{in_markdown(heads, rows)}"


def peak_table(results: Results) -> str:
    """What Encodax reaches of what products reach at best."""
    rows = []
    for workload, work in results["work"].items():
        shares = shares_of_peak(results, workload)
        if shares is None:
            continue
        best = np.asarray([max(peak.values()) for peak in work["peaks"]])
        middle = {
            name: np.median([peak[name] for peak in work["peaks"]]) for name in work["peaks"][0]
        }
        reached = spread(shares * best / 1e9, ".0f")
        shape = max(middle, key=middle.__getitem__)
        shown = (spread(best / 1e9, ".0f"), shape, spread(shares, ".1%"))
        rows.append((titled(results, workload), f"{work['flops'] / 1e9:,.0f}", reached, *shown))
    heads = ("workload", "GFLOP", "GFLOP/s", "peak GFLOP/s", "the product that reached it", "share")
    said = (
        "Encodax in float32. The FLOPs are those of the model's products for real tokens alone, "
        "attention within each text included, everything else not; the seconds are those of all of "
        "`encode`, with the tokenizer. The peak is that of the best of the model's own shapes of "
        "product, compiled by JAX and timed in the same process after each round."
    )
    return f"## Share of the matmul peak\n\n{said}\n\n{in_markdown(heads, rows)}"


def versions_table(results: Results) -> str:
    """What each contender ran on."""
    rows = {
        name.split(",")[0]: (name.split(",")[0], ", ".join(f"{k} {v}" for k, v in found.items()))
        for name, found in results["versions"].items()
    }
    return f"## Versions\n\n{in_markdown(('contender', 'versions'), rows.values())}"
