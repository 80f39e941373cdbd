"""Models written here, read by transformers, written there, and read here again.

    python -m interop.round_trip --reference PYTHON [--families bert esm] [--markdown]
    python -m interop.round_trip --goldens [--markdown]

Run it with the project's Python. PYTHON is that of an environment made of
`interop/requirements.txt`. For every family and head a small random model is made and saved
here, and loaded again: its parameters must be the same bits. The reference loads the directory,
with no tensor missing or left over, and runs some texts and pairs as one padded batch; token ids
must be the same, and hidden states and answers agree with ours on packed rows. Then the reference
saves the model, it is loaded here, and compared likewise. A second table does the same with each
kind of embedder through sentence-transformers.

A cell is the largest |a - b| / max(1, |b|) of all this. The exit code is 1 where one is above 1e-5
or something else went wrong. `--goldens` measures `tests/parity/goldens` instead, without PYTHON.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from benchmarks.harness import children, tables
from encodax import EncodaxError, families
from encodax.config import HeadConfig
from encodax.families import native
from encodax.model_files import weights
from encodax.models.encoder_model import Model
from encodax.models.forward import initial_params
from encodax.text.tokenizer import Encoding, Tokenizer
from interop import PARITY
from interop.comparing import RUNNERS, TOLERANCE, Result, compared, deviation, of_case, rank, run
from interop.samples import LABELS, SAMPLES, bare, redrawn, texts_for

GOLDENS = PARITY / "goldens"
DENSE_WIDTH = 24
HEADS = ("encoder", "vocabulary", "sequence", "token", "span")
COLUMNS = (*HEADS, "embedder")
POOLINGS = ("cls", "mean", "max", "weighted_mean", "last")

# Cells


@dataclass(frozen=True)
class Cell:
    """One model that makes the round trip."""

    family: str
    head: str
    embedding: HeadConfig | None = None

    @property
    def folder(self) -> str:
        """Where its files are."""
        if self.embedding is None:
            return f"{self.family}-{self.head}"
        return "-".join([self.family, self.embedding.pooling or "", *self.modules])

    @property
    def modules(self) -> list[str]:
        """Of sentence-transformers, those after the pooling."""
        head = self.embedding
        if head is None:
            return []
        return ["dense"] * (head.dense_width is not None) + ["normalize"] * head.normalize

    @property
    def published(self) -> families.Family:
        """Its family."""
        return families.ENCODERS.by_name[SAMPLES[self.family].model_type]

    @property
    def has_class(self) -> bool:
        """Whether transformers has a class for it; its encoder alone loads there otherwise."""
        return self.head in ("encoder", "embedder") or self.published.has(self.head)

    def model(self) -> Model:
        """The random model."""
        base = bare(self.family)
        if self.embedding is not None:
            config = dataclasses.replace(base.config, head=self.embedding)
            model = Model.create(config, base.tokenizer)
        elif self.head == "encoder":
            model = base
        else:
            model = base.with_head(self.head, labels=LABELS.get(self.head, ()))
        return dataclasses.replace(model, params=redrawn(model.params, self.folder))


def embeddings() -> list[HeadConfig]:
    """Each pooling, without and with a dense layer, without and with scaling to length 1."""
    plain = [HeadConfig("embedding", pooling=pooling) for pooling in POOLINGS]
    dense = [dataclasses.replace(head, dense_width=DENSE_WIDTH) for head in plain]
    scaled = [dataclasses.replace(head, normalize=True) for head in [*plain, *dense]]
    return [*plain, *dense, *scaled]


def cells_of(names: Iterable[str]) -> list[Cell]:
    """Every family and head; all embedders of the first family, and one of each other."""
    kinds = embeddings()
    cells = []
    for index, name in enumerate(names):
        cells += [Cell(name, head) for head in HEADS]
        chosen = kinds if index == 0 else [kinds[(7 * index) % len(kinds)]]
        cells += [Cell(name, "embedder", head) for head in chosen]
    return cells


# Here

NO_CLASS = "transformers has no class of this family with such a head"


def saved(cell: Cell, root: Path) -> tuple[Model | None, Result | None]:
    """Save a cell's model and load it again; a result where that ends its journey."""
    place = root / cell.folder / "here"
    place.parent.mkdir()
    try:
        model = cell.model()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no published family")
            model.save(place)
        again = Model.load(place)
    except Exception as error:  # whatever it is, the other cells go on
        return None, Result(problem=f"not saved: {type(error).__name__}: {error}")
    if problem := unlike(model, again):
        return model, Result(problem=f"loaded again: {problem}")
    if model_type(place) == native.MODEL_TYPE:
        return model, Result(reason=f"{NO_CLASS}; {native.MODEL_TYPE} keeps it, bit for bit")
    if model_type(place) != cell.published.MODEL_TYPE:
        return model, Result(problem=f"saved as {model_type(place)}")
    return model, None


