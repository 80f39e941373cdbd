"""Training jobs on toy data in separate processes: `python jobs.py '{"task": ..., ...}'`.

The JSON object is passed to `encodax.train`, except for:

    seen         a file that gets a line for each step that starts: its number and its examples
    file_limit   most bytes of any file, from the first checkpoint on: simulates a full disk
    join         HOST:PORT, number of processes, index of this process
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOY: dict[str, Any] = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 32, "max_positions": 32, "dropout_rate": 0.1,
    "learning_rate": 1e-2,
}  # fmt: skip
WORDS = ("red", "green", "blue", "small", "large", "old", "new", "round", "flat", "cold")
TEXTS = [f"{a} {b} {c} thing" for a in WORDS for b in WORDS[:4] for c in WORDS[4:7] if a != b]
"""A hundred or so short texts."""


def _score(text: str) -> float:
    return len(text) / 32


RECORDS: dict[str, list[dict[str, Any]]] = {
    "masked-lm": [{"text": text} for text in TEXTS],
    "classification": [{"text": text, "label": text.split()[1]} for text in TEXTS],
    "multi-label": [{"text": text, "labels": sorted(set(text.split()[:2]))} for text in TEXTS],
    "regression": [{"text": text, "score": _score(text)} for text in TEXTS],
    "token-classification": [
        {"tokens": text.split(), "tags": ["colour", "O", "size", "thing"]} for text in TEXTS
    ],
    "question-answering": [
        {
            "question": "which thing",
            "context": text,
            "answers": [{"text": text.split()[0], "start": 0}],
        }
        for text in TEXTS
    ],
    "embedding": [
        {"anchor": text, "positive": f"one {text}", "negative": other}
        for text, other in zip(TEXTS, reversed(TEXTS), strict=True)
        if text != other
    ],
    "reranking": [
        {"query": f"the {word} one", "text": text, "label": int(word in text)}
        for word in WORDS[:4]
        for text in TEXTS[:24]
    ],
    "distillation": [{"text": text} for text in TEXTS],
    "translation": [{"source": text, "target": text.upper()} for text in TEXTS],
}
"""Toy data of every task."""


def choices_of(task: str) -> dict[str, Any]:
    """How a task is trained on its toy data, as `encodax.train` takes it."""
    records = RECORDS[task]
    batch = (
        {"batch_size": 16} if task in ("embedding", "question-answering") else {"batch_tokens": 512}
    )
    return {"train": records, "eval": records[:16], **TOY, **batch}


def run(given: dict[str, Any]) -> None:
    """Run a job in this process."""
    import compiled

    from encodax.training.loop import checkpoint, distributed

    compiled.install()

    joined = given.pop("join", None)
    if joined is not None:
        distributed.join(*joined)

    import encodax
    from encodax.training.setup.run import Run

    task, seen = given.pop("task"), given.pop("seen", None)
    limit = given.pop("file_limit", None)
    before, compiled = Run.on_devices, Run.compiled
    has_begun = []

    def compile_and_begin(run: Run, state: Any) -> Any:
        step = compiled(run, state)  # it takes a batch for its shape
        has_begun.append(True)
        return step

    def on_devices(run: Run, item: Any) -> Any:
        if seen is not None and has_begun:
            rows = run.plan.rows(item.step)
            line = [item.step, sorted(index for row in rows for index in row)]
            with open(seen, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        return before(run, item)

    Run.on_devices, Run.compiled = on_devices, compile_and_begin  # type: ignore[method-assign]
    save = checkpoint.Checkpoints.save

    def save_and_tell(self: Any, *arguments: Any) -> None:
        if limit is not None and self.steps:
            self.finish()  # the first is whole
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        save(self, *arguments)

    checkpoint.Checkpoints.save = save_and_tell  # type: ignore[method-assign]
    if task == "distillation" and "teacher" not in given:
        teacher_choices = {**choices_of("classification"), "steps": 1}
        given["teacher"] = encodax.train("classification", **teacher_choices).model
    result = encodax.train(task, **{**choices_of(task), **given})
    losses = [entry["loss"] for entry in result.curve if "loss" in entry]
    print(json.dumps({"losses": losses, "best": result.best_step}), flush=True)


def start(given: Any, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, json.dumps(given)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def all_done(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What jobs that end well print, one after another."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"losses"')]


def done(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a job that ends well prints."""
    return all_done(process)[-1]


def digest(checkpoint: Path) -> str:
    """sha256 over the parameters, the optimizer, the step, the key and the data position."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        state = reader.restore(checkpoint.absolute() / "state")
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.asarray(leaf).tobytes())
    record = json.loads((checkpoint / "record" / "metadata").read_text())
    found.update(json.dumps(record["position"]).encode())
    return found.hexdigest()


def digest_of_files(folder: Path) -> str:
    """sha256 over the files of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until something holds, as long as the process runs."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


if __name__ == "__main__":
    for job in (
        json.loads(sys.argv[1]) if sys.argv[1].startswith("[") else [json.loads(sys.argv[1])]
    ):
        run(job)
