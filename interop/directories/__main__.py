"""Directories saved by others and changed by hand, answered there and here.

    python -m interop.directories --reference PYTHON [--only NAME] [--random N] [--markdown]

Run it with the project's Python. PYTHON is that of an environment made of
`interop/requirements.txt`. There, transformers, sentence-transformers and PEFT save small random
models of each family in many layouts; then keys of their JSON files are set, as people find them in
the wild (`cases.py`). Hostile texts (`texts.py`) are answered from the directory there, as users
do, and here.

A directory is `equal` where the largest |a - b| / max(1, |b|) is at most 1e-5, `refused` where
Encodax refuses it or a text by name, and DIFFERENT otherwise: that is a silent difference. The exit
code is 1 where one is different, or is refused though it should not be. `--random N` draws that
many directories instead of those that are named; `--seed` draws others.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import logging
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import children, tables
from encodax import EncodaxError
from encodax.inference.embedder import Embedder
from encodax.inference.engine import Engine
from encodax.inference.predictors import Classifier, Reranker
from encodax.models.encoder_model import Model
from encodax.types.batches import ModelOutput
from interop.comparing import TOLERANCE, deviation
from interop.directories.cases import CASES, Case, drawn, one_by_one

BATCH_TOKENS = 128
"""One row a batch: little to compile, and several texts in it."""
REFERENCE = "interop.directories.reference"
OUTCOMES = ("equal", "refused", "DIFFERENT", "their error")

Answer = Callable[[list[Any]], Sequence[Any]]
"""Answers of items, in order."""


# Here


@functools.lru_cache(maxsize=1)
def loaded(place: Path) -> Model:
    """The model of a directory; most questions of one come together."""
    return Model.load(place)


def of_tokens(place: Path) -> Answer:
    """The last states, or the scores, of each token."""
    model = loaded(place)

    def read(output: ModelOutput) -> Any:
        return output.hidden if model.config.head is None else output.logits

    engine = Engine(model, read, "token", batch_tokens=BATCH_TOKENS)
    return lambda items: engine.run(model.encode(items, truncate=True)[0])


def probabilities(place: Path) -> Answer:
    """Of the classes, by name."""
    classifier = Classifier(loaded(place), batch_tokens=BATCH_TOKENS)
    return lambda items: [one.scores for one in classifier.predict(items, truncate=True)]


@functools.lru_cache(maxsize=1)
def embedder(place: Path) -> Embedder:
    """Compiled once for all questions."""
    return Embedder(loaded(place), batch_tokens=BATCH_TOKENS)


def vectors(method: str) -> Callable[[Path], Answer]:
    """Of texts, queries or documents: with the prompts of the model for these."""
    return lambda place: functools.partial(getattr(embedder(place), method), truncate=True)


def similarity(place: Path) -> Answer:
    """Of each vector to all."""

    def answer(items: list[Any]) -> Any:
        found = embedder(place).encode(items, truncate=True)
        return embedder(place).similarity(found, found)

    return answer


def scores(place: Path) -> Answer:
    """Of pairs; of a model with several classes, the probability of each."""
    model = loaded(place)
    if len(model.config.labels) > 1:
        return probabilities(place)
    reranker = Reranker(model, batch_tokens=BATCH_TOKENS)
    return lambda items: reranker.predict(items, truncate=True)


QUESTIONS: Mapping[str, Callable[[Path], Answer]] = {
    "tokens": of_tokens,
    "probabilities": probabilities,
    "vectors": vectors("encode"),
    "queries": vectors("encode_query"),
    "documents": vectors("encode_document"),
    "similarity": similarity,
    "scores": scores,
}


@dataclass
class Result:
    """What became of a directory."""

    outcome: str = "equal"
    difference: float = 0.0
    """The largest; infinite where shapes or labels differ."""
    where: list[str] = field(default_factory=list)
    """What differs, most first."""
    refusal: str = ""
    refused_texts: collections.Counter[str] = field(default_factory=collections.Counter)
    theirs: collections.Counter[str] = field(default_factory=collections.Counter)
    """Texts that the reference could not answer."""
    compared: int = 0

    def is_wrong(self, case: Case) -> bool:
        """Whether it is a silent difference, or refused without a reason why that is right."""
        return self.outcome == "DIFFERENT" or (self.outcome == "refused" and not case.refusals)


def compared(case: Case, items: Mapping[str, list[Any]], root: Path) -> Result:
    """A directory, answered here, beside what the reference gave."""
    if (root / "error.txt").exists():
        said = " ".join((root / "error.txt").read_text().split())[:120]
        return Result("their error", refusal=f"{said}; here {outcome_alone(items, root)}")
    result = Result()
    said = json.loads((root / "problems.json").read_text())
    for name in said["problems"].values():
        result.theirs[name] += 1
    with np.load(root / "answers.npz") as stored, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for question, asked in items.items():
                answer = QUESTIONS[question](root / "model")
                both = [i for i in range(len(asked)) if f"{question}/{i}" in stored]
                for index, ours in zip(
                    both, answered(answer, [asked[i] for i in both]), strict=True
                ):
                    theirs = stored[f"{question}/{index}"]
                    labels = said["labels"] if question == "probabilities" else None
                    note(result, f"{question} of {short(asked[index])}", ours, theirs, labels)
        except EncodaxError as error:
            return Result("refused", refusal=str(error), theirs=result.theirs)
        except Exception as error:
            (root / "ours.txt").write_text(traceback.format_exc())
            return Result("DIFFERENT", float("inf"), [f"{type(error).__name__}: {error}"[:300]])
    if not result.difference <= TOLERANCE:
        result.outcome = "DIFFERENT"
    elif not result.compared:
        result.outcome = "refused" if result.refused_texts else "their error"
        result.refusal = next(iter([*result.refused_texts, *result.theirs]), "")
    return result


def outcome_alone(items: Mapping[str, list[Any]], root: Path) -> str:
    """What happens here to a directory that the reference does not answer from."""
    try:
        for question, asked in items.items():
            list(QUESTIONS[question](root / "model")(asked[:1]))
    except EncodaxError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def answered(answer: Answer, items: list[Any]) -> Iterator[Any]:
    """An answer for each item, or why it is refused."""
    try:
        yield from answer(items)
        return
    except EncodaxError:
        pass
    for item in items:
        try:
            yield from answer([item])
        except EncodaxError as error:
            yield str(error)


def note(
    result: Result, where: str, ours: Any, theirs: np.ndarray, labels: list[Any] | None
) -> None:
    """Add one answer to a result."""
    if isinstance(ours, str):
        result.refused_texts[ours] += 1
        return
    result.compared += 1
    if isinstance(ours, dict):  # by label
        if labels is not None and list(ours) != list(map(str, labels)):
            result.difference = float("inf")
            result.where.append(f"labels {list(ours)} for {labels}")
        ours = list(ours.values())
    ours = np.asarray(ours, np.float32)
    theirs = theirs.reshape(ours.shape) if ours.size == theirs.size == 1 else theirs
    found = deviation(ours, theirs)
    result.difference = max(result.difference, found)
    if not found <= TOLERANCE:
        shapes = f" {ours.shape} for {theirs.shape}" if ours.shape != theirs.shape else ""
        result.where.append(f"{found:.1e}{shapes}: {where}")


def short(item: Any) -> str:
    """A text, cut in its middle."""
    text = repr(item)
    return text if len(text) <= 70 else f"{text[:40]} ... {text[-26:]}"


# There and back


def measured(cases: Sequence[Case], python: str, root: Path) -> dict[Case, Result]:
    """The result of each directory; each is answered here while the reference makes the next."""
    orders = {case: case.order(str(root / str(index))) for index, case in enumerate(cases)}
    root.mkdir(parents=True, exist_ok=True)
    (root / "orders.json").write_text(json.dumps(list(orders.values())))
    command = children.command(python, REFERENCE, root / "orders.json")
    results = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=children.environment()
    ) as process:
        assert process.stdout is not None
        waiting = iter(orders.items())
        for line in process.stdout:
            if line.startswith(str(root)):  # libraries print too
                case, order = next(waiting)
                results[case] = compared(case, order["items"], Path(order["place"]))
                if results[case].is_wrong(case):
                    print(
                        f"{len(results)} of {len(cases)}:",
                        *row(case, results[case]),
                        file=sys.stderr,
                    )
    if process.returncode:
        raise SystemExit(f"{REFERENCE} ended with {process.returncode}")
    return results


# Tables


def row(case: Case, result: Result) -> list[str]:
    """A line of the table."""
    shown = {
        "equal": f"{result.difference:.1e}",
        "refused": "; ".join(case.refusals) or f"[WRONGLY] {plain(result.refusal)}",
        "DIFFERENT": f"{result.difference:.1e}: {(result.where or [''])[0]}",
        "their error": result.refusal,
    }[result.outcome]
    changes = ", ".join(case.changes)
    return [case.family, case.layout, changes, result.outcome, shown[:200]]


def plain(refusal: str) -> str:
    """A refusal without the path of the directory, which differs from run to run."""
    return re.sub(r"\S*/(?=[^/\s]+\.json|model\b)", "", refusal)


def show(results: Mapping[Case, Result], *, markdown: bool, only_wrong: bool) -> None:
    """The table, counts, and reasons."""
    columns = ["family", "layout", "changed", "outcome", "largest difference, or why"]
    rows = [row(case, r) for case, r in results.items() if not only_wrong or r.is_wrong(case)]
    if not markdown:
        rows = [[cell.replace("[", r"\[") for cell in line] for line in rows]
    tables.show(columns, rows, markdown=markdown, end="\n\n")
    for case, result in results.items():
        if result.outcome == "DIFFERENT":
            print(f"- {case.folder}: {len(result.where)} of {result.compared} answers")
            print("".join(f"    {line}\n" for line in result.where[:6]), end="")
    found = collections.Counter(result.outcome for result in results.values())
    print(", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES))
    counted(
        "directories refused",
        (plain(r.refusal) for r in results.values() if r.outcome == "refused"),
    )
    texts = [name for r in results.values() for name in r.refused_texts.elements()]
    counted("texts refused here", (re.sub(r"\d+", "N", name) for name in texts))
    theirs = [name for r in results.values() for name in r.theirs.elements()]
    counted("texts that the reference could not answer", (re.sub(r"\d+", "N", n) for n in theirs))


def counted(title: str, reasons: Iterator[str]) -> None:
    """Reasons, the most frequent first."""
    for reason, count in collections.Counter(reasons).most_common():
        print(f"- {title}: {count} x {reason[:240]}")


def main() -> None:
    """Measure, print, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", metavar="PYTHON", required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases, FAMILY-LAYOUT-CHANGES")
    parser.add_argument("--random", type=int, metavar="N", help="draw so many directories")
    parser.add_argument("--each", action="store_true", help="every change alone, somewhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the directories there")
    parser.add_argument("--wrong", action="store_true", help="show what is wrong alone")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # how many texts were cut
    if options.each:
        cases = one_by_one(options.seed)
    else:
        cases = drawn(options.random, options.seed) if options.random else list(CASES)
    if options.only:
        cases = [case for case in cases if case.folder in options.only]
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        results = measured(cases, options.reference, root)
    show(results, markdown=options.markdown, only_wrong=options.wrong)
    sys.exit(1 if any(result.is_wrong(case) for case, result in results.items()) else 0)


if __name__ == "__main__":
    main()
