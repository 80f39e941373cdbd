"""A small BERT pretrained here and with PyTorch, from the same weights, on the same tokens.

    python -m benchmarks.masked_lm --data FOLDER --python PATH [--steps 400] [--seeds 0 1]

PATH is the Python of an environment made of `benchmarks/requirements.txt`. FOLDER holds
WikiText-2 as `wikitext2/{valid,test}.txt.gz`: valid is learned, test is measured on. Each seed
draws a model of 4 layers of 128, with a vocabulary of 6,000; both sides begin with it, and see the
same sequences in each step, with the same learning rates, AdamW (weight decay 0.01, not of biases
and norms), clipping at 1 and dropout of 0.1. Each hides tokens with its own code: 15 %, of which
80 % become the mask, 10 % another token, 10 % stay. Both are measured by the same code
(`encodax.inference.evaluation`) on the same masks. Encodax packs sequences into rows, the other
side pads them. Some 4 minutes a seed on two cores; on a machine that has other work to do, set
OMP_WAIT_POLICY=PASSIVE.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import encodax
from benchmarks.harness import children
from encodax import Model
from encodax.data.sources import records_of
from encodax.inference.evaluation import evaluator
from encodax.tasks import masked_lm
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import LossOptions
from encodax.training import NewModel
from encodax.training.setup.prepare import prepare
from encodax.training.setup.start import new_model

SHAPE = NewModel(
    layers=4, width=128, heads=2, max_positions=128, vocabulary_size=6_000, lowercase=True
)
RUN: dict[str, Any] = {
    "batch_tokens": 2_048,
    "learning_rate": 1e-3,
    "schedule": "linear",
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "precision": "float32",
}
MASK_RATE = 0.15

Records = list[dict[str, Any]]


def main() -> None:
    """Train both, seed by seed, and print what came out."""
    options = arguments()
    train, test = (texts(options.data / "wikitext2" / f"{name}.txt.gz") for name in SPLITS)
    ratios = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(Path(folder), train, test, seed, options)
        ratios.append(found["encodax"]["perplexity"] / found["reference"]["perplexity"])
        print(json.dumps({"seed": seed, "ratio": ratios[-1], **found}), flush=True)
    mean = math.exp(float(np.mean(np.log(ratios))))
    print(f"perplexity, Encodax : reference = {mean:.4f} over {len(ratios)} seeds")


SPLITS = "valid", "test"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", required=True, help="Python with torch and transformers")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


def texts(path: Path) -> Records:
    """The lines of a file that hold a text."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [{"text": line.strip()} for line in lines if line.strip()]


def compare(
    folder: Path, train: Records, test: Records, seed: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Both sides of one seed: perplexity, accuracy and seconds."""
    start = new_model(masked_lm.TASK, examples(train), (), SHAPE, seed)
    start.save(folder / "start")
    start = Model.load(folder / "start")
    run = {**RUN, "steps": options.steps, "evaluate_every": options.steps, "seed": seed}
    write_steps(folder / "steps.json", start, train, test, run)

    result = encodax.train(
        "masked-lm", model=start, train=train, eval=test, mask_rate=MASK_RATE, **run
    )
    found = {"encodax": {**result.metrics, "seconds": result.seconds}}
    files = folder / "start", folder / "steps.json", folder / "out"
    began = time.monotonic()
    children.run(options.python, "benchmarks.reference.masked_lm", *files, "--seed", seed)
    seconds = time.monotonic() - began
    learned = Model.load(folder / "out")
    data = Dataset.prepare(masked_lm.TASK, learned, examples(test))
    measured = evaluator(learned, data, LossOptions(mask_rate=MASK_RATE))(None)
    return {**found, "reference": {**measured, "seconds": seconds}}


def examples(records: Records) -> list[Any]:
    """Records as the task understands them."""
    return [masked_lm.parse(record, labelled=True) for record in records_of(records)]


def write_steps(path: Path, start: Model, train: Records, test: Records, run: Any) -> None:
    """What the other side sees: the token ids of each step's sequences, and its learning rate."""
    job = prepare("masked-lm", model=start, train=train, eval=test, mask_rate=MASK_RATE, **run)
    plan = job.run.plan
    sequences = [encoding.token_ids.tolist() for encoding in job.train.encodings]
    steps = [
        {
            "rate": float(job.run.schedule(step)),
            "sequences": [sequences[index] for row in plan.rows(step) for index in row],
        }
        for step in range(plan.steps)
    ]
    path.write_text(json.dumps(steps), encoding="utf-8")


if __name__ == "__main__":
    main()