def model_type(place: Path) -> str:
    """What `config.json` says."""
    return str(json.loads((place / "config.json").read_text())["model_type"])


def unlike(model: Model, other: Model) -> str | None:
    """What differs between two models that should be one."""
    if model.config.encoder != other.config.encoder or model.config.head != other.config.head:
        return "another configuration"
    if model.config.labels != other.config.labels:
        return "other labels"
    if jax.tree.structure(model.params) != jax.tree.structure(other.params):
        return "other parameters"
    same = jax.tree.map(np.array_equal, model.params, other.params)
    return None if all(jax.tree.leaves(same)) else "other bits"


def finished(cell: Cell, model: Model, root: Path) -> Result:
    """Compare a cell with the reference, and what the reference saved too."""
    place = root / cell.folder
    if (place / "error.txt").exists():
        return Result(problem=(place / "error.txt").read_text())
    texts = texts_for(cell.family, model.tokenizer, pairs=cell.embedding is None)
    first = compared(model, texts, place / "reference.npz")
    if not cell.has_class:
        return dataclasses.replace(first, reason=f"{NO_CLASS}; the encoder alone is compared")
    try:
        back = Model.load(place / "back")
    except EncodaxError as error:
        return dataclasses.replace(first, problem=f"saved by the reference: {error}")
    if problem := first.problem or unlike(model, back):
        return dataclasses.replace(first, problem=problem)
    second = compared(back, texts, place / "reference.npz")
    return max(first, second, key=rank)


# There and back


def run_reference(python: str, cells: Mapping[Cell, Model], root: Path) -> None:
    """Let the reference load, run and save every cell."""
    orders = [
        {
            "place": str(root / cell.folder),
            "head": cell.head if cell.has_class else "encoder",
            "texts": texts_for(cell.family, model.tokenizer, pairs=cell.embedding is None),
        }
        for cell, model in cells.items()
    ]
    module = "interop.reference.round_trip"
    children.run(python, module, input=json.dumps(orders), text=True)


def round_trips(cells: Sequence[Cell], python: str, root: Path) -> dict[Cell, Result]:
    """The result of each cell."""
    results: dict[Cell, Result] = {}
    travelling: dict[Cell, Model] = {}
    for cell in cells:
        model, result = saved(cell, root)
        if result is not None:
            results[cell] = result
        elif model is not None:
            travelling[cell] = model
    run_reference(python, travelling, root)
    for cell, model in travelling.items():
        results[cell] = finished(cell, model, root)
        RUNNERS.clear()
    return results


# Goldens


def golden_deviation(place: Path) -> tuple[float, float | None]:
    """The largest differences of hidden states and of the head's answers, from packed rows."""
    published = json.loads((place / "config.json").read_text())
    family = families.family_named(published["model_type"])
    config = family.read_config(published)
    shapes = jax.eval_shape(functools.partial(initial_params, config), jax.random.key(0))
    params = weights.load(place, shapes, family, config).params
    model = Model(config, params, Tokenizer.train(["a"], "char"))
    with np.load(place / "outputs.npz") as stored:
        names = dict.fromkeys(key.split("/")[0] for key in stored)
        cases = [of_case(stored, name) for name in names]
    hidden, output = [], []
    for case, ours in zip(cases, run(model, [encoding_of(case) for case in cases]), strict=True):
        theirs = np.concatenate([case["hidden"][:-1], case["last"][None]])
        hidden.append(deviation(ours["hidden"], theirs))
        if "output" in ours:
            output.append(deviation(ours["output"], case["output"]))
    RUNNERS.clear()
    return max(hidden), max(output, default=None)


