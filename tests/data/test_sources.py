import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from readings import read_alike

from encodax.data import formats, parquet
from encodax.data.records import open_records
from encodax.data.sources import Record, open_output, partial_of, read, records_of
from encodax.errors import EncodaxError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def fields(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    return [record.fields for record in read(path, **options)]


ROWS = [{"text": "naïve 🙂", "label": "1"}, {"text": "b", "label": "0"}]
FILES = {
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "a.ndjson": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
    "a.json": "\n\n".join(json.dumps(row) for row in ROWS) + "\n\n",
    "a.csv": "text,label\nnaïve 🙂,1\nb,0\n",
    "b.csv": '"text","label"\r\n"naïve 🙂","1"\r\n\r\n"b","0"',
    "a.tsv": "text\tlabel\nnaïve 🙂\t1\nb\t0\n",
}


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("name", FILES)
def test_records_are_the_same_in_every_format(
    tmp_path: Path, name: str, gz: str, mark: str
) -> None:
    path = written(tmp_path, name + gz, mark + FILES[name])
    assert fields(path) == ROWS
    assert fields(str(path)) == ROWS


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_text_file_is_a_text_a_line(tmp_path: Path, gz: str) -> None:
    path = written(tmp_path, "a.txt" + gz, "\ufefffirst line\r\n\n  third\tline \nlast")
    texts = ["first line", "", "  third\tline ", "last"]
    assert fields(path) == [{"text": text} for text in texts]


def test_a_record_knows_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert list(read(path)) == [
        Record({"a": 1}, f"{path}, line 1"),
        Record({"a": 2}, f"{path}, line 3"),
    ]
    path = written(tmp_path, "a.csv", "a,b\n1,2\n\n3,4\n")
    assert [record.where for record in read(path)] == [f"{path}, line 2", f"{path}, line 4"]


def test_json_values_keep_their_kinds(tmp_path: Path) -> None:
    row = {"text": "a", "spans": [[0, 1, "x"]], "label": 3, "note": None, "pair": {"b": 1.5}}
    assert fields(written(tmp_path, "a.jsonl", json.dumps(row))) == [row]


def test_quotes_of_a_tsv_are_characters(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'text\tlabel\n"so-called" art\t1\n"open\t0\n')
    assert [row["text"] for row in fields(path)] == ['"so-called" art', '"open']


def test_a_quoted_cell_of_a_csv_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'text,label\n"a, ""b""\n\nc",1\nd,2\n')
    assert fields(path) == [{"text": 'a, "b"\n\nc', "label": "1"}, {"text": "d", "label": "2"}]
    # After three lines of one cell, the next record is still found in the file.
    assert [record.where for record in read(path)] == [f"{path}, line 2", f"{path}, line 5"]


