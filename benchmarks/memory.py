"""Peak memory of each command, over few rows and over many.

    python -m benchmarks.memory [--rows 10000 1000000] [--only predict evaluate] [--markdown]

Each command is the real one, in a process of its own, over a file of so many short records and a
model of one layer of width 32, so that rows are what counts. What is told is the largest resident
size of the process, as the kernel counts it (`getrusage`, which begins at what this small script
takes), in MB of 10^6 bytes, and the ratio of the last column to the first. Models are made at the
start, by commands too, in a temporary folder.

What a command writes goes to a file or to /dev/null. Training takes ten steps of a plan of all
rows. `embed-corpus` is not here: it runs in processes of Ray, each of which holds 4,096 rows at a
time. An embedder whose data has no scores is measured by comparing all vectors with each other,
which takes two vectors a row, and time as the square of the rows: here its pairs have scores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import tables

FEW = 400
"""Records that models are made of, and that training is measured on."""

Record = dict[str, Any]


def text(number: int) -> str:
    """A short text, of a few words and a number."""
    words = ("cat", "dog", "film", "city", "day")
    return f"the {words[number % 5]} was {('good', 'bad')[number % 2]} {number % 1009}"


RECORDS: dict[str, Callable[[int], Record]] = {
    "classification": lambda n: {"text": text(n), "label": ("no", "yes")[n % 2]},
    "multi-label": lambda n: {"text": text(n), "labels": ["a", "b"][: n % 3]},
    "regression": lambda n: {"text": text(n), "score": n % 97 / 10},
    "token-classification": lambda n: {
        "text": text(n),
        "spans": [{"start": 4, "end": 7, "label": "thing"}],
    },
    "question-answering": lambda n: {
        "question": f"what was {n % 1009}?",
        "context": text(n),
        "answers": [{"text": text(n)[4:7], "start": 4}],
    },
    "embedding": lambda n: {"text": text(n), "text_pair": text(n + 1), "score": n % 7},
    "reranking": lambda n: {"query": f"what is {n // 4}?", "text": text(n), "label": n % 2},
    "masked-lm": lambda n: {"text": text(n)},
    "distillation": lambda n: {"text": text(n)},
    "translation": lambda n: {"source": text(n), "target": text(n + 1)},
    "masked": lambda n: {"text": f"the [MASK] was {n % 1009}"},
}
"""Kind of data -> the record of a number."""
TEACHER = "classification"


@dataclass(frozen=True)
class Command:
    """A command, as it is called."""

    name: str
    data: str
    """Kind of data that it reads."""
    arguments: list[str]
    """DATA, MODEL/ and OUT stand for what is read, the folder of models, and what is written."""


READ = ["--input", "DATA"]
TRAIN = ["--train", "DATA", "--steps", "10", "--out", "OUT"]
SHORT = ["--beams", "1", "--max-tokens", "4"]
NEW = [
    "--layers", "1", "--width", "32", "--heads", "2", "--ffn", "64", "--max-positions", "64",
    "--vocabulary-size", "300",
]  # fmt: skip
QUICK = ["--steps", "1", "--batch-size", "4"]
EMBED = ["embed", "MODEL/embedding", *READ, "--output"]


def commands() -> list[Command]:
    """All that are measured."""
    answers = {
        "predict, classes": ("classification", ["predict", "MODEL/classification", *READ]),
        "predict, spans": (
            "token-classification",
            ["predict", "MODEL/token-classification", *READ],
        ),
        "predict, answers": ("question-answering", ["predict", "MODEL/question-answering", *READ]),
        "embed, .npy": ("masked-lm", [*EMBED, "OUT.npy"]),
        "embed, .parquet": ("masked-lm", [*EMBED, "OUT.parquet"]),
        "embed, .jsonl": ("masked-lm", [*EMBED, "OUT.jsonl"]),
        "search": ("masked-lm", ["search", "MODEL/embedding", "a cat", "--corpus", "DATA"]),
        "rerank": ("masked-lm", ["rerank", "MODEL/reranking", "a cat", *READ]),
        "fill-mask": ("masked", ["fill-mask", "MODEL/masked-lm", *READ]),
        "translate": ("translation", ["translate", "MODEL/translation", *READ, *SHORT]),
    }
    for task in sorted(RECORDS.keys() - {"masked", "distillation"}):
        more = SHORT if task == "translation" else []
        told = ["evaluate", f"MODEL/{task}", "--data", "DATA", *more]
        answers[f"evaluate, {task}"] = (task, told)
    for task in sorted(RECORDS.keys() - {"masked"}):
        begin = ["--model", f"MODEL/{task}"]
        if task == "distillation":
            begin = ["--teacher", f"MODEL/{TEACHER}"]
        told = ["train", task, *begin, *TRAIN, "--eval", f"MODEL/{task}.jsonl"]
        answers[f"train, {task}"] = (task, told)
    scratch = ["train", "classification", *NEW, *TRAIN, "--eval", "MODEL/classification.jsonl"]
    answers["train, from scratch"] = ("classification", scratch)
    return [Command(name, *told) for name, told in answers.items()]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--only", nargs="*", help="commands whose names begin so")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    options = parser.parse_args()
    chosen = [
        command
        for command in commands()
        if not options.only or any(command.name.startswith(name) for name in options.only)
    ]
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        for command in chosen:
            make_models(models, command)
        rows = []
        for command in chosen:
            peaks = [measured(command, count, Path(folder), models) for count in options.rows]
            rows.append([command.name, *peaks])
            print(*rows[-1], file=sys.stderr, flush=True)
    show(rows, options.rows, markdown=options.markdown)


def make_models(models: Path, command: Command) -> None:
    """The models that a command reads, and the few records that training is measured on."""
    for argument in command.arguments:
        task = argument.removeprefix("MODEL/").removesuffix(".jsonl")
        if not argument.startswith("MODEL/") or (models / task).exists():
            continue
        data = models / f"{task}.jsonl"
        write(data, RECORDS[task], FEW)
        if task != "distillation":
            read = ["--train", str(data), "--eval", str(data), "--out", str(models / task)]
            peak_of(["train", task, *read, *NEW, *QUICK], models / "errors.txt")


def write(path: Path, record: Callable[[int], Record], count: int) -> None:
    """A file of so many records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record(number)) + "\n" for number in range(count))


