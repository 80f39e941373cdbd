"""Labels of every kind of file, and which of them are one class."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.sources import read
from encodax.tasks import classification
from encodax.tasks.labels import as_classes, index_of, index_of_label, label_of, normalised_label


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("x", "x"), (" x", " x"), ("1.0", "1.0"), (1, "1"), (-3, "-3"), (1.0, "1"), (-2.0, "-2"),
        (1.5, "1.5"), (True, "true"), (False, "false"), ("", None), (None, None), (math.nan, None),
        (math.inf, None), ([], None), ({}, None), (np.int64(2), "2"), (np.float64(2), "2"),
        (np.bool_(True), "true"), (np.str_("x"), "x"), (10**400, str(10**400)),
    ],
)  # fmt: skip
def test_a_value_is_a_label(value: object, label: str | None) -> None:
    assert label_of(value) == label
    assert type(label_of(value)) in (str, type(None))


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("1.0", "1"), ("-1.00", "-1"), ("0.0", "0"), ("True", "true"), ("FALSE", "false"),
        ("1.10", "1.10"), ("1.5", "1.5"), ("v1.0", "v1.0"), ("1.", "1."),
        ("half-True", "half-True"),
    ],
)  # fmt: skip
def test_a_label_has_a_meaning(label: str, meant: str) -> None:
    assert normalised_label(label) == meant
    assert normalised_label(meant) == meant


def test_labels_keep_their_spelling_where_it_is_the_only_one() -> None:
    assert as_classes(iter(["2.0", "1.0", "x", "1.0"])) == ("1.0", "2.0", "x")
    assert as_classes(["10", "9", "-1"]) == ("-1", "9", "10")
    long = "1" * 5_000  # more digits than Python makes a number of
    assert as_classes(["9", long]) == (long, "9")
    assert as_classes(["1.0", "2.0", "x", "1"]) == ("1", "2.0", "x")
    assert as_classes(["10", "10.0", "9", "9.0", "-1"]) == ("-1", "9", "10")
    assert as_classes(["True", "TRUE", "False"]) == ("False", "true")


def test_a_label_is_found_as_it_is_before_what_it_means() -> None:
    assert index_of_label("1.0", ("1", "1.0")) == 1
    assert index_of_label("True", ("false", "true")) == 1
    assert index_of_label("2", ("1", "1.0")) is None


@given(st.lists(st.booleans() | st.integers(-3, 3) | st.floats(-3, 3), min_size=1))
def test_what_a_csv_holds_of_a_value_means_the_same(values: list[Any]) -> None:
    """As Python and pandas write it."""
    written = [normalised_label(str(value)) for value in values]
    assert [label_of(value) for value in values] == written


def file_of(folder: Path, name: str, values: list[Any]) -> Path:
    path, ending = folder / name, name.rpartition(".")[2]
    rows = [{"text": "a", "label": value} for value in values]
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text("text,label\n" + "".join(f"a,{value}\n" for value in values))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("values", "known"),
    [([True, False, True], ("false", "true")), ([1.0, 0.0, 1.0], ("0", "1")), ([1, 0], ("0", "1"))],
)
@pytest.mark.parametrize("trained", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("measured", ["b.csv", "b.jsonl", "b.parquet"])
def test_every_format_has_the_same_classes(
    tmp_path: Path, trained: str, measured: str, values: list[Any], known: tuple[str, ...]
) -> None:
    def examples(name: str) -> list[Any]:
        records = read(file_of(tmp_path, name, values))
        return [classification.parse(record, labelled=True) for record in records]

    labels = classification.labels(examples(trained))
    assert tuple(map(normalised_label, labels)) == known
    found = [index_of(each.target, labels, each.where) for each in examples(measured)]
    assert found == [int(value) for value in values]
