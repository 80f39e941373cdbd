"""Records of JSON documents: lists, objects over many lines, SQuAD."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from readings import read_alike

from encodax.data import documents
from encodax.data.records import open_records
from encodax.data.sources import Record, read
from encodax.errors import EncodaxError

QUESTIONS = [
    {"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 3}]},
    {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
]
SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "One", "paragraphs": [{"qas": QUESTIONS, "context": "On Ada"}]},
        {
            "title": "Two",
            "paragraphs": [
                {"context": "none", "qas": []},
                {"context": "né 🙂", "qas": QUESTIONS[:1]},
            ],
        },
    ],
}
OF_SQUAD = [
    ({"title": "One", "context": "On Ada", **QUESTIONS[0]}, "data[0].paragraphs[0].qas[0]"),
    ({"title": "One", "context": "On Ada", **QUESTIONS[1]}, "data[0].paragraphs[0].qas[1]"),
    ({"title": "Two", "context": "né 🙂", **QUESTIONS[0]}, "data[1].paragraphs[1].qas[0]"),
]
ROWS: list[dict[str, Any]] = [{"text": "né 🙂", "label": 1}, {"text": "b", "label": 0.5}]
WRITERS: dict[str, Callable[[Any], str]] = {
    "on one line": json.dumps,
    "over lines": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "with spaces": lambda value: "\ufeff\r\n " + json.dumps(value, indent="\t") + "\r\n\n",
}


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_question_of_squad_is_a_record_with_its_context(
    tmp_path: Path, writer: Callable[[Any], str], packed: str
) -> None:
    path = written(tmp_path, "dev.json" + packed, writer(SQUAD))
    assert read_alike(path) == [Record(fields, f"{path}, {place}") for fields, place in OF_SQUAD]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_objects_of_a_list_are_records(
    tmp_path: Path, writer: Callable[[Any], str], packed: str
) -> None:
    path = written(tmp_path, "a.json" + packed, writer(ROWS))
    wanted = [Record(row, f"{path}, [{index}]") for index, row in enumerate(ROWS)]
    assert read_alike(path) == wanted
    path = written(tmp_path, "b.json" + packed, writer({"version": 1, "data": ROWS, "x": [[]]}))
    wanted = [Record(row, f"{path}, data[{index}]") for index, row in enumerate(ROWS)]
    assert read_alike(path) == wanted


def test_objects_over_many_lines_are_records(tmp_path: Path) -> None:
    content = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    path = written(tmp_path, "a.json", content)
    assert read_alike(path) == [
        Record(ROWS[0], f"{path}, line 1"),
        Record(ROWS[1], f"{path}, line 5"),
    ]


def test_json_lines_stay_json_lines_whatever_they_are_called(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", '{"data": [1, 2], "text": "a"}\n\n{"text": "b"}\n')
    assert read_alike(path) == [
        Record({"data": [1, 2], "text": "a"}, f"{path}, line 1"),
        Record({"text": "b"}, f"{path}, line 3"),
    ]
    with pytest.raises(EncodaxError, match=r"a\.json, line 2: not JSON \("):
        list(read(written(tmp_path, "a.json", '{"text": "a"}\nb\n')))


def test_the_format_may_be_told(tmp_path: Path) -> None:
    path = written(tmp_path, "squad", json.dumps(SQUAD))
    assert [record.fields for record in read_alike(path, format="json")] == [
        fields for fields, _ in OF_SQUAD
    ]


def test_a_value_may_be_longer_than_what_is_read_at_a_time(tmp_path: Path) -> None:
    rows = [{"text": "x\\\n" * 100_000}, {"n": int("9" * 30)}, {"n": float("9" * 300)}, {"n": None}]
    path = written(tmp_path, "a.json", json.dumps(rows))
    assert [record.fields for record in read_alike(path)] == rows
    digits = written(tmp_path, "b.json", '[{"n": ' + "9" * 5_000 + "}]")
    assert read_alike(digits)[0].fields == {"n": float("inf")}


BAD = {
    "a list without an end": ('[{"a": 1}', "line 1: not JSON (',' is missing)"),
    "an object without an end": ('{"data": [\n{"a": 1}]', "line 2: not JSON (',' is missing)"),
    "a comma too many": ('[{"a": 1},\n]', "line 2: not JSON (Expecting value)"),
    "no comma": ('[{"a": 1}\n{"a": 1}]', "line 2: not JSON (',' is missing)"),
    "an open text": ('[\n{"a": "b', "line 2: not JSON (Unterminated string starting at)"),
    "a wrong value early": ('[\n{"a": x}' + " " * 300_000, "line 2: not JSON (Expecting value)"),
    "no name": ("{\n1: 2}", "line 2: not JSON (a name in quotes is missing)"),
    "something after it": (
        '[{"a": 1}]\n]',
        "line 2: a JSON file must hold objects, or a list of them",
    ),
    "no objects": ('[{"a": 1}, 2]', '[1]: needs an object such as {"text": "..."}, not a int'),
    "no paragraph": (
        '{"data": [{"paragraphs": [{"context": "a", "qas": {}}]}]}',
        "data[0].paragraphs[0]: a paragraph of SQuAD needs 'context', and 'qas', a list",
    ),
    "no question": (
        '{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}',
        'data[0].paragraphs[0].qas[0]: needs an object such as {"text": "..."}, not a int',
    ),
    "Latin-1": ('[{"a": "b"},\n {"a": "\udcff"}]', "line 2: not UTF-8; convert it, as in"),
    "too deep": ("[" + "[" * 100_000, "line 1: not JSON (maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_an_error_names_the_place(tmp_path: Path, content: str, message: str, gz: str) -> None:
    data = content.encode(errors="surrogateescape")
    path = tmp_path / ("a.json" + gz)
    path.write_bytes(gzip.compress(data) if gz else data)
    for read_all in (read, open_records):
        with pytest.raises(EncodaxError) as caught:
            list(read_all(path))
        assert str(caught.value).startswith(f"{path}, {message}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-16be"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    for content in (json.dumps(SQUAD), json.dumps(ROWS, indent=1), "".join(map(json.dumps, ROWS))):
        path = tmp_path / "a.json"
        path.write_bytes(content.encode(encoding))
        for read_all in (read, open_records):
            with pytest.raises(
                EncodaxError, match=rf"line 1: not UTF-8 but {encoding.upper()}; co"
            ):
                list(read_all(path))


@pytest.mark.parametrize("content", ["[]", '{"data": []}', " \n"])
def test_a_document_without_records_is_empty(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, "a.json", content)
    assert list(read(path)) == []
    with pytest.raises(EncodaxError, match=r"the file is empty, it has no record$"):
        open_records(path)


def test_an_object_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST", 200_000)
    path = written(tmp_path, "a.json", '[{"a": "' + "x" * 900_000 + '"}]')
    with pytest.raises(EncodaxError, match=r"line 1: not JSON \(an object of more than 200,000 ch"):
        list(read(path))


def test_a_long_list_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("w") as stream:
        stream.write("[")
        stream.writelines(
            ("," if index else "") + json.dumps({"text": f"text {index} " * 20})
            for index in range(50_000)
        )
        stream.write("]")
    tracemalloc.start()
    try:
        found = open_records(path)
        assert sum(1 for _ in found) == len(found) == 50_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found[49_999].where == f"{path}, [49999]"
    assert peak < path.stat().st_size / 4


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3).filter(lambda key: key != "paragraphs"), values)


@given(
    rows=st.lists(objects, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
    size=st.integers(1, 40),
)
def test_what_is_written_is_read_whatever_is_read_at_a_time(
    rows: list[dict[str, Any]], indent: int | None, size: int
) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=False).encode(errors="surrogatepass")
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    found = list(documents.records(chunks, "a"))
    assert [fields for fields, _ in found] == rows
    lines = documents.as_lines([data], "a")
    assert [documents.of_line(line) for line in lines] == found