def encoding_of(case: Mapping[str, np.ndarray]) -> Encoding:
    """The tokens of a stored case; what no model reads is left blank."""
    count = len(case["token_ids"])
    blank = np.zeros(count, np.int32)
    token_ids, type_ids = (case[key].astype(np.int32) for key in ("token_ids", "type_ids"))
    return Encoding(token_ids, type_ids, np.zeros((count, 2), np.int32), blank > 0, blank)


def goldens(names: Sequence[str]) -> tuple[Rows, bool]:
    """A row for each family: hidden / output under each head, the largest of its variants."""
    rows, is_wrong = [], False
    for family in (name for name in names if (GOLDENS / name).is_dir()):
        row = [family]
        for head in HEADS:
            places = sorted(GOLDENS.glob(f"{family}/{head}*"))
            found = [golden_deviation(place) for place in places]
            parts = [max(hidden for hidden, _ in found)] if found else []
            if outputs := [output for _, output in found if output is not None]:
                parts.append(max(outputs))
            is_wrong |= not all(part <= TOLERANCE for part in parts)
            row.append(" / ".join(f"{part:.1e}" for part in parts) or "n/a")
        rows.append(row)
    return rows, is_wrong


# Tables

Rows = list[list[str]]


def by_head(results: Mapping[Cell, Result], names: Sequence[str]) -> Rows:
    """A row for each family: the worst result under each head."""
    rows = []
    for name in names:
        row = [name]
        for head in COLUMNS:
            found = [
                result
                for cell, result in results.items()
                if (cell.family, cell.head) == (name, head)
            ]
            row.append(str(max(found, key=rank)))
        rows.append(row)
    return rows


def by_module(results: Mapping[Cell, Result], name: str) -> Rows:
    """A row for each pooling: what follows it, for the one family that has all embedders."""
    found = {
        (cell.embedding.pooling, *cell.modules): str(result)
        for cell, result in results.items()
        if cell.embedding and cell.family == name
    }
    after = ((), ("dense",), ("normalize",), ("dense", "normalize"))
    return [[pooling, *(found[pooling, *modules] for modules in after)] for pooling in POOLINGS]


def show_results(results: Mapping[Cell, Result], names: Sequence[str], *, markdown: bool) -> None:
    """Both tables, and a line for each cell that failed or could not be."""
    way = {"markdown": markdown, "end": "\n\n"}
    tables.show(["family", *COLUMNS], by_head(results, names), **way)
    columns = [f"{names[0]}, pooling", "alone", "dense", "normalize", "dense, normalize"]
    tables.show(columns, by_module(results, names[0]), **way)
    for cell, result in results.items():
        if result.problem or result.reason:
            print(f"- {cell.folder}: {result.problem or result.reason}")


def main() -> None:
    """Measure, print, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--reference", metavar="PYTHON", help="Python with transformers")
    mode.add_argument("--goldens", action="store_true", help="measure the goldens instead")
    parser.add_argument("--families", nargs="+", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--markdown", action="store_true", help="print tables as markdown")
    options = parser.parse_args()
    if options.goldens:
        rows, is_wrong = goldens(options.families)
        tables.show(["family", *HEADS], rows, markdown=options.markdown, end="\n\n")
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = round_trips(cells_of(options.families), options.reference, Path(folder))
        show_results(results, options.families, markdown=options.markdown)
        is_wrong = any(result.is_wrong for result in results.values())
    sys.exit(1 if is_wrong else 0)


if __name__ == "__main__":
    main()
