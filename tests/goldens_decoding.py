"""Directories that transformers made and generated from, with the output of a `Translator`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from encodax import Translator

FOLDER = Path(__file__).parent / "parity" / "goldens-decoding"
ALL = sorted(path.parent.name for path in FOLDER.glob("*/cases.json"))


def stored(family: str, name: str, folder: Path = FOLDER) -> Any:
    """The cases, or the samples, of one directory."""
    return json.loads((folder / family / f"{name}.json").read_text(encoding="utf-8"))


def saying(family: str, said: dict[str, Any], place: Path, folder: Path = FOLDER) -> Path:
    """A copy of the directory, with this as its `generation_config.json`."""
    shutil.copytree(folder / family, place, ignore=shutil.ignore_patterns("cases.json"))
    (place / "generation_config.json").write_text(json.dumps(said))
    return place


def ids_of(translator: Translator, texts: list[str]) -> list[list[list[int]]]:
    """Token ids of every sequence that is found for each text, best first."""
    options = translator.generation_options()
    encodings, _ = translator.model.encode(texts)
    found: list[list[list[int]]] = [[] for _ in texts]
    for group in translator._groups(encodings):
        rows = [encodings[place] for place in group.places]
        made = translator._generated(rows, group.places, group, options)
        for row, place in enumerate(group.places):
            found[place] = [
                np.asarray(ids[:length]).tolist()
                for ids, length in zip(made.token_ids[row], made.lengths[row], strict=True)
            ][: options.n_best]
    return found


DRAWS = 10_000


def p_of_first_tokens(translator: Translator, text: str, chances: list[float]) -> float:
    """How likely first tokens are to be as far from these probabilities as those drawn here."""
    encodings, _ = translator.model.encode([text])
    options = translator.generation_options(max_tokens=1, seed=7)
    (group,) = translator._groups(encodings * translator._heights[-1])
    tokens: list[int] = []
    while len(tokens) < DRAWS:
        numbers = list(range(len(tokens), len(tokens) + group.height))
        made = translator._generated(encodings * group.height, numbers, group, options)
        tokens += made.token_ids[:, 0, 0].tolist()
    seen = np.bincount(tokens[:DRAWS], minlength=len(chances))
    expected = np.asarray(chances) / np.sum(chances) * DRAWS
    assert seen[expected == 0].sum() == 0, "what has no chance was drawn"
    often = expected >= 5  # the others count together
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    some = expected > 0
    statistic = float(((seen[some] - expected[some]) ** 2 / expected[some]).sum())
    return float(scipy.stats.chi2.sf(statistic, max(some.sum() - 1, 1)))
