"""Directories that say how they generate: the tokens of transformers, and those of Encodax.

    python -m interop.decoding --reference PYTHON [--copies N] [FAMILY ...]

PYTHON is the Python of an environment made of `interop/requirements.txt`. It makes a small model
of each family, and a `generation_config.json` for each of many settings, those of published
summarizers and translators among them, and calls `generate` without arguments on each text alone
(`interop/generate/decoding.py`). A `Translator` of the same directory, without options, has
to give the same tokens, of every sequence; and of 10,000 first tokens that are drawn, chi-square
has to find nothing against the probabilities of transformers. "changed" is how many texts a
setting changes there, beside no setting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import children
from encodax import Translator
from tests import goldens_decoding as goldens

LEAST = 0.001


def main() -> None:
    """Print the tables; the exit code is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="Python with torch and transformers")
    parser.add_argument("--copies", type=int, default=2, help="times six texts")
    parser.add_argument("families", nargs="*")
    arguments = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Which families there are, it says; one thread each.
        children.run(
            arguments.reference, "interop.generate.decoding", folder, arguments.copies,
            env=children.environment(CUDA_VISIBLE_DEVICES=""),
        )  # fmt: skip
        families = arguments.families or sorted(each.name for each in folder.iterdir())
        print("| family | setting | texts | changed | differ |\n|---|---|---|---|---|")
        for family in families:
            differ += compared(family, folder)
        print("| family | sampling | p |\n|---|---|---|")
        for family in families:
            differ += drawn(family, folder)
    sys.exit(bool(differ))


def compared(family: str, folder: Path) -> int:
    """Print a line for each setting, and count the texts that differ."""
    stored = goldens.stored(family, "cases", folder)
    total, first = 0, stored["cases"][0]["ids"]
    for number, case in enumerate(stored["cases"]):
        place = goldens.saying(family, case["said"], folder / f"{family}-{number}", folder)
        found = goldens.ids_of(Translator.load(place), stored["sources"])
        differ = sum(ours != theirs for ours, theirs in zip(found, case["ids"], strict=True))
        changed = sum(a[0] != b[0] for a, b in zip(case["ids"], first, strict=True))
        total += differ
        said = ", ".join(f"{key} {value}" for key, value in case["settings"].items())
        print(f"| {family} | {said} | {len(found)} | {changed} | {differ} |", flush=True)
    return total


def drawn(family: str, folder: Path) -> int:
    """Print a line for each way of drawing, and count those that chi-square finds wrong."""
    text, wrong = goldens.stored(family, "cases", folder)["sources"][0], 0
    for number, sample in enumerate(goldens.stored(family, "samples", folder)):
        place = goldens.saying(family, sample["said"], folder / f"{family}-s{number}", folder)
        p = goldens.p_of_first_tokens(
            Translator.load(place, batch_size=500), text, sample["chances"]
        )
        wrong += p <= LEAST
        said = {key: value for key, value in sample["said"].items() if not key.endswith("_id")}
        print(f"| {family} | {said} | {p:.3f} |", flush=True)
    return wrong


if __name__ == "__main__":
    main()