def measured(command: Command, count: int, folder: Path, models: Path) -> float:
    """The peak of a command over so many rows, in MB."""
    data = folder / f"{command.data}-{count}.jsonl"
    if not data.exists():
        write(data, RECORDS[command.data], count)
    out = folder / f"out-{count}-{command.name.replace(' ', '')}"
    arguments = [
        argument.replace("MODEL/", f"{models}/").replace("DATA", str(data)).replace("OUT", str(out))
        for argument in command.arguments
    ]
    return peak_of(arguments, folder / "errors.txt")


def peak_of(arguments: list[str], errors: Path) -> float:
    """The largest resident size of a command, in MB; what it says goes to a file."""
    command = [sys.executable, "-m", "encodax", *arguments]
    with errors.open("wb") as told:
        process = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, told.fileno(), 2),
            ],
        )
        _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}:\n{errors.read_text()}")
    return usage.ru_maxrss * 1024 / 1e6


def show(rows: list[list[Any]], counts: list[int], *, markdown: bool) -> None:
    """The table."""
    headers = ["command", *(f"MB, {count:,} rows" for count in counts), "ratio"]
    cells = [
        [name, *(f"{mb:,.0f}" for mb in peaks), f"{peaks[-1] / peaks[0]:.2f}"]
        for name, *peaks in rows
    ]
    tables.show(headers, cells, markdown=markdown, numbers=True, title="Peak memory")


if __name__ == "__main__":
    main()
