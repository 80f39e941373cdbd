"""The measurements: contenders in turn, round by round, so that noise meets all alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS, Contender, Setting, Worker, WorkerError
from rich.console import Console
from workloads import Sizes

console = Console(stderr=True, highlight=False, soft_wrap=True)
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


def started(setting: Setting, stack: ExitStack, results: Results) -> list[Worker]:
    """A process for each contender that can load the model; of the others the reason."""
    workers = []
    for contender in CONTENDERS:
        worker = stack.enter_context(Worker(contender, setting))
        try:
            results["versions"][contender.name] = worker.load()
            workers.append(worker)
            console.print(f"{contender.name}: ready")
        except WorkerError as error:
            results["absent"][contender.name] = str(error)
            console.print(f"{contender.name}: left out: {error}")
    return workers


def taking_part(workers: list[Worker], workload: str) -> list[Worker]:
    """Those that the workload is for."""
    return [worker for worker in workers if workload in worker.contender.workloads]


def encode(
    workload: str, rounds: int, workers: list[Worker], texts: Texts, scratch: Path, results: Results
) -> None:
    """Seconds of all texts a round, after an untimed pass whose vectors are compared."""
    path, found = str(texts[workload]), {}
    vectors = {worker: scratch / f"{workload}-{worker.pid}.npy" for worker in workers}
    for worker in workers:
        tuned = worker.ask("tune", texts=str(texts[f"{workload}-sample"]))
        worker.ask("encode", texts=path, batch_size=tuned["batch_size"], save=str(vectors[worker]))
        found[worker] = {**tuned, "seconds": []}
        console.print(f"{workload}: {worker.contender.name}: warm, batch {tuned['batch_size']}")
    ours = next(worker for worker in workers if worker.contender.is_ours)
    peaks = []
    for turn in range(rounds):
        for worker in workers:
            size = found[worker]["batch_size"]
            answer = worker.ask("encode", texts=path, batch_size=size)
            found[worker]["seconds"].append(answer["seconds"])
            if worker is ours:
                peaks.append(worker.ask("extra", what="peak"))
        taken = (f"{found[worker]['seconds'][-1]:.2f}" for worker in workers)
        console.print(f"{workload}: round {turn + 1} of {rounds}: {' '.join(taken)} s")
    basis = next((worker for worker in workers if worker.contender.name == BASIS), None)
    for worker in workers:
        if basis is not None:
            found[worker] |= closeness(np.load(vectors[worker]), np.load(vectors[basis]))
    results["encode"][workload] = {worker.contender.name: found[worker] for worker in workers}
    results["work"][workload] = ours.ask("extra", what="work", texts=path) | {"peaks": peaks}


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


def latency(workers: list[Worker], texts: Path, sizes: Sizes) -> dict[str, list[list[float]]]:
    """Milliseconds of each call, round by round."""
    found: dict[str, list[list[float]]] = {worker.contender.name: [] for worker in workers}
    for _ in range(sizes.rounds):
        for worker in workers:
            answer = worker.ask("latency", texts=str(texts), calls=sizes.calls)
            found[worker.contender.name].append(answer["milliseconds"])
    for name, rounds in found.items():
        console.print(f"one text: {name}: {np.median(rounds):.2f} ms")
    return found


def present(workload: str, results: Results) -> Iterator[Contender]:
    """The contenders of a workload that could load the model."""
    for contender in CONTENDERS:
        if workload in contender.workloads and contender.name not in results["absent"]:
            yield contender


def start(setting: Setting, texts: Path, sizes: Sizes, results: Results) -> dict[str, list[float]]:
    """Seconds from the start of a process to its first vector, files and compilations cached."""
    found: dict[str, list[float]] = {contender.name: [] for contender in present("start", results)}
    first = texts.with_name("first.json")
    first.write_text('["a cat purrs on the mat"]', encoding="utf-8")
    for turn in range(1 + sizes.start_rounds):
        for contender in present("start", results):
            began = time.perf_counter()
            with Worker(contender, setting) as worker:
                worker.load()
                worker.ask("encode", texts=str(first), batch_size=1)
                taken = time.perf_counter() - began
            if turn:  # the first fills the caches
                found[contender.name].append(taken)
    for name, seconds in found.items():
        console.print(f"start: {name}: {np.median(seconds):.2f} s")
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
            with Worker(contender, setting) as worker:
                worker.load()
                path = str(texts[f"memory-{count}"])
                size = results["encode"]["sentences"][contender.name]["batch_size"]
                output = worker.ask("encode", texts=path, batch_size=size)["output_bytes"]
                found[contender.name][str(count)] = worker.ask("memory")["bytes"] - output
        shown = ", ".join(
            f"{count}: {held / 1e6:.0f} MB" for count, held in found[contender.name].items()
        )
        console.print(f"memory: {contender.name}: {shown}")
    return found
