"""Adapters written here and loaded by PEFT, and written by PEFT and loaded here.

    python -m interop.adapters --reference PYTHON [--families bert roberta] [--model DIRECTORY]

Run it with the project's Python. PYTHON is that of an environment made of
`interop/requirements.txt`. For every family and head a small random encoder is saved, and beside
it an adapter with a whole head, as after training: PEFT puts it on the model of transformers, with
no tensor missing or left over, and transformers finds the base by itself. Then PEFT makes adapters
of all linear layers, for the same encoder with a head, and saves them: plain, with ranks and scales
of their own for some modules, and two that change the base when they begin (OLoRA, PiSSA). They are
loaded here. `--model` does the same with a real encoder.

A cell is the largest |a - b| / max(1, |b|) of the answers to some texts: of what PEFT loaded, of
what transformers found, and of what PEFT made and loaded. The exit code is 1 where one is above
1e-5 or something else went wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.harness import children, tables
from encodax import EncodaxError, families
from encodax.model_files.peft import UNMAPPED_FAMILIES
from encodax.model_files.saved_model import of_encoder
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Text
from encodax.training.step.lora import LoraConfig, save_adapter
from encodax.training.step.partition import trainable
from encodax.types.batches import Params
from interop import comparing, samples
from interop.comparing import Result
from interop.samples import LABELS, SAMPLES

HEADS = ("sequence", "token", "span")
REAL = "model"
"""The name of what `--model` gives."""
TARGETS = r"(attention/(query|value|output)|feed_forward/down)$"
UNFUSED = r"(attention/output|feed_forward/down)$"
"""Where queries, keys and values are one tensor, which PEFT adapts as one."""
FUSED = ("modernbert",)
MADE = {
    "made": {},
    "patterns": {
        "use_rslora": True,
        "rank_pattern": {r".*1\..*": 2},
        "alpha_pattern": {r".*(q|Q|out|Wo).*": 3},
    },
    "olora": {"init_lora_weights": "olora"},
    # PEFT computes singular vectors in float32, and is off by 1e-6 or so for each weight: some are
    # enough.
    "pissa": {
        "init_lora_weights": "pissa",
        "target_modules": r".*(query|q_lin|q_proj|Wqkv|\.q|attention\.output\.dense)",
    },
}
"""What PEFT makes -> what is unlike a plain adapter."""
JOBS = {"loaded": "ours", "found": "ours", **{name: name for name in MADE}}
"""Where a number comes from -> the directory that is loaded here."""
COLUMNS = (
    "loaded by PEFT", "by transformers", "made by PEFT", "patterns", "OLoRA", "PiSSA",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One encoder with one head."""

    family: str
    head: str

    def config(self) -> LoraConfig:
        """Rank, scale and targets."""
        return LoraConfig(rank=3, alpha=5.0, targets=UNFUSED if self.family in FUSED else TARGETS)


def prepared(cell: Cell, place: Path, real: Path | None) -> Model:
    """Save the encoder, its adapter, and the encoder with a head; give that model."""
    if real is None:
        encoder = samples.bare(cell.family)
        redrawn = samples.redrawn(encoder.params, cell.family)
        encoder = dataclasses.replace(encoder, params=redrawn)
        base = place / "encoder"
        encoder.save(base)
    else:
        encoder, base = Model.load(real), real
    model = encoder.with_head(cell.head, labels=LABELS.get(cell.head, ()))
    trained, _ = trainable(model.params, key=jax.random.key(1), lora=cell.config())
    # Near 1 / sqrt(D): wider ones magnify rounding.
    factor = model.config.encoder.embeddings.model_width**-0.5 / samples.SPREAD
    redrawn = samples.redrawn(trained, f"{cell.family}-{cell.head}")
    redrawn = jax.tree.map(lambda leaf: factor * leaf, redrawn)
    save_adapter(place / "ours", model, redrawn, cell.config(), str(base))
    model = dataclasses.replace(model, params=with_new_head(model.params))
    model.save(place / "whole")
    return model


def with_new_head(params: Params) -> Params:
    """The head drawn anew: no bias is 0."""
    head = {path: leaves for path, leaves in params.items() if not of_encoder(path)}
    return {**params, **samples.redrawn(head, "head")}


def compared(cell: Cell, place: Path, job: str, directory: str) -> Result:
    """What PEFT gave in one of its jobs, and what we give."""
    problem = place / f"{'loaded' if job == 'found' else job}.txt"
    if problem.exists():
        return Result(problem=problem.read_text())
    try:
        model = Model.load(place / directory)
    except EncodaxError as error:
        return Result(problem=str(error))
    comparing.RUNNERS.clear()
    if directory == "ours" and model.config.labels != LABELS.get(cell.head, ()):
        return Result(problem=f"other labels: {model.config.labels}")
    return comparing.compared(model, texts_for(cell, model), place / f"{job}.npz")


def texts_for(cell: Cell, model: Model) -> list[Text]:
    """What a cell is run on."""
    return samples.texts_for(cell.family, model.tokenizer, pairs=True)


def measured(cells: list[Cell], python: str, root: Path, real: Path | None) -> list[list[Result]]:
    """The results of each cell."""
    orders = []
    for cell in cells:
        place = root / f"{cell.family}-{cell.head}"
        place.mkdir()
        model = prepared(cell, place, real if cell.family == REAL else None)
        orders.append(
            {
                "place": str(place),
                "head": cell.head,
                "classes": len(model.config.labels),
                "texts": texts_for(cell, model),
                "made": MADE,
            }
        )
    children.run(python, "interop.reference.adapt", input=json.dumps(orders), text=True)
    return [
        [compared(cell, Path(order["place"]), job, directory) for job, directory in JOBS.items()]
        for cell, order in zip(cells, orders, strict=True)
    ]


def main() -> None:
    """Measure, print, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", metavar="PYTHON", required=True, help="Python with peft")
    parser.add_argument("--families", nargs="*", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--model", type=Path, help="a directory with a real encoder")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    options = parser.parse_args()
    cells = [
        Cell(name, head)
        for name in options.families
        if SAMPLES[name].model_type not in UNMAPPED_FAMILIES  # these cannot be written or read
        for head in HEADS
        if families.ENCODERS.by_name[SAMPLES[name].model_type].has(head)
    ]
    cells += [Cell(REAL, head) for head in HEADS if options.model]
    with tempfile.TemporaryDirectory() as folder:
        results = measured(cells, options.reference, Path(folder), options.model)
    rows = [
        [cell.family, cell.head, *map(str, pair)] for cell, pair in zip(cells, results, strict=True)
    ]
    columns = ["family", "head", *COLUMNS]
    tables.show(columns, rows, markdown=options.markdown, end="\n\n")
    for cell, pair in zip(cells, results, strict=True):
        for result in pair:
            if result.problem:
                print(f"- {cell.family} {cell.head}: {result.problem}")
    sys.exit(1 if any(result.is_wrong for pair in results for result in pair) else 0)


if __name__ == "__main__":
    main()