@pytest.mark.parametrize(("name", "gap"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_file_without_a_header_takes_its_columns_by_name(
    tmp_path: Path, name: str, gap: str
) -> None:
    path = written(tmp_path, name, f"good{gap}1\nbad{gap}0\n")
    rows = [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]
    assert fields(path, columns=["text", "label"]) == rows


def test_columns_go_with_tables_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", "{}\n")
    with pytest.raises(
        EncodaxError, match="--columns is for csv, tsv, conll, conllu, not for jsonl"
    ):
        fields(path, columns=["text"])


def test_the_format_may_be_said_whatever_the_ending(tmp_path: Path) -> None:
    path = written(tmp_path, "reviews.data", "a\tb\n")
    assert fields(path, format="tsv", columns=["x", "y"]) == [{"x": "a", "y": "b"}]
    assert fields(path, format="txt") == [{"text": "a\tb"}]


@pytest.mark.parametrize("name", ["a.xml", "a", "a.xml.gz", ".gz"])
def test_an_unknown_ending_lists_the_known_formats(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, "x")
    with pytest.raises(
        EncodaxError, match="is not one of: jsonl, csv, tsv, txt, conll, conllu, json, parquet"
    ):
        fields(path)


def test_a_large_cell_is_read(tmp_path: Path) -> None:
    text = "x" * 200_000
    assert fields(written(tmp_path, "a.csv", f"text\n{text}\n")) == [{"text": text}]


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.tsv", "a.txt", "a.csv.gz"):
        assert fields(written(tmp_path, name, "")) == []


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"a": 1}\nbroken\n')
    records = read(path)
    assert next(records).fields == {"a": 1}
    with pytest.raises(EncodaxError):
        next(records)


BAD = {
    "not JSON": ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"line 3: not JSON .*one JSON object a line"),
    "a JSON list": ("a.jsonl", b'{"a": 1}\n[1]\n', r"line 2: needs an object such as .*not a list"),
    "a JSON text": ("a.jsonl", b'"a"\n', r"line 1: needs an object such as .*not a str"),
    "a row too long": ("a.csv", b"a,b\n1,2\n1,2,3\n", r"line 3: has 3 columns where 2 are named"),
    "a row too short": ("a.tsv", b"a\tb\n1\n", r"line 2: has 1 columns where 2 are named \(a, b\)"),
    "a quote left open": ("a.csv", b'a,b\n1,2\n"3,4\n', r"line 3: cannot be read"),
    "a quote inside a cell": ("a.csv", b'a,b\n1,2\n"3"x,4\n', r"line 3: cannot be read"),
    "Latin-1, jsonl": ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', r"line 2: not UTF-8; .*iconv"),
    "Latin-1, csv": ("a.csv", b"a,b\n1,2\n3,\xe9\n", r"line 3: not UTF-8"),
    "Latin-1, tsv": ("a.tsv", b"a\tb\n\xe9\t2\n", r"line 2: not UTF-8"),
    "Latin-1, text": ("a.txt", b"a\nb\n\xe9\n", r"line 3: not UTF-8"),
    "UTF-16": ("a.txt", "a\n".encode("utf-16"), r"line 1: not UTF-8"),
    "UTF-32": ("a.txt", "a\n".encode("utf-32"), r"line 1: not UTF-8 but UTF-32; .* -f utf-32 -t"),
    "UTF-32, the other way": (
        "a.csv", b"\0\0\xfe\xff" + "a\n".encode("utf-32be"), r"line 1: not UTF-8 but UTF-32;",
    ),
    "packed twice": ("a.txt", gzip.compress(gzip.compress(b"a\n")), r"packed \(gzip, twice\); "),
    "old Mac lines": (
        "a.csv", b"a,b\r1,2\r3,4\r", r"line 1: a line ends in CR without LF, .*: tr '\\r' '\\n' < ",
    ),
    "a CR in a line": ("a.tsv", b"a\tb\n1\r2\t3\n", r"line 2: a line ends in CR without LF"),
    "old Mac texts": ("a.txt", b"one\rtwo\r", r"line 1: a line ends in CR without LF"),
    "old Mac words": ("a.conll", b"a O\rb O\r\rc O", r"line 1: a line ends in CR without LF"),
}  # fmt: skip


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_an_error_names_the_file_and_the_line(
    tmp_path: Path, name: str, content: bytes, message: str, gz: str
) -> None:
    path = written(tmp_path, name + gz, content)
    with pytest.raises(EncodaxError, match=message) as caught:
        fields(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert "\n" not in str(caught.value)


def lines_of(count: int) -> bytes:
    return b"".join(b'{"text": "line %d"}\n' % number for number in range(count))


def test_a_truncated_gzip_is_named_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines_of(20_000))[:-5_000])
    with pytest.raises(EncodaxError, match=rf"^{path}, after line \d+: cannot be read: .*end"):
        fields(path)


def test_what_is_no_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(lines_of(3))
    with pytest.raises(EncodaxError, match=rf"^{path}, after line 0: cannot be read"):
        fields(path)


def test_a_gzip_with_wrong_bytes_in_it_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(lines_of(20_000)))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(EncodaxError, match=rf"^{path}, (after )?line \d+"):
        fields(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match=r"nothing\.csv does not exist$"):
        fields(tmp_path / "nothing.csv")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(EncodaxError, match=r"a\.csv is a folder, not a file$"):
        fields(tmp_path / "a.csv")


class Stdin:
    """Standard input with these bytes in it."""

    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}]),
        (b"a\nb\n", [{"text": "a"}, {"text": "b"}]),
        (b'\xef\xbb\xbf  {"text": "a"}\n', [{"text": "a"}]),
        (b"", []),
    ],
)
def test_standard_input_is_json_lines_or_texts(
    monkeypatch: pytest.MonkeyPatch, content: bytes, rows: list[dict[str, str]]
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(content))
    assert fields("-") == rows


def test_an_error_of_standard_input_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(b'{"text": "a"}\nb\n'))
    with pytest.raises(EncodaxError, match=r"^standard input, line 2: not JSON"):
        fields("-")


