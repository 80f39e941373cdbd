"""Records by their number are the records in a row, whatever the file; and memory stays small."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data import files, formats, parquet, sources
from encodax.data.records import Records, expanded, open_records
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


# What lines, cells, quotes, spaces and bad bytes may be made of; \xc2\xa0 is a space to JSON Lines.
PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"a", b",", b"\t", b'"', b" ", b"\xc2\xa0", b"\xff", b"\xef\xbb\xbf",
     b'{"a": 1}', b"{}", b"\n\n", b"a,b\n", b'"a\n\nb",c\n', b"\xd0\x90\t2\n", b"#", b"[", b"]",
     b"-DOCSTART-", b"1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n", b"sep=;\n", b";", b'{"data": [']
)  # fmt: skip


@pytest.mark.parametrize("columns", [None, ["x", "y"]])
@pytest.mark.parametrize("format", [*FORMATS, "conll", "conllu", "json"])
@given(pieces=st.lists(PIECES, max_size=40))
def test_any_bytes_are_the_same_records_or_refused_by_both(
    format: str, columns: list[str] | None, pieces: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    if columns and format not in formats.TABLES:
        columns = None
    path = tmp_path_factory.mktemp("records") / f"a.{format}"
    path.write_bytes(b"".join(pieces))
    try:
        wanted = list(sources.read(path, columns=columns))
    except EncodaxError:
        with pytest.raises(EncodaxError, match=f"^{path}"):
            list(open_records(path, columns=columns))
        with pytest.raises(EncodaxError, match=f"^{path}"):
            by_number(open_records(path, columns=columns))
        return
    if not wanted:
        with pytest.raises(EncodaxError, match=f"^{path}: the file is empty"):
            open_records(path, columns=columns)
        return
    found = open_records(path, columns=columns)
    assert list(found) == wanted
    assert by_number(found) == wanted


def by_number(records: Records) -> list[sources.Record]:
    return [records[index] for index in reversed(range(len(records)))][::-1]


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n \n\t\n"])
def test_lines_are_counted_over_blank_ones(tmp_path: Path, gap: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(gap.join(f'{{"a": {i}}}' for i in range(100)))
    assert by_number(open_records(path)) == list(sources.read(path))


def test_lines_are_counted_over_cells_of_several(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cells = "".join('"' + "line\n" * (i % 5) + f'",{i}\n' for i in range(5_000))
    path.write_text("text,number\n" + cells)
    found = open_records(path)
    assert by_number(found) == list(sources.read(path))
    assert found[-1].fields["number"] == "4999"


def test_records_are_found_over_the_edges_of_what_is_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    sizes = (0, 1, files.CHUNK - 3, files.CHUNK - 1, files.CHUNK, 3 * files.CHUNK, 2)
    path.write_text("\n".join("x" * size for size in sizes))
    found = open_records(path)
    assert [len(record.fields["text"]) for record in by_number(found)] == list(sizes)
    assert list(found) == by_number(found)


def test_blank_lines_of_json_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}')
    found = open_records(path)
    assert [(record.fields["text"], record.where) for record in found] == [
        ("a", f"{path}, line 2"),
        ("b", f"{path}, line 5"),
    ]


def parquet_file(path: Path, count: int, group: int) -> Path:
    import pyarrow
    import pyarrow.parquet

    rows = {"text": [f"text {i}" for i in range(count)], "label": list(range(count))}
    pyarrow.parquet.write_table(pyarrow.table(rows), path, row_group_size=group)
    return path


def test_parquet_is_read_by_row_groups(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", count=25, group=7)
    found = open_records(path)
    assert len(found) == 25
    assert found[13].fields == {"text": "text 13", "label": 13}
    assert found[-1].where == f"{path}, row 25"
    assert list(found) == list(sources.read(path))


def test_several_files_are_one(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("three\nfour\n")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    parquet_file(tmp_path / "c.parquet", count=2, group=1)
    for paths in (tmp_path, tmp_path / "*", [tmp_path / "a.jsonl", tmp_path / "[bc].*"]):
        found = open_records(paths)
        assert [record.fields["text"] for record in found] == [
            "one", "two", "three", "four", "text 0", "text 1"
        ]  # fmt: skip
        assert found[2].where == f"{tmp_path / 'b.txt'}, line 1"
    assert [record.fields["text"] for record in found[1:3]] == ["two", "three"]
    with pytest.raises(IndexError):
        found[6]


def test_a_folder_is_its_files_of_known_endings_and_those_of_its_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.jsonl.gz", "z.parquet", "_SUCCESS", ".hidden.txt", "README.md",
                 ".git/a.txt", "_temporary/a.txt", "d.csv"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    wanted = ["a/c.jsonl.gz", "b.txt", "d.csv", "z.parquet"]
    assert expanded(tmp_path) == [str(tmp_path / name) for name in wanted]
    assert str(tmp_path / "README.md") in expanded(tmp_path, format="txt")
    assert expanded(f"{tmp_path}/**/*.gz") == [str(tmp_path / "a/c.jsonl.gz")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    path.write_text("text")
    assert open_records(path)[0].fields == {"text": "text"}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match="is a folder with no files"):
        expanded(tmp_path)
    with pytest.raises(EncodaxError, match=r"none\*\.txt does not exist"):
        expanded(tmp_path / "none*.txt")
    with pytest.raises(EncodaxError, match="no file is given"):
        expanded([])
    (tmp_path / "a.xml").touch()
    with pytest.raises(EncodaxError, match=r"is a folder with no files that end in \.jsonl, \.csv"):
        expanded(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(EncodaxError, match=r"a\.txt is given twice; name each file once"):
        expanded([tmp_path / "a.txt", tmp_path / "*.txt"])


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


def test_a_column_whose_name_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", 2, 1)
    path.write_bytes(path.read_bytes().replace(b"label", b"lab\xe3l"))
    with pytest.raises(EncodaxError, match=r"a\.parquet: cannot be read as Parquet: .*utf-8"):
        open_records(path)[0].fields["text"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b'text\n"a', "line 2: cannot be read"),
        ("a.csv", b"a,a\n1,2\n", "two columns have the same name: a, a"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
        ("a.parquet.gz", b"", "a Parquet file must not be packed"),
        ("a.txt", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "the file is empty"),
        ("a.csv", b"a,b\n", "the file is empty"),
        ("a.txt.gz", gzip.compress(b"text\n" * 9, mtime=0)[:-9], "line 9: cannot be read"),
        (
            "a.xml",
            b"x",
            "format 'xml' is not one of: jsonl, csv, tsv, txt, conll, conllu, json, parquet",
        ),
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


def test_a_parquet_file_that_changes_is_told(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", count=4, group=2)
    found = open_records(path)
    found[0]
    parquet_file(path, count=5, group=2)
    with pytest.raises(EncodaxError, match="has changed since it was opened"):
        found[0]
    with pytest.raises(EncodaxError, match="has changed since it was opened"):
        list(found)


def test_a_file_that_is_replaced_reads_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    path, newer = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("old\n")
    found = open_records(path)
    assert found[0].fields == {"text": "old"}
    newer.write_text("a new text\n")
    newer.replace(path)
    assert found[0].fields == {"text": "old"}
    with pytest.raises(EncodaxError, match="has changed since it was opened"):
        pickle.loads(pickle.dumps(found))[0]


def kinds(folder: Path) -> list[Path]:
    """A file of each kind, with the same 40 texts."""
    texts = [f"text {i}" for i in range(40)]
    (folder / "a.txt").write_text("\n".join(texts))
    (folder / "b.csv").write_text("text\n" + "\n".join(texts))
    (folder / "c.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(b"".join(b'{"text": "%s"}\n' % t.encode()
                                                               for t in texts)))  # fmt: skip
    parquet_file(folder / "e.parquet", count=40, group=9)
    return sorted(folder.iterdir())


def test_records_are_the_same_in_another_process(tmp_path: Path) -> None:
    found = open_records(kinds(tmp_path))
    assert len(found) == 200
    copied = pickle.loads(pickle.dumps(found))
    assert by_number(copied) == list(copied) == list(found)
    code = (
        "import pickle, sys; found = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps([found[i] for i in range(len(found))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(found), capture_output=True, check=True
    )
    assert pickle.loads(done.stdout) == list(found)


class Stdin:
    """Standard input with these bytes in it."""

    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize(
    ("content", "format"), [(b'{"text": "a"}\n\n{"text": "b"}', None), (b"a\nb", None),
                            (b"text\na\nb", "csv")]
)  # fmt: skip
def test_standard_input_is_read_in_any_order(
    monkeypatch: pytest.MonkeyPatch, content: bytes, format: str | None
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(content))
    found = open_records("-", format=format)
    assert [record.fields["text"] for record in by_number(found)] == ["a", "b"]
    assert found[1].where.startswith("standard input, line ")
    with pytest.raises(EncodaxError, match="standard input cannot be read by several processes"):
        pickle.dumps(found)


def test_columns_go_with_tables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(b"a\n"))
    with pytest.raises(EncodaxError, match="--columns is for csv, tsv, conll, conllu, not for txt"):
        open_records("-", columns=["text"])
    with pytest.raises(EncodaxError, match="standard input: a Parquet file must not be packed"):
        open_records("-", format="parquet")


def test_there_may_be_more_files_than_a_process_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * files.OPEN_FILES
    for number in range(count):
        (tmp_path / f"{number:04}.txt").write_text(f"text {number}")
    opened: list[str] = []
    closed: list[int] = []
    close, of = os.close, files.Descriptor.of

    def open_one(path: str) -> files.Descriptor:
        opened.append(path)
        return of(path)

    monkeypatch.setattr(files.Descriptor, "of", open_one)
    found = open_records(tmp_path)
    assert len(opened) == count
    monkeypatch.setattr(os, "close", lambda number: (closed.append(number), close(number))[1])
    assert [record.fields["text"] for record in found] == [f"text {i}" for i in range(count)]
    assert len(opened) == 2 * count
    assert len(closed) == count
    del found
    assert len(closed) == count + files.OPEN_FILES


def test_a_large_copy_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "LARGE_COPY", files.CHUNK * 3)
    for name in ("a.txt.gz", "b.txt.gz"):
        (tmp_path / name).write_bytes(gzip.compress((b"x" * 99 + b"\n") * 20_000))
    assert len(open_records(tmp_path)) == 40_000
    (record,) = caplog.records
    assert record.getMessage().startswith("the unpacked copy in ")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"text\n"))
    with pytest.raises(
        EncodaxError, match=r"a\.txt\.gz cannot be unpacked into .*No space.*TMPDIR"
    ):
        open_records(path)


def test_a_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    def written(name: str, content: str, **options: Any) -> str:
        (tmp_path / name).write_text(content)
        return open_records(tmp_path / name, **options).fingerprint

    first = written("a.csv", "a,b\n1,2\n3,4\n")
    assert first == written("a.csv", "a,b\n1,2\n3,4\n")
    assert first == pickle.loads(pickle.dumps(open_records(tmp_path / "a.csv"))).fingerprint
    (tmp_path / "moved").mkdir()
    assert first == written("moved/a.csv", "a,b\n1,2\n3,4\n")
    others = [
        written("b.csv", "a,b\n1,2\n3,4\n"),
        written("a.csv", "a,b\n1,2\n3,5\n"),
        written("a.csv", "a,b\n1,2\n3,4\n", columns=["a", "b"]),
        written("a.csv", "a,b\n1,2\n3,4\n", format="tsv"),
        open_records([tmp_path / "a.csv", tmp_path / "b.csv"]).fingerprint,
        open_records([tmp_path / "b.csv", tmp_path / "a.csv"]).fingerprint,
        open_records(parquet_file(tmp_path / "a.parquet", count=9, group=2)).fingerprint,
        open_records(parquet_file(tmp_path / "a.parquet", count=9, group=3)).fingerprint,
    ]
    assert len({first, *others}) == 9
    assert all(len(found) == 16 for found in others)


def test_the_last_row_groups_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    read: list[tuple[int, str]] = []
    whole = pyarrow.parquet.ParquetFile.read_row_group

    def counted(self: Any, group: int, columns: list[str]) -> Any:
        read.append((group, *columns))
        return whole(self, group, columns)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", counted)
    path = parquet_file(tmp_path / "a.parquet", count=40, group=10)
    found = open_records(path)
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(found.__getitem__, range(40)))
    assert rows == list(sources.read(path))
    assert sorted(read) == [(group, name) for group in range(4) for name in ("label", "text")]
    read.clear()
    monkeypatch.setattr(parquet, "KEPT_BYTES", 1)  # then one alone is kept
    found = open_records(path)
    for index in (0, 9, 39, 30, 0):
        assert found[index].fields["text"] == f"text {index}"
        assert found[index].fields["label"] == index
    assert read == [(group, name) for group in (0, 3, 0) for name in ("text", "label")]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet_file(tmp_path / "a.parquet", count=1, group=1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for read in (open_records, lambda path: list(sources.read(path))):
        with pytest.raises(EncodaxError, match=r"pip install 'encodax\[parquet\]'"):
            read(path)


def test_values_of_parquet_keep_their_kinds(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    rows = [
        {"text": "naïve 🙂", "label": "a", "spans": [{"start": 0, "end": 1}], "score": None},
        {"text": None, "label": "b", "spans": [], "score": 1.5},
    ]
    found = pyarrow.Table.from_pylist(rows)
    label = found.column("label").dictionary_encode()
    pyarrow.parquet.write_table(found.set_column(1, "label", label), path)
    assert [record.fields for record in sources.read(path)] == rows
    assert [record.fields for record in by_number(open_records(path))] == rows


def test_twin_columns_of_parquet_are_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    twins = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    pyarrow.parquet.write_table(twins, path)
    for read in (open_records, lambda path: list(sources.read(path))):
        with pytest.raises(
            EncodaxError, match=r"a\.parquet: two columns have the same name: text, text"
        ):
            read(path)


@pytest.mark.parametrize("name", ["a.txt", "b.csv", "c.txt.gz", "e.parquet"])
def test_threads_may_go_through_records_together(tmp_path: Path, name: str) -> None:
    kinds(tmp_path)
    found = open_records(tmp_path / name)
    with ThreadPoolExecutor(4) as threads:
        passes = list(threads.map(lambda _: list(found), range(8)))
    assert all(records == by_number(found) for records in passes)


def test_threads_may_share_records(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"text {i}\n" for i in range(2_000)))
    found = open_records(path)
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda index: found[index].fields["text"], range(2_000)))
    assert read == [f"text {i}" for i in range(2_000)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz"])
def test_a_file_is_not_held_in_memory(tmp_path: Path, name: str) -> None:
    format = name.split(".")[1]
    line = json.dumps({"text": "x" * 5_000}) if format == "jsonl" else "x" * 5_000
    head = "text\n" if format in ("csv", "tsv") else ""
    count = 2_000
    content = (head + (line + "\n") * count).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    assert len(content) > 10e6
    del content
    tracemalloc.start()
    try:
        found = open_records(path)
        for index in range(0, count, 97):
            assert len(found[index].fields["text"]) == 5_000
        assert sum(1 for _ in found) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("gap", ["", "\n"], ids=["lines", "with blank lines"])
def test_eight_bytes_a_record_are_kept(tmp_path: Path, gap: str) -> None:
    count = 50_000
    path = tmp_path / "a.jsonl"
    path.write_text(('{"a": 1}\n' * 50 + gap) * (count // 50))
    tracemalloc.start()
    try:
        found = open_records(path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == count
    assert 8 * count < kept < 10 * count + 50_000


@pytest.mark.parametrize(
    ("content", "format"),
    [(b'{"text": "a"}\n{"text": "b"}', None), (b"a\nb\n", None), (b"text;x\na;1\nb;2", "csv")],
)
def test_a_pipe_is_read_in_any_order(tmp_path: Path, content: bytes, format: str | None) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as beside:
        beside.submit(pipe.write_bytes, gzip.compress(content))
        found = open_records(pipe, format=format)
    assert [record.fields["text"] for record in by_number(found)] == ["a", "b"]
    with pytest.raises(EncodaxError, match="pipe cannot be read by several processes; write it"):
        pickle.dumps(found)
    with pytest.raises(EncodaxError, match="pipe: a Parquet file must not be packed"):
        open_records(pipe, format="parquet")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("gone.txt")
    with pytest.raises(EncodaxError, match=r"is a link to gone\.txt, which does not exist"):
        open_records(tmp_path / "link.txt")
    with pytest.raises(EncodaxError, match="/dev/zero is a device, not a file"):
        open_records("/dev/zero")
    with pytest.raises(EncodaxError, match="/dev/null: the file is empty, it has no record"):
        open_records(os.devnull)


def odd_parquet(path: Path) -> Path:
    """A file with texts and labels, and with columns that Python has no values for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def raw(values: list[bytes], kind: Any) -> Any:
        return pa.array(values, pa.binary()).view(kind)

    texts = ["a", "b", "c"]
    columns = {
        "when": pa.array([1, 2, 3], pa.timestamp("ns")),
        "far": pa.array([-(2**62), 0, 2**62], pa.timestamp("us")),
        "taken": pa.array([1, 2, 3], pa.duration("ns")),
        "bad": raw([b"\xff", b"a", b"b"], pa.string()),
        "price": pa.array([1, 2, 3], pa.decimal128(9, 2)),
        "deep": pa.array([[{"x": [1]}]] * 3),
        "a.b": pa.array([1, 2, 3]),
        "a": pa.array(texts).dictionary_encode(),
        "large": pa.array(texts, pa.large_string()),
        "view": pa.array(texts, pa.string_view()),
        "labels": pa.array([["x"], [], ["y", "z"]], pa.large_list(pa.large_string())),
        "text": pa.array(texts),
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


@pytest.mark.parametrize("read", [sources.read, open_records], ids=["in a row", "by number"])
def test_columns_that_nobody_asks_for_do_not_matter(
    tmp_path: Path, read: Callable[[Path], Sequence[sources.Record]]
) -> None:
    path = odd_parquet(tmp_path / "a.parquet")
    for name in ("text", "a", "large", "view"):
        assert [record.fields[name] for record in read(path)] == ["a", "b", "c"]
    assert [record.fields["labels"] for record in read(path)] == [["x"], [], ["y", "z"]]
    assert [record.fields["a.b"] for record in read(path)] == [1, 2, 3]
    first = next(iter(read(path)))
    assert list(first.fields)[:3] == ["when", "far", "taken"] and "bad" in first.fields
    with pytest.raises(KeyError):
        first.fields["none"]
    with pytest.raises(
        EncodaxError,
        match=rf"^{path}, row 1: 'far', a column of type timestamp\[us\], cannot be read: .*",
    ):
        first.fields["far"]
    with pytest.raises(EncodaxError, match="row 1: 'bad', a column of type string, cannot be read"):
        first.fields["bad"]


def test_only_columns_that_are_asked_for_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    read: list[list[str]] = []
    whole = pyarrow.parquet.ParquetFile.iter_batches

    def counted(self: Any, size: int, columns: list[str]) -> Any:
        read.append(columns)
        return whole(self, size, columns=columns)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", counted)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 2)
    path = parquet_file(tmp_path / "a.parquet", count=7, group=3)
    assert [record.fields["text"] for record in sources.read(path)] == [
        f"text {i}" for i in range(7)
    ]
    assert read == [["text"]]
    read.clear()
    kept = list(sources.read(path))  # asked only when the file is closed
    assert [record.fields["label"] for record in kept] == list(range(7))
    assert read == [["label"]] * 4  # once a batch
    late = [
        record.fields.get("label")
        for record in sources.read(path)
        if record.where.endswith("row 5")
    ]
    assert late == [4]


def test_a_column_of_batches_is_not_held_in_memory(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    texts = ["x" * 5_000 + str(i) for i in range(4_000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "other": texts}), path)
    del texts
    tracemalloc.start()
    try:
        assert sum(len(record.fields["text"]) > 5_000 for record in sources.read(path)) == 4_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4e6


# Parquet of the `datasets` library, which writes classes as numbers.

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "ner_tags": {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": "List"},
    "spans": [{"start": {"dtype": "int32", "_type": "Value"},
               "label": {"names": ["x", "y"], "_type": "ClassLabel"}}],
    "pair": {"languages": ["de", "en"], "_type": "Translation"},
}  # fmt: skip
CLASSES: dict[str, list[Any]] = {
    "text": ["a", "b", "c"],
    "label": [1, 0, -1],
    "ner_tags": [[0, 1], [], None],
    "spans": [[{"start": 1, "label": 1}], [], []],
    "pair": [{"de": "a", "en": "b"}] * 3,
}


def parquet_of_datasets(path: Path, columns: dict[str, list[Any]], info: bytes) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns).replace_schema_metadata({b"huggingface": info})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def test_classes_of_parquet_have_their_names(tmp_path: Path) -> None:
    info = json.dumps({"info": {"features": FEATURES}}).encode()
    path = parquet_of_datasets(tmp_path / "a.parquet", CLASSES, info)
    named = {
        "text": "a",
        "label": "pos",
        "ner_tags": ["O", "B-PER"],
        "spans": [{"start": 1, "label": "y"}],
        "pair": {"de": "a", "en": "b"},
    }
    found = open_records(path)
    for records in (
        found,
        list(found),
        list(sources.read(path)),
        pickle.loads(pickle.dumps(found)),
    ):
        assert dict(records[0].fields) == named
        assert [records[1].fields["label"], records[1].fields["ner_tags"]] == ["neg", []]
        assert records[2].fields["text"] == "c"
        with pytest.raises(EncodaxError, match=r"row 3: 'label' is -1, which in `datasets` means"):
            records[2].fields["label"]


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    info = json.dumps({"info": {"features": FEATURES}}).encode()
    path = parquet_of_datasets(tmp_path / "a.parquet", {"text": ["a"], "label": [2]}, info)
    with pytest.raises(EncodaxError, match=r"row 1: 'label' is 2, and the file names .* 0 to 1$"):
        open_records(path)[0].fields["label"]


@pytest.mark.parametrize("info", [b"", b"[]", b"{", b'{"info": null}', b'{"info": {"features": 3}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1]}}}}'])  # fmt: skip
def test_what_no_class_is_said_of_stays_a_number(tmp_path: Path, info: bytes) -> None:
    path = parquet_of_datasets(tmp_path / "a.parquet", {"label": [1]}, info)
    assert open_records(path)[0].fields == {"label": 1}
