"""Records by their number are the records in a row, whatever the file; and memory stays small."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data import sources
from encodax.data.records import expanded, open_records
from encodax.errors import EncodaxError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)
rows = st.lists(st.tuples(texts, texts), min_size=1, max_size=12)


def json_lines(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(json.dumps({"a": a, "b": b}, ensure_ascii=False) + "\n" for a, b in pairs)


def table(pairs: Sequence[tuple[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([("a", "b"), *pairs])
    return stream.getvalue()


def tab_separated(pairs: Sequence[tuple[str, str]]) -> str:
    return table_of_tabs([("a", "b"), *pairs])


def table_of_tabs(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in pair) + "\n"
                   for pair in pairs)  # fmt: skip


def plain(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(a.replace("\n", " ") + "\n" for a, _ in pairs)


FORMATS = {"jsonl": json_lines, "csv": table, "tsv": tab_separated, "txt": plain}


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("format", FORMATS)
@given(pairs=rows, random=st.randoms())
def test_records_by_number_are_the_records_in_a_row(
    format: str, is_packed: bool, pairs: list[tuple[str, str]], random: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    content = FORMATS[format](pairs).encode()
    name = f"a.{format}" + (".gz" if is_packed else "")
    path = tmp_path_factory.mktemp("records") / name
    path.write_bytes(gzip.compress(content) if is_packed else content)
    wanted = list(sources.read(path))
    found = open_records(path)
    assert len(found) == len(wanted)
    assert list(found) == wanted
    order = random.sample(range(len(wanted)), len(wanted))
    assert [found[index] for index in order] == [wanted[index] for index in order]


def test_blank_lines_of_json_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}')
    found = open_records(path)
    assert [(record.fields["text"], record.where) for record in found] == [
        ("a", f"{path}, line 2"),
        ("b", f"{path}, line 5"),
    ]


def parquet(path: Path, count: int, group: int) -> Path:
    import pyarrow
    import pyarrow.parquet

    rows = {"text": [f"text {i}" for i in range(count)], "label": list(range(count))}
    pyarrow.parquet.write_table(pyarrow.table(rows), path, row_group_size=group)
    return path


def test_parquet_is_read_by_row_groups(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", count=25, group=7)
    found = open_records(path)
    assert len(found) == 25
    assert found[13].fields == {"text": "text 13", "label": 13}
    assert found[-1].where == f"{path}, row 25"
    assert list(found) == list(sources.read(path))


def test_several_files_are_one(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("three\nfour\n")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    parquet(tmp_path / "c.parquet", count=2, group=1)
    for paths in (tmp_path, tmp_path / "*", [tmp_path / "a.jsonl", tmp_path / "[bc].*"]):
        found = open_records(paths)
        assert [record.fields["text"] for record in found] == [
            "one", "two", "three", "four", "text 0", "text 1"
        ]  # fmt: skip
        assert found[2].where == f"{tmp_path / 'b.txt'}, line 1"
    assert [record.fields["text"] for record in found[1:3]] == ["two", "three"]
    with pytest.raises(IndexError):
        found[6]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match="is a folder without files"):
        expanded(tmp_path)
    with pytest.raises(EncodaxError, match=r"none\*\.txt does not exist"):
        expanded(tmp_path / "none*.txt")
    with pytest.raises(EncodaxError, match="no file is given"):
        expanded([])


@pytest.mark.parametrize(
    ("name", "content", "index", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', 1, "line 2: not JSON"),
        ("a.txt", b"a\n\xff\n", 1, "line 2: not UTF-8"),
        ("a.tsv", b"text\tlabel\na\tb\na\n", 1, "line 3: has 1 columns where 2 are named"),
        ("a.csv", b"text,label\na,b\nc\n", 1, "line 3: has 1 columns where 2 are named"),
    ],
)
def test_a_record_that_cannot_be_understood_names_its_line(
    tmp_path: Path, name: str, content: bytes, index: int, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found = open_records(tmp_path / name)
    found[0]
    with pytest.raises(EncodaxError, match=f"{name}, {message}"):
        found[index]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b'text\n"a', "line 2: cannot be read"),
        ("a.csv", b"a,a\n1,2\n", "two columns have one name: a, a"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.xml", b"x", "format 'xml' is not one of: jsonl, csv, tsv, txt, parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncodaxError, match=f"{name}.*{message}"):
        open_records(tmp_path / name)


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    found = open_records(path)
    with path.open("a") as stream:
        stream.write("c\n")
    with pytest.raises(EncodaxError, match="has changed since it was opened"):
        found[0]


def test_threads_may_share_records(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"text {i}\n" for i in range(2_000)))
    found = open_records(path)
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda index: found[index].fields["text"], range(2_000)))
    assert read == [f"text {i}" for i in range(2_000)]


def test_a_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "x" * 500}) + "\n"
    count = 40_000
    with path.open("w") as stream:
        for _ in range(count):
            stream.write(line)
    tracemalloc.start()
    try:
        found = open_records(path)
        for index in range(0, count, 97):
            assert len(found[index].fields["text"]) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20e6
    assert peak < 2e6
