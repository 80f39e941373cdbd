"""`adapter_config.json`: which modules it adapts and by how much, and values of the wrong kind."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from encodax.errors import EncodaxError
from encodax.model_files import peft_config
from encodax.model_files.peft_config import PeftConfig

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["query"]}
WRITTEN = json.loads(
    (Path(__file__).parents[1] / "parity/goldens-adapters/plain/adapter_config.json").read_text()
)
"""What PEFT writes."""
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**80, 0.5, float("nan"), float("inf"), "", "x", "(", "a\nb", [], [1],
    ["x"], ["("], [["x"]], [None], {}, {"x": 1}, {"(": 1}, {"x": None}, {"x": {"x": [1]}},
)  # fmt: skip
LAYER = "bert.encoder.layer"


def config(tmp_path: Path, **changes: Any) -> PeftConfig:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**PLAIN, **changes}))
    return peft_config.read(path)


@pytest.mark.parametrize("key", [*WRITTEN, "revision", "runtime_config", "of_tomorrow"])
def test_whatever_stands_at_a_key_is_read_or_refused_in_one_line(key: str, tmp_path: Path) -> None:
    for value in ODD:
        try:
            found = config(tmp_path, **{key: value})
        except EncodaxError as error:
            assert str(error).isprintable()
            assert key in str(error)
        else:
            found.adapts(f"{LAYER}.0.attention.self.query")
            assert found.scale_of("query") * found.rank_of("query") ** 0 < float("inf")
            assert key in {*found.keys.used, *found.keys.kept}


def test_keys_that_peft_writes_are_all_known(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(WRITTEN))
    keys = peft_config.read(path).keys
    assert {*keys.used, *keys.kept} == WRITTEN.keys()


def test_what_is_missing_is_as_peft_has_it(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "target_modules": ["query"]}))
    found = peft_config.read(path)
    assert (found.rank, found.alpha, found.scale_of("query")) == (8, 8, 1)


def test_the_first_pattern_that_fits_gives_rank_and_scale(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        rank_pattern={r"layer\.1\..*query": 2, "query": 3},
        alpha_pattern={"self.query": 12},
    )
    assert [found.rank_of(f"{LAYER}.{n}.attention.self.query") for n in (0, 1)] == [3, 2]
    assert [found.scale_of(f"{LAYER}.{n}.attention.self.query") for n in (0, 1)] == [4, 6]
    assert (found.rank_of("subquery"), found.scale_of("subquery")) == (4, 1.5)
    assert config(tmp_path, use_rslora=True).scale_of("query") == 3


@pytest.mark.parametrize(
    ("changes", "adapted"),
    [
        ({}, "0.query 1.query 11.query"),
        ({"target_modules": ["query", "output.dense"]}, "0.query 0.output.dense 1.query 11.query"),
        ({"target_modules": r".*\.(query|key)"}, "0.query 0.key 1.query 11.query"),
        ({"target_modules": "query"}, ""),
        ({"target_modules": "all-linear"}, "0.query 0.key 0.output.dense 1.query 11.query"),
        ({"layers_to_transform": 1}, "1.query"),
        ({"layers_to_transform": [0, 11]}, "0.query 11.query"),
        ({"layers_to_transform": []}, "0.query 1.query 11.query"),
        ({"layers_to_transform": [1], "layers_pattern": "layer"}, "1.query"),
        ({"layers_to_transform": [1], "layers_pattern": ["h", "layer"]}, "1.query"),
        ({"layers_to_transform": [1], "layers_pattern": ["blocks"]}, ""),
        ({"exclude_modules": ["1.query"]}, "0.query 11.query"),
        ({"exclude_modules": r".*layer\.1.*"}, "0.query"),
        ({"modules_to_save": ["layer.0"]}, "1.query 11.query"),
        ({"target_modules": [f"{LAYER}.1.query"]}, "1.query"),
    ],
)
def test_modules_are_chosen_as_peft_chooses_them(
    changes: dict[str, Any], adapted: str, tmp_path: Path
) -> None:
    names = ("0.query", "0.key", "0.output.dense", "1.query", "11.query")
    found = config(tmp_path, **changes)
    assert " ".join(name for name in names if found.adapts(f"{LAYER}.{name}")) == adapted


@pytest.mark.parametrize(
    ("on", "layers"),
    list(product(("layers_to_transform", "layers_pattern"), (".*query", "all-linear"))),
)
def test_layers_are_of_a_list_of_modules(on: str, layers: str, tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match="layers_to_transform needs target_modules"):
        config(tmp_path, target_modules=layers, **{on: [1] if on[-1] == "m" else "layer"})
