"""The training step beside PyTorch, two processes in turn.

    python -m benchmarks.training_step --sst2 FILE --reference PYTHON [--quick] [--report]

FILE is SST-2 to learn from (text, tab, 0 or 1); PYTHON is that of an environment made of
`benchmarks/requirements.txt`. Both sides train all-MiniLM-L6-v2 under a fresh head of two classes:
dropout 0.1, AdamW, clipping at 1, float32, all cores. Each runs in a process of its own that is
stopped while it is not its turn. PyTorch runs twice: as it comes, and with freed memory kept, as
`encodax train` does it (`encodax.keep_freed_memory`). Ratios are of medians over the rounds, and
their spread is that of the rounds' own ratios; beside them stand those of CPU seconds, which other
programs disturb less.

The raw numbers go to `runs/training-step/results.json`, tables to `docs/training_speed.md`.
`--quick` takes little of everything, and leaves docs alone; `--report` measures nothing, and writes
again what was measured last.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness.children import ROOT
from benchmarks.harness.machine import OtherWork, cores, description
from benchmarks.harness.timing import in_turn
from benchmarks.harness.workers import Worker
from benchmarks.sts import model_directory
from benchmarks.training_step.report import write_report
from benchmarks.training_step.sizes import QUICK, SHAPES, Sizes

SIDES = {"ours": "encodax_worker", "theirs": "torch_worker", "kept": "torch_kept_worker"}
"""Modules beside this one."""
EPOCHS = (
    ("ours", "tokens"), ("theirs", "random"), ("ours", "examples"), ("theirs", "grouped"),
    ("kept", "random"), ("kept", "grouped"),
)  # fmt: skip


def main() -> None:
    """Measure, keep the numbers, write the report."""
    options = arguments()
    folder = ROOT / "runs" / ("training-step-quick" if options.quick else "training-step")
    place = folder / "results.json"
    if not options.report:
        folder.mkdir(parents=True, exist_ok=True)
        results = run(options, folder)
        place.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    results = json.loads(place.read_text(encoding="utf-8"))
    write_report(results, (folder if options.quick else ROOT / "docs") / "training_speed.md")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sst2", type=Path, help="SST-2 to learn from")
    parser.add_argument("--reference", type=Path, help="Python with PyTorch and transformers")
    parser.add_argument("--model", type=Path, help="model directory (all-MiniLM-L6-v2)")
    parser.add_argument("--quick", action="store_true", help="little of everything, docs untouched")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report")
    options = parser.parse_args()
    if not options.report:
        for name in ("sst2", "reference"):
            place = getattr(options, name)
            if place is None or not place.is_file():
                parser.error(f"--{name}: there is no file {place or ''}")
    return options


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as plain data."""
    sizes = QUICK if options.quick else Sizes()
    texts = folder / "sentences.json"
    lines = options.sst2.read_text(encoding="utf-8").splitlines()[: sizes.sentences]
    texts.write_text(json.dumps([line.rsplit("\t", 1) for line in lines]), encoding="utf-8")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that spins would hold up its own others
    model = str(options.model or model_directory())
    others = OtherWork()
    with ExitStack() as stack:
        workers = {}
        for side, module in SIDES.items():
            python = sys.executable if side == "ours" else options.reference.absolute()
            log = folder / "logs" / f"{side}.log"
            worker = Worker(python, f"benchmarks.training_step.{module}", log)
            workers[side] = stack.enter_context(worker)
        versions = {
            side: worker.load(model=model, cores=cores()) for side, worker in workers.items()
        }
        measured = measure(workers, sizes, str(texts))
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": options.quick,
        "machine": description(),
        "other_work": others.share(),
        "sizes": asdict(sizes),
        "versions": versions,
        **measured,
    }


def measure(workers: dict[str, Worker], sizes: Sizes, texts: str) -> dict[str, Any]:
    """Steps of each shape, epochs over real sentences, and a whole run."""
    steps: dict[str, Any] = {f"{b} x {t}": defaultdict(list) for b, t in SHAPES}
    for _ in range(sizes.rounds):
        for rows, tokens in SHAPES:
            found = steps[f"{rows} x {tokens}"]
            shape = {"rows": rows, "tokens": tokens, "count": sizes.steps}
            for side, worker in workers.items():
                found[side].append(worker.ask("steps", **shape))
            found["peak"].append(workers["ours"].ask("peak")["flops"])
    sides = {
        f"{side}, {how}": functools.partial(workers[side].ask, "epoch", texts=texts, how=how)
        for side, how in EPOCHS
    }
    epochs = in_turn(sizes.epoch_rounds, sides)
    waiting = workers["ours"].ask("waiting", texts=texts)["waiting"]
    return {"steps": steps, "epochs": epochs, "waiting": waiting}


if __name__ == "__main__":
    main()