def test_records_in_memory_are_named_by_index() -> None:
    assert list(records_of([{"a": 1}, {"a": 2}], name="text")) == [
        Record({"a": 1}, "text 0"),
        Record({"a": 2}, "text 1"),
    ]


def test_a_carriage_return_may_be_in_a_text(tmp_path: Path) -> None:
    assert fields(written(tmp_path, "a.txt", "one\rtwo\nthree\r\n")) == [
        {"text": "one\rtwo"}, {"text": "three"},
    ]  # fmt: skip
    assert fields(written(tmp_path, "b.txt", "one\r")) == [{"text": "one"}]
    assert fields(written(tmp_path, "c.csv", 'a,b\n"x\ry",1\n')) == [{"a": "x\ry", "b": "1"}]


def test_what_breaks_off_is_told_alike(tmp_path: Path) -> None:
    """In order, and where all is unpacked first, with the number of the line that is whole."""
    lines = "".join(json.dumps({"text": f"number {number}"}) + "\n" for number in range(5000))
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(lines.encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncodaxError) as in_order:
        list(read(path))
    with pytest.raises(EncodaxError) as unpacked:
        open_records(path)
    assert str(in_order.value) == str(unpacked.value)
    number = re.search(r"a.jsonl.gz, after line (\d+): cannot be read", str(unpacked.value))
    assert number and 1000 < int(number[1]) < 5000


def test_output_is_there_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with open_output(path) as stream:
        stream.write("né\n")
        assert not path.exists()
    assert path.read_bytes() == "né\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_output_has_the_mode_of_what_it_replaces(tmp_path: Path) -> None:
    path = written(tmp_path, "out.jsonl", "old")
    path.chmod(0o600)
    with open_output(path) as stream:
        stream.write("new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_output_that_ends_early_is_kept_beside_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path, "out.jsonl", "old")
    users_own = written(tmp_path, "out.jsonl.partial", "of another")
    with pytest.raises(EncodaxError, match=r"^a bad line") as caught, open_output(path) as stream:
        stream.write("one\ntwo\n")
        raise EncodaxError("a bad line")
    kept = f"{path}.partial2"
    assert caught.value.__notes__ == [f"the 2 lines that come before it are kept in {kept}"]
    assert Path(kept).read_text() == "one\ntwo\n"
    assert (path.read_text(), users_own.read_text()) == ("old", "of another")
    assert partial_of(path) == f"{path}.partial3"
    with pytest.raises(EncodaxError, match="at once") as caught, open_output(path) as stream:
        raise EncodaxError("at once")
    assert not hasattr(caught.value, "__notes__")
    assert len(list(tmp_path.iterdir())) == 3


def test_output_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path, "out.jsonl", "old")
    with pytest.raises(EncodaxError, match="written: halfway"), open_output(path) as stream:
        stream.write("new")
        raise OSError("halfway")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_what_was_done_before_any_other_error_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError, match="the device is gone") as caught, open_output(path) as to:
        to.write("new\n")
        raise RuntimeError("the device is gone")
    assert Path(f"{path}.partial").read_text() == "new\n"
    assert caught.value.__notes__ == [
        f"the one line that comes before it is kept in {path}.partial"
    ]


