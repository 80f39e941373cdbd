"""Embedding speed and memory beside other libraries, in one interleaved session.

    python -m benchmarks.speed --data FOLDER --reference PYTHON [--quick] [--report]

FOLDER holds `sts/{2014,2015}/*.tsv` (score, sentence, sentence) and `wikitext2/*.txt.gz`; PYTHON is
that of an environment made of `benchmarks/requirements.txt`, as `make bench` builds it. The model
is all-MiniLM-L6-v2 in every contender. Each runs in a process of its own that is stopped while it
is not its turn; they take turns, round by round, after an untimed pass over the same texts. Ratios
are of medians over the rounds, and their spread is that of the rounds' own ratios.

The raw numbers go to `runs/bench/results.json`, tables and a picture to `docs/benchmarks.md`,
between two marks: what is written outside of these stays. `--quick` takes a tenth of everything,
writes to `runs/bench-quick` and leaves docs alone; `--report` measures nothing, and writes again
what was measured last. On two quiet cores a full run takes about 20 minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import children
from benchmarks.harness.children import ROOT
from benchmarks.harness.machine import OtherWork, cores, description
from benchmarks.speed.contenders import Setting
from benchmarks.speed.measure import measure
from benchmarks.speed.report import write_report
from benchmarks.speed.workloads import QUICK, Sizes, write_texts
from benchmarks.sts import model_directory


def main() -> None:
    """Measure, keep the numbers, write the report."""
    options = arguments()
    folder = options.out or ROOT / "runs" / ("bench-quick" if options.quick else "bench")
    if not options.report:
        results = run(options, folder)
        text = json.dumps(results, indent=1) + "\n"
        (folder / "results.json").write_text(text, encoding="utf-8")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    page = (folder if options.quick else ROOT / "docs") / "benchmarks.md"
    write_report(results, page)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with sts and wikitext2")
    parser.add_argument("--reference", type=Path, help="Python with the other libraries")
    parser.add_argument("--model", type=Path, help="model directory (all-MiniLM-L6-v2)")
    parser.add_argument("--out", type=Path, help="folder for what is written, else in runs/")
    parser.add_argument("--quick", action="store_true", help="little of everything, docs untouched")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report")
    options = parser.parse_args()
    if not options.report:
        if options.data is None or options.reference is None:
            parser.error("--data and --reference are needed")
        for part in ("sts", "wikitext2"):
            if not (options.data / part).is_dir():
                parser.error(f"--data: there is no folder {part} in {options.data}")
        if not options.reference.is_file():
            parser.error(f"--reference: there is no {options.reference}")
    return options


def run(options: argparse.Namespace, folder: Path) -> dict:
    """Make the texts and the graphs, then measure."""
    sizes = QUICK if options.quick else Sizes()
    folder.mkdir(parents=True, exist_ok=True)
    texts = write_texts(options.data, folder / "texts", sizes)
    setting = Setting(
        python=Path(sys.executable),
        reference=options.reference.absolute(),
        model=options.model or model_directory(),
        onnx=folder / "onnx",
        cores=cores(),
        logs=folder / "logs",
    )
    began, others = datetime.datetime.now(datetime.UTC), OtherWork()
    setting.logs.mkdir(parents=True, exist_ok=True)
    with (setting.logs / "export.log").open("w") as log:
        files = setting.model, setting.onnx
        children.run(
            setting.reference, "benchmarks.speed.onnx_export", *files, stdout=log, stderr=log
        )
    results = measure(setting, texts, sizes, folder)
    return {
        "date": began.date().isoformat(),
        "minutes": (datetime.datetime.now(datetime.UTC) - began).total_seconds() / 60,
        "quick": options.quick,
        "machine": description(),
        "other_work": others.share(),
        "sizes": asdict(sizes),
        **results,
    }


if __name__ == "__main__":
    main()
