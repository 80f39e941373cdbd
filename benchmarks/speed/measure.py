"""The measurements: contenders in turn, round by round, so that noise meets all alike."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.tables import errors
from benchmarks.harness.timing import in_turn
from benchmarks.harness.workers import WorkerError
from benchmarks.speed.contenders import CONTENDERS, Contender, Process, Setting
from benchmarks.speed.workloads import Sizes

Texts = dict[str, Path]
Results = dict[str, Any]

BASIS = "sentence-transformers, float32"
"""Whose vectors the others' are compared with."""


def measure(setting: Setting, texts: Texts, sizes: Sizes, scratch: Path) -> Results:
    """Everything, as plain data."""
    results: Results = {"versions": {}, "absent": {}, "batch_sizes": {}, "encode": {}, "work": {}}
    with ExitStack() as stack:
        workers = started(setting, stack, results)
        for name, rounds in (
            ("sentences", sizes.rounds), ("documents", sizes.document_rounds),
        ):  # fmt: skip
            encode(name, rounds, taking_part(workers, name), texts, scratch, results)
        results["latency"] = latency(workers, texts["latency"], sizes)
    results["start"] = start(setting, texts["latency"], sizes, results)
    results["memory"] = memory(setting, texts, sizes, results)
    return results


def started(setting: Setting, stack: ExitStack, results: Results) -> list[Process]:
    """A process for each contender that can load the model; of the others the reason."""
    workers = []
    for contender in CONTENDERS:
        worker = stack.enter_context(Process(contender, setting))
        try:
            results["versions"][contender.name] = worker.begin()
            workers.append(worker)
            errors.print(f"{contender.name}: ready")
        except WorkerError as error:
            results["absent"][contender.name] = str(error)
            errors.print(f"{contender.name}: left out: {error}")
    return workers


def taking_part(workers: list[Process], workload: str) -> list[Process]:
    """Those that the workload is for."""
    return [worker for worker in workers if workload in worker.contender.workloads]


def encode(
    workload: str,
    rounds: int,
    workers: list[Process],
    texts: Texts,
    scratch: Path,
    results: Results,
) -> None:
    """Seconds of all texts a round, after an untimed pass whose vectors are compared."""
    path, found = str(texts[workload]), {}
    vectors = {worker: scratch / f"{workload}-{worker.pid}.npy" for worker in workers}
    for worker in workers:
        tuned = worker.ask("tune", texts=str(texts[f"{workload}-sample"]))
        worker.ask("encode", texts=path, batch_size=tuned["batch_size"], save=str(vectors[worker]))
        found[worker] = {**tuned, "seconds": []}
        errors.print(f"{workload}: {worker.contender.name}: warm, batch {tuned['batch_size']}")
    ours = next(worker for worker in workers if worker.contender.is_ours)
    peaks = []
    for turn in range(rounds):
        for worker in workers:
            size = found[worker]["batch_size"]
            answer = worker.ask("encode", texts=path, batch_size=size)
            found[worker]["seconds"].append(answer["seconds"])
            if worker is ours:
                peaks.append(worker.ask("peak"))
        taken = (f"{found[worker]['seconds'][-1]:.2f}" for worker in workers)
        errors.print(f"{workload}: round {turn + 1} of {rounds}: {' '.join(taken)} s")
    basis = next((worker for worker in workers if worker.contender.name == BASIS), None)
    for worker in workers:
        if basis is not None:
            found[worker] |= closeness(np.load(vectors[worker]), np.load(vectors[basis]))
    results["encode"][workload] = {worker.contender.name: found[worker] for worker in workers}
    results["work"][workload] = ours.ask("work", texts=path) | {"peaks": peaks}


def closeness(vectors: np.ndarray, basis: np.ndarray) -> dict[str, float]:
    """How near vectors are to those they should be."""
    vectors, basis = vectors.astype(np.float64), basis.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(basis, axis=1)
    cosines = np.sum(vectors * basis, axis=1) / lengths
    return {
        "least_cosine": float(cosines.min()),
        "mean_cosine": float(cosines.mean()),
        "difference": float(np.abs(vectors - basis).max()),
    }


def latency(workers: list[Process], texts: Path, sizes: Sizes) -> dict[str, list[list[float]]]:
    """Milliseconds of each call, round by round."""

    def asked(worker: Process) -> list[float]:
        return worker.ask("latency", texts=str(texts), calls=sizes.calls)["milliseconds"]

    sides = {worker.contender.name: functools.partial(asked, worker) for worker in workers}
    found = in_turn(sizes.rounds, sides)
    for name, rounds in found.items():
        errors.print(f"one text: {name}: {np.median(rounds):.2f} ms")
    return found


def present(workload: str, results: Results) -> Iterator[Contender]:
    """The contenders of a workload that could load the model."""
    for contender in CONTENDERS:
        if workload in contender.workloads and contender.name not in results["absent"]:
            yield contender


def start(setting: Setting, texts: Path, sizes: Sizes, results: Results) -> dict[str, list[float]]:
    """Seconds from the start of a process to its first vector, files and compilations cached."""
    first = texts.with_name("first.json")
    first.write_text('["a cat purrs on the mat"]', encoding="utf-8")

    def begun(contender: Contender) -> float:
        began = time.perf_counter()
        with Process(contender, setting) as worker:
            worker.begin()
            worker.ask("encode", texts=str(first), batch_size=1)
            return time.perf_counter() - began

    sides = {each.name: functools.partial(begun, each) for each in present("start", results)}
    in_turn(1, sides)  # fills the caches
    found = in_turn(sizes.start_rounds, sides)
    for name, seconds in found.items():
        errors.print(f"start: {name}: {np.median(seconds):.2f} s")
    return found


def memory(
    setting: Setting, texts: Texts, sizes: Sizes, results: Results
) -> dict[str, dict[str, int]]:
    """Peak bytes of processes that embed few and many sentences, the vectors aside."""
    found = {}
    for contender in present("memory", results):
        few, many = sizes.memory
        found[contender.name] = {}
        for count in (few, many if contender.is_ours else sizes.reference_memory):
            with Process(contender, setting) as worker:
                worker.begin()
                path = str(texts[f"memory-{count}"])
                size = results["encode"]["sentences"][contender.name]["batch_size"]
                output = worker.ask("encode", texts=path, batch_size=size)["output_bytes"]
                found[contender.name][str(count)] = worker.ask("memory")["bytes"] - output
        shown = ", ".join(
            f"{count}: {held / 1e6:.0f} MB" for count, held in found[contender.name].items()
        )
        errors.print(f"memory: {contender.name}: {shown}")
    return found