KILLED = """
import os, signal, sys
from encodax.data.sources import open_output
with open_output(sys.argv[1]) as stream:
    stream.write(sys.argv[2])
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_given_a_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    for place, text in ((path, ""), (path, "one\ntw"), (other, "mine")):
        subprocess.run([sys.executable, "-c", KILLED, str(place), text], check=False)
    with open_output(path) as live:
        live.write("whole\n")
        assert Path(f"{path}.partial").read_text() == "one\ntw"
        assert [record.getMessage() for record in caplog.records] == [
            f"a command was killed while it wrote {path}: its partial output is in {path}.partial"
        ]
        with open_output(path) as second:  # what is being written now stays
            second.write("second\n")
        assert path.read_text() == "second\n"
    assert path.read_text() == "whole\n"
    hidden = [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]
    assert len(hidden) == 1 and hidden[0].startswith(".other.jsonl.")
    assert len(list(tmp_path.iterdir())) == 3
    assert len(caplog.records) == 1


def test_output_may_go_to_a_pipe_by_its_number() -> None:
    reader, writer = os.pipe()
    with open_output(f"/dev/fd/{writer}") as stream:
        stream.write("a \ud800\n")
    os.close(reader)
    with pytest.raises(BrokenPipeError), open_output(f"/dev/fd/{writer}") as stream:
        stream.write("a\n")
        stream.flush()
    os.close(writer)


def test_output_to_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(EncodaxError, match=r"out\.jsonl cannot be written: No such file"),
        open_output(tmp_path / "nowhere" / "out.jsonl"),
    ):
        pass


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with open_output("-") as stream:
        stream.write("a\n")
    assert capsys.readouterr().out == "a\n"


# What is no file with a name.


def feed(path: Path, content: bytes) -> threading.Thread:
    """Writes into a named pipe, beside whoever reads it."""
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(content,))
    thread.start()
    return thread


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("content", [b'{"text": "a"}\n{"text": "b"}\n', b"a\nb\n"])
def test_a_named_pipe_is_read_as_standard_input_is(
    tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    thread = feed(tmp_path / "pipe", pack(content))
    assert fields(tmp_path / "pipe") == [{"text": "a"}, {"text": "b"}]
    thread.join()


def test_the_ending_of_a_pipe_tells_its_format(tmp_path: Path) -> None:
    thread = feed(tmp_path / "pipe.csv", b"text,label\na,b\n")
    assert fields(tmp_path / "pipe.csv") == [{"text": "a", "label": "b"}]
    thread.join()


def test_a_process_substitution_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, gzip.compress(b'{"text": "a"}\n'))
    os.close(writer)
    try:
        assert fields(f"/dev/fd/{reader}") == [{"text": "a"}]
    finally:
        os.close(reader)


@pytest.mark.parametrize("is_packed", [False, True])
def test_lines_are_read_as_they_come(is_packed: bool) -> None:
    """Each before the next is sent, whatever the pipe brings at a time."""
    packer = zlib.compressobj(wbits=31)

    def sent(content: bytes) -> bytes:
        if not is_packed:
            return content
        return packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)

    reader, writer = os.pipe()
    first = sent(b"caf\xc3\xa9\n")
    os.write(writer, first[:1])
    later = threading.Thread(target=lambda: (time.sleep(0.05), os.write(writer, first[1:])))
    later.start()
    records = read(f"/dev/fd/{reader}")
    assert next(records).fields == {"text": "café"}
    later.join()
    os.write(writer, sent(b"b\nc"))
    assert next(records).fields == {"text": "b"}
    os.write(writer, packer.flush() if is_packed else b"")
    os.close(writer)
    assert [record.fields for record in records] == [{"text": "c"}]
    os.close(reader)


# Lines that never end.

TEXT = b"x" * 100
ENDLESS = {
    "text.txt": (b"good\n", TEXT, "line 2: longer than 1 MiB"),
    "records.jsonl": (b'{"text": "good"}\n\n{"text": "', TEXT, "line 3: longer than 1 MiB"),
    "list.jsonl": (b"[", b'{"text": "good"},' * 9, "line 1: longer than 1 MiB"),
    "cells.csv": (b"text,label\ngood,yes\n", b"x," * 99, "line 3: longer than 1 MiB"),
    "quotes.csv": (b'text,label\ngood,yes\n"', b"xxxxxxxx\n" * 9, "line 3: .* mark left open"),
    "cells.tsv": (b"text\nx\ny\n", TEXT, "line 4: longer than 1 MiB"),
}


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ENDLESS)
def test_a_line_that_is_too_long_is_refused_before_it_is_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pack: bool
) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 1 << 20)
    head, unit, message = ENDLESS[name]
    path = tmp_path / (f"{name}.gz" if pack else name)
    with gzip.open(path, "wb", 1) if pack else path.open("wb") as file:
        file.write(head)
        for _ in range(40):
            file.write(unit * ((1 << 20) // len(unit)))
    message = f"{path}, {message}"
    tracemalloc.start()
    try:
        with pytest.raises(EncodaxError, match=message):
            fields(path)
        with pytest.raises(EncodaxError, match=message):
            open_records(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16e6


@pytest.mark.parametrize("rows", [1, 30], ids=["by the footer", "by the cell"])
def test_a_cell_of_parquet_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(parquet, "LONGEST_LINE", 1 << 20)
    path = str(tmp_path / "a.parquet")
    texts = ["x" * (2 << 20), *["good"] * (rows - 1)]
    table = pyarrow.table({"text": texts, "label": ["yes"] * rows})
    pyarrow.parquet.write_table(table, path, use_dictionary=False)
    message = rf"^{path}.*: a cell of 'text' is longer than 1 MiB; cut it into several"
    for records in (list(read(path)), open_records(path)):
        assert records[0].fields["label"] == "yes"  # it does not matter to who does not want it
        with pytest.raises(EncodaxError, match=message):
            records[0].fields["text"]


def test_a_line_on_a_pipe_that_has_no_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 1 << 20)
    with subprocess.Popen(["sh", "-c", "yes | tr -d '\\n'"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        path = f"/dev/fd/{endless.stdout.fileno()}"
        with pytest.raises(EncodaxError, match="line 1: longer than 1 MiB; write each record on"):
            fields(path)
        endless.stdout.close()


def test_the_null_device_is_empty() -> None:
    assert fields(os.devnull) == []


def test_what_is_neither_file_nor_pipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("gone.txt")
    with pytest.raises(
        EncodaxError, match=r"link\.txt is a link to gone\.txt, which does not exist$"
    ):
        fields(tmp_path / "link.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(EncodaxError, match=r"/s is a socket, not a file$"):
            fields(tmp_path / "s", format="txt")
    with pytest.raises(EncodaxError, match=r"^/dev/zero is a device, not a file$"):
        fields("/dev/zero")


# Files as people have them.


def test_gzip_is_known_by_its_content_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n'))
    assert fields(path) == [{"text": "a"}]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_cells_of_a_csv_may_be_apart_by_other_marks(
    tmp_path: Path, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "a.csv", f'\ufefftext{mark}score\r\n"a, b"{mark}1,5\r\n')
    assert fields(path) == [{"text": "a, b", "score": "1,5"}]
    shown = "a tab" if mark == "\t" else f"'{mark}'"
    assert caplog.messages == [f"{path}: cells are taken to be separated by {shown}, not by commas"]
    path = written(tmp_path, "b.csv", f'"a{mark} ""b"""{mark}1,5\n')
    assert fields(path, columns=["text", "score"]) == [{"text": f'a{mark} "b"', "score": "1,5"}]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line", ["sep={}", '"sep={}"'])
