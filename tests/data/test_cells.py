"""Lists that tables hold as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.cells import list_of, listed
from encodax.data.sources import Record, read
from encodax.errors import EncodaxError
from encodax.tasks import embedding, multi_label, question_answering, token_classification

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4)


@given(names)
def test_what_pandas_and_json_write_is_read(values: list[str]) -> None:
    for text in (str(values), json.dumps(values), json.dumps(values, ensure_ascii=False)):
        assert listed(text) == values
    assert listed(str(tuple(values))) == values


@given(st.lists(st.text("ab,'\" []", min_size=1, max_size=5), min_size=2, max_size=5))
def test_what_numpy_writes_is_read(values: list[str]) -> None:
    array = np.asarray(values, object)
    assert listed(str(array)) == values
    assert listed(repr(array)) == values


@pytest.mark.parametrize(
    "text",
    [
        "a, b", "", "[", "(x)", "[x, y]", "['a' 'b', 'c']", "[__import__('os').abort()]",
        '{"a": 1}', "['a'\x00]", "[nan]", "['a', 'b'",
    ],
)  # fmt: skip
def test_what_is_no_list_is_none(text: str) -> None:
    assert listed(text) is None


def test_a_text_in_brackets_that_is_no_list_is_refused_with_a_way_out() -> None:
    with pytest.raises(EncodaxError, match=r"here: 'labels' is not a list: '\[x, y\]'; write x, y"):
        list_of(Record({"labels": "[x, y]"}, "here"), "labels", wants="x, y")


def table(place: Path, rows: dict[str, str]) -> Record:
    """The record of a CSV file, as pandas would write it."""
    quoted = ['"' + value.replace('"', '""') + '"' for value in rows.values()]
    place.write_text(f"{','.join(rows)}\n{','.join(quoted)}\n", encoding="utf-8")
    (record,) = read(place)
    return record


@pytest.mark.parametrize(
    "cell", ["['x', 'y, z']", '["x", "y, z"]', "('x', 'y, z')", "['x' 'y, z']"]
)
def test_labels_of_a_table_are_its_list(cell: str, tmp_path: Path) -> None:
    record = table(tmp_path / "t.csv", {"text": "a", "labels": cell})
    assert multi_label.parse(record, labelled=True).target == ("x", "y, z")


def test_labels_with_commas_between_them_stay(tmp_path: Path) -> None:
    record = table(tmp_path / "t.csv", {"text": "a", "labels": "x, [y]"})
    assert multi_label.parse(record, labelled=True).target == ("x", "[y]")
    record = table(tmp_path / "t.csv", {"text": "a", "labels": "[]"})
    assert multi_label.parse(record, labelled=True).target == ()


def test_the_way_out_is_one(tmp_path: Path) -> None:
    record = table(tmp_path / "t.csv", {"text": "a", "labels": "[x, y]"})
    with pytest.raises(EncodaxError, match=r'write x, y or \["x", "y"\]'):
        multi_label.parse(record, labelled=True)
    for cell in ("x, y", '["x", "y"]'):
        record = table(tmp_path / "t.csv", {"text": "a", "labels": cell})
        assert multi_label.parse(record, labelled=True).target == ("x", "y")


def test_other_tasks_read_lists_of_tables_too(tmp_path: Path) -> None:
    def parsed(task: Any, **cells: str) -> Any:
        return task.parse(table(tmp_path / "t.csv", cells), labelled=True)

    tagged = parsed(token_classification.TASK, tokens="['call', 'Ada']", tags='["O", "B-name"]')
    assert [(span.start, span.end, span.label) for span in tagged.target] == [(5, 8, "name")]
    spans = parsed(
        token_classification.TASK,
        text="call Ada",
        spans="[{'start': 5, 'end': 8, 'label': 'name'}]",
    )
    assert spans.target == tagged.target
    answer = parsed(
        question_answering.TASK,
        question="who?",
        context="Ada",
        answers="[{'text': 'Ada', 'start': 0}]",
    )
    assert answer.target[0].text == "Ada"
    near = parsed(embedding.TASK, anchor="a", positive="b", negatives="['c', 'd']")
    assert near.others == ("b", "c", "d")
    one = parsed(embedding.TASK, anchor="a", positive="b", negatives="[1] see there")
    assert one.others == ("b", "[1] see there")
