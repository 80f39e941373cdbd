"""Multi30k, English to German, from scratch: BLEU on test 2016, and the time of an epoch.

    python -m benchmarks.multi30k train --data FOLDER --python PATH [--steps 5106] [--resume]
    python -m benchmarks.multi30k score --data FOLDER --python PATH
    python -m benchmarks.multi30k time --data FOLDER --python PATH [--rounds 5]

PATH is the Python of an environment made of `benchmarks/requirements.txt`. FOLDER holds
`multi30k/{train,val,test_2016_flickr}.{en,de}.gz`. The model is the "tiny" Transformer of Wu et al.
2021 (arXiv:2105.14462, section 4.2): 4 layers of width 128 on each side, 4 heads, 256 inside, 2.6
million parameters with a vocabulary of 10,000; dropout of 0.3, a learning rate of 0.005 after 2,000
steps, label smoothing of 0.1, 4,096 tokens a batch, the mean of the last 10 epochs. Texts are
lowercased and tokenized as Moses does it, as there, and BLEU is that of these tokens.

`train` writes runs/multi30k, `score` translates the test set with 5 beams and prints BLEU with its
signature. `time` runs the same number of sentences through steps of Encodax and of
`torch.nn.Transformer` of the same size, in turn: Encodax packs pairs into rows, the other side
takes batches of sentences of like lengths, as fairseq makes them, of at most 4,096 tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import encodax
from benchmarks.harness import children
from benchmarks.harness.ratios import spread
from encodax import Translator
from encodax.data import sources
from encodax.training.setup.prepare import prepare

OUT = Path("runs/multi30k")
SPLITS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
MODEL: dict[str, Any] = {
    "layers": 4,
    "width": 128,
    "heads": 4,
    "ffn": 256,
    "vocabulary_size": 10_000,
    "dropout_rate": 0.3,
    "attention_dropout_rate": 0.0,
}
BATCH_TOKENS = 4_096
EPOCH = 111
"""Steps in which every pair is seen once."""
RUN: dict[str, Any] = {
    "learning_rate": 5e-3,
    "warmup": 2_000,
    "batch_tokens": BATCH_TOKENS,
    "evaluate_every": EPOCH,
    "save_every": EPOCH,
    "keep": 10,
    "average": 10,
}
BEAMS = 5
TIMED = 30
"""Steps of a round."""


def main() -> None:
    """Do what is asked."""
    options = arguments()
    encodax.keep_freed_memory()
    files = {split: tokenized(split, options) for split in SPLITS}
    try:
        {"train": train, "score": score, "time": compare}[options.what](files, options)
    except encodax.EncodaxError as error:  # a run that was stopped says how it goes on
        raise SystemExit(f"error: {error}") from None


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "score", "time"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", required=True, help="Python with torch and sacremoses")
    parser.add_argument("--steps", type=int, default=46 * EPOCH)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def tokenized(split: str, options: argparse.Namespace) -> Path:
    """Pairs of a split, lowercased and tokenized, in a file that is made once."""
    path = OUT.with_name("multi30k-data") / f"{split}.jsonl"
    if path.exists():
        return path
    sides = []
    for language in ("en", "de"):
        name = options.data / "multi30k" / f"{SPLITS[split]}.{language}.gz"
        lines = gzip.decompress(name.read_bytes())
        module = "benchmarks.reference.moses"
        found = children.run(options.python, module, language, input=lines, capture_output=True)
        sides.append(found.stdout.decode("utf-8").splitlines())
    path.parent.mkdir(parents=True, exist_ok=True)
    records = ({"source": s, "target": t} for s, t in zip(*sides, strict=True))
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records),
        encoding="utf-8",
    )
    return path


def train(files: dict[str, Path], options: argparse.Namespace) -> None:
    """Train the model, or go on."""
    result = encodax.train(
        "translation", train=files["train"], eval=files["val"], out=OUT, overwrite=True,
        steps=options.steps, resume=options.resume, console=Console(), **MODEL, **RUN,
    )  # fmt: skip
    print(json.dumps({**result.metrics, "best_step": result.best_step, "seconds": result.seconds}))


def score(files: dict[str, Path], options: argparse.Namespace) -> None:
    """BLEU of the test set."""
    translator = Translator.load(OUT)
    began = time.monotonic()
    records = sources.read(files["test"])
    found = translator.evaluate(records, beams=BEAMS, tokenize="none")
    print(json.dumps({**found, "seconds": time.monotonic() - began}))


def compare(files: dict[str, Path], options: argparse.Namespace) -> None:
    """Seconds of an epoch on both sides, in turn."""
    job = prepare(
        "translation", train=files["train"], eval=files["val"], steps=options.steps, **MODEL, **RUN
    )
    run = job.run
    state = run.initial_state()
    step = run.compiled(state)
    items = [run.reader(index) for index in range(TIMED)]
    indices = [i for index in range(TIMED) for row in run.plan.rows(index) for i in row]
    share = len(indices) / len(job.train)
    batches = OUT.with_name("multi30k-data") / "batches.json"
    write_batches(batches, job, indices)
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds):
        for index, item in enumerate(items[:3] + items):
            if index == 3:
                began = time.perf_counter()
            state, metrics = step.run(state, run.constants, *run.on_devices(item))
            metrics.loss.block_until_ready()
        own = (time.perf_counter() - began) / share
        module = "benchmarks.reference.translation"
        found = children.run(options.python, module, batches, capture_output=True)
        other = json.loads(found.stdout)["seconds"] / share
        rounds.append({"encodax": own, "torch": other, "ratio": other / own})
        print(json.dumps(rounds[-1]), flush=True)
    print(
        f"seconds of an epoch: Encodax {np.median([one['encodax'] for one in rounds]):.1f}, "
        f"torch.nn.Transformer {np.median([one['torch'] for one in rounds]):.1f}; torch : Encodax "
        f"= {spread([one['ratio'] for one in rounds], '.2f')}"
    )


def write_batches(path: Path, job: Any, indices: list[int]) -> None:
    """The same pairs as the other side takes them: by length, at most so many tokens a batch."""
    pairs = [job.train.encodings[index] for index in indices]
    pairs.sort(key=lambda pair: (len(pair.wanted), len(pair.source)))
    batches: list[list[Any]] = [[]]
    for pair in pairs:
        longest = max(len(pair.wanted), len(pair.source), *(len(p.source) for p in batches[-1]), 1)
        if (len(batches[-1]) + 1) * longest > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(pair)
    order = np.random.default_rng(0).permutation(len(batches))
    shape = {
        "vocabulary": job.model.tokenizer.vocabulary_size,
        "longest": 256,
        "dropout": MODEL["dropout_rate"],
        **{name: MODEL[name] for name in ("layers", "width", "heads", "ffn")},
    }
    content = [
        {
            "sources": [pair.source.token_ids.tolist() for pair in batches[index]],
            "targets": [pair.wanted.tolist() for pair in batches[index]],
        }
        for index in order
    ]
    path.write_text(json.dumps({"shape": shape, "batches": content}), encoding="utf-8")


if __name__ == "__main__":
    main()