def test_the_line_of_excel_says_what_is_between_cells(
    tmp_path: Path, mark: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = "\ufeff" + line.format(mark)
    table = f'text{mark}label\r\n"a, b; c\n| d"{mark}1\r\n\r\ne{mark}0\r\n'
    path = written(tmp_path, "a.csv", f"{head}\r\n{table}")
    wanted = [
        Record({"text": "a, b; c\n| d", "label": "1"}, f"{path}, line 3"),
        Record({"text": "e", "label": "0"}, f"{path}, line 6"),
    ]
    assert read_alike(path) == wanted
    assert caplog.messages == []
    assert len(read_alike(path, columns=["x", "y"])) == 3


def test_a_line_as_excel_has_it_is_a_text_elsewhere(tmp_path: Path) -> None:
    assert fields(written(tmp_path, "a.tsv", "text\nsep=;\n")) == [{"text": "sep=;"}]
    assert fields(written(tmp_path, "a.csv", "text,x\nsep=;,1\n"))[0]["text"] == "sep=;"


# Fields that have other names.


RENAMED = {
    "a.jsonl": '{"content": "naïve", "stars": 5, "id": 1}\n',
    "a.json": '[{"content": "naïve", "stars": 5, "id": 1}]',
    "a.csv": "content,stars,id\nnaïve,5,1\n",
    "a.tsv": "content\tstars\tid\nnaïve\t5\t1\n",
}


@pytest.mark.parametrize("name", RENAMED)
def test_fields_may_have_other_names_in_any_file(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, RENAMED[name])
    (record,) = read_alike(path, columns={"text": "content", "label": "stars"})
    assert record.fields.keys() == {"text", "label", "id"}
    assert record.fields["text"] == "naïve"
    assert str(record.fields["label"]) == "5"
    with pytest.raises(
        EncodaxError, match=r", (\[0\]|line .): no field 'body', which --columns names .found: cont"
    ):
        fields(path, columns={"text": "body"})


def test_names_may_be_exchanged(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"a": 1, "b": 2, "c": 3}\n')
    (record,) = read_alike(path, columns={"a": "b", "b": "a"})
    assert dict(record.fields) == {"a": 2, "b": 1, "c": 3}
    (record,) = read_alike(path, columns={"a": "b"})  # its own a is hidden
    assert dict(record.fields) == {"a": 2, "c": 3}


def test_semicolons_of_a_csv_with_commas_are_characters(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text,label\na;b,c\n")
    assert fields(path) == [{"text": "a;b", "label": "c"}]
    path = written(tmp_path, "b.csv", "text\na;b\n")
    assert fields(path) == [{"text": "a;b"}]
    path = written(tmp_path, "c.csv", "a;b,c\n")
    assert fields(path, columns=["text", "label"]) == [{"text": "a;b", "label": "c"}]


def test_files_that_were_joined_have_marks_in_between(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '\ufeff{"text": "a"}\n\ufeff{"text": "\ufeffb"}\n\ufeff\n')
    assert fields(path) == [{"text": "a"}, {"text": "\ufeffb"}]
    path = written(tmp_path, "a.txt", "\ufeffa\n\ufeffb")
    assert fields(path) == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("separator", "\u2028\u2029\x85\x0b\x0c\x1c\x00")
def test_a_line_ends_with_a_line_feed_alone(tmp_path: Path, separator: str) -> None:
    text = f"one{separator}text"
    path = written(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\n")
    assert fields(path) == [{"text": text}]
    assert fields(written(tmp_path, "a.txt", f"{text}\nb")) == [{"text": text}, {"text": "b"}]


def test_numbers_that_nobody_asked_for_may_be_of_any_kind(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "a", "x": NaN, "y": ' + "9" * 5_000 + "}\n")
    assert fields(path)[0]["text"] == "a"


TOLD = {
    "UTF-16 with a mark": ("a.csv", "text\n".encode("utf-16"), "but UTF-16; .* -f utf-16 -t utf-8"),
    "UTF-16 without": ("a.txt", "text\n".encode("utf-16le"), "but UTF-16LE; .*iconv -f utf-16le "),
    "the other way round": ("a.txt", "text\n".encode("utf-16be"), "but UTF-16BE; .* -f utf-16be "),
    "zstd": ("a.jsonl", b"\x28\xb5\x2f\xfd\xff", r"the file is packed \(zstd\); unpack it first$"),
    "Excel": ("a.csv", b"PK\x03\x04\xff", "the file is packed .zip, as files of Excel are"),
    "Parquet": ("a.csv", b"PAR1\xff\n", "is Parquet; give it a name that ends in .parquet"),
    "a list": ("a.jsonl", b'[\n{"text": "a"}\n]\n', r"for a list, or .* that ends in \.json$"),
    "a list on one line": ("a.jsonl", b'[{"text": "a"}]', r"not a list; .* ends in \.json$"),
    "an object over lines": ("a.jsonl", b'{\n"text": "a"}\n', r"object over several lines, use"),
    "quotes of Windows": ("a.txt", b"so-called \x93art\x94\n", "perhaps it is Windows-1252; "),
    "another mark": ("a.csv", b"sep=#\na#b\n", r"'sep=#' is not one of: , ; TAB \|$"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), TOLD.values(), ids=TOLD)
def test_what_a_file_is_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(EncodaxError, match=message) as caught:
        fields(path)
    assert str(caught.value).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-16be", "latin1", "cp1252"])
def test_the_way_out_of_another_encoding_works(tmp_path: Path, encoding: str) -> None:
    text = "“naïve”" if encoding == "cp1252" else "naïve"
    path = written(tmp_path, "a.txt", f"{text}\n".encode(encoding))
    with pytest.raises(EncodaxError) as caught:
        fields(path)
    _, _, command = str(caught.value).partition("as in: ")
    done = subprocess.run(command.split(), capture_output=True, check=True)
    assert fields(written(tmp_path, "b.txt", done.stdout)) == [{"text": text}]


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("a.en", "a name that ends in one of these, or give its format (--format, format=)"),
        ("a.xlsx", "save the table as CSV, in UTF-8"),
        ("a.pdf", "save it as text (.txt), a text a line"),
        ("model.safetensors", "it is not a file of texts"),
        ("a.zip", "unpack it first, or use gzip"),
    ],
)
def test_of_a_file_of_another_kind_the_way_out_is_its_own(
    tmp_path: Path, name: str, way_out: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(EncodaxError, match=re.escape(way_out)):
        list(read(tmp_path / name))


def test_a_brace_alone_begins_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(content: bytes) -> list[Any]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return [dict(record.fields) for record in read("-")]

    assert piped(b"{ a text }\nb\n") == [{"text": "{ a text }"}, {"text": "b"}]
    assert piped(b'{"text": "a"}\n') == piped(b'  { "text": "a"}\n') == [{"text": "a"}]
    with pytest.raises(EncodaxError, match="not JSON") as caught:
        piped(b'{"text": "a"}\nb\n')
    assert "for one text a line: --format txt" in caught.value.__notes__[0]
