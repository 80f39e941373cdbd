"""What an output was made of: nothing stale stays, and nothing of two kinds is mixed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from directories import adapter_of, refusal

from encodax.corpus import partitions
from encodax.corpus.partitions import MANIFEST, CorpusJob, Rows, Writer
from encodax.models.encoder_model import Model
from encodax.storage import outputs, reading
from encodax.tasks.task import Example

ROWS = 10
"""Of a partition."""


class Counting:
    """An embedder whose vectors say how long a text is, and whose turn it was."""

    width = 2
    precision = "float32"

    def __init__(self, turn: int):
        self.turn = turn

    def prompt_of(self, _: str) -> str:
        return ""

    def answers(self, examples: Iterator[Example], *_: Any, **__: Any) -> Iterator[Any]:
        for example in examples:
            yield example, np.asarray([len(example.text), self.turn], np.float32)


@pytest.fixture
def site(tiny_model: Model, tmp_path: Path) -> Path:
    """A model, and a corpus of two files: 25 texts, and 5."""
    tiny_model.with_embeddings().save(tmp_path / "model")
    write(tmp_path / "in" / "a.parquet", [f"text {n:02}" for n in range(25)])
    write(tmp_path / "in" / "b.parquet", ["one more"] * 5)
    return tmp_path


def write(path: Path, texts: list[Any], rows: int = 7, **columns: Any) -> None:
    """A file with row groups that no partition begins or ends with."""
    path.parent.mkdir(exist_ok=True)
    found = {"id": list(range(len(texts))), "text": pyarrow.array(texts, pyarrow.string())}
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    parquet.write_table(pyarrow.table({**found, **columns}), path, row_group_size=rows, **plain)


def edit(path: Path, change: Callable[[list[Any]], object], rows: int = 7) -> None:
    """Change its texts; size and time stay."""
    before = path.stat()
    texts = parquet.ParquetFile(path).read()["text"].to_pylist()
    change(texts)
    write(path, texts, rows)
    if rows == 7:
        assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


Embed = Callable[..., set[str]]


@pytest.fixture
def embed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Embed:
    """Embeds the corpus, without Ray; gives the names of the partitions it wrote."""
    turns = iter(range(1, 100))

    def embed(model: str = "model", **choices: Any) -> set[str]:
        monkeypatch.setattr(Writer, "embedder", Counting(next(turns)))
        folder, names = partitions.find(str(site / "in"))
        directory = site / model
        usual: dict[str, Any] = {
            "model": str(directory),
            "digest": partitions.digest(directory),
            "source": folder,
            "out": str(site / "out"),
            "column": "text",
            "prompt": None,
            "truncate": False,
            "precision": None,
            "revision": None,
            "partition_rows": ROWS,
        }
        job, _, todo = partitions.plan(CorpusJob(**usual | choices), names)
        writer = Writer(job)
        for part in todo:
            writer.write(part)
        return {part.name for part in todo}

    return embed


def vectors(site: Path) -> dict[str, list[list[float]]]:
    """Those of each output file, after the texts they stand beside have been compared."""
    found = {}
    for path in sorted((site / "out").glob("*.parquet")):
        table = parquet.ParquetFile(path).read()
        found[path.name] = [list(vector) for vector in table["vector"].to_pylist()]
        lengths = [len(text or "") for text in table["text"].to_pylist()]
        assert [vector[0] for vector in found[path.name]] == lengths
    return found


ALL = {"a-00000.parquet", "a-00001.parquet", "a-00002.parquet", "b-00000.parquet"}


def test_an_edit_of_equal_size_and_time_is_embedded_again(site: Path, embed: Embed) -> None:
    assert embed() == ALL
    assert embed() == set()
    edit(site / "in" / "a.parquet", lambda texts: texts.__setitem__(12, "next 12"))
    before = {path.name: path.stat().st_ino for path in (site / "out").glob("*.parquet")}
    assert embed() == {"a-00001.parquet"}
    after = {path.name: path.stat().st_ino for path in (site / "out").glob("*.parquet")}
    assert {name for name in ALL if before[name] != after[name]} == {"a-00001.parquet"}
    table = parquet.ParquetFile(site / "out" / "a-00001.parquet").read()
    assert table["text"].to_pylist()[2] == "next 12"
    assert {vector[1] for vector in vectors(site)["a-00001.parquet"]} == {3.0}
    assert embed() == set()


@pytest.mark.parametrize("rows", [1, 3, 25, 1000])
def test_how_rows_are_stored_is_no_change(site: Path, embed: Embed, rows: int) -> None:
    embed()
    edit(site / "in" / "a.parquet", lambda texts: None, rows)
    assert embed() == set()


def test_what_stands_beside_a_text_counts_too(site: Path, embed: Embed) -> None:
    """The columns are copied: an old one would be as stale as an old vector."""
    path = site / "in" / "b.parquet"

    def kinds(last: str) -> Any:
        return pyarrow.array(["x", "y", "x", "y", last]).dictionary_encode()

    write(
        path, ["a text"] * 5, kind=kinds("x"), when=pyarrow.array([1.5, None, 2, 3, float("nan")])
    )
    embed()
    assert embed() == set()
    write(
        path, ["a text"] * 5, kind=kinds("y"), when=pyarrow.array([1.5, None, 2, 3, float("nan")])
    )
    assert embed() == {"b-00000.parquet"}
    write(path, ["a text"] * 5, kind=kinds("y"), when=pyarrow.array([1.5, 0, 2, 3, float("nan")]))
    assert embed() == {"b-00000.parquet"}
    write(path, ["a text"] * 5, sort=kinds("y"), when=pyarrow.array([1.5, 0, 2, 3, float("nan")]))
    assert embed() == {"b-00000.parquet"}
    assert "sort" in parquet.read_schema(site / "out" / "b-00000.parquet").names


@pytest.mark.parametrize(
    "kind",
    [pyarrow.string_view(), pyarrow.large_string(), pyarrow.list_(pyarrow.string()),
     pyarrow.dictionary(pyarrow.int32(), pyarrow.string())],
    ids=str,
)  # fmt: skip
def test_columns_of_any_type(site: Path, embed: Embed, kind: Any) -> None:
    def values(changed: str) -> Any:
        texts = [f"value {n}" if n % 3 else None for n in range(24)] + [changed]
        as_lists = [text and [text] for text in texts]
        return pyarrow.array(as_lists if pyarrow.types.is_list(kind) else texts, kind)

    path, texts = site / "in" / "a.parquet", [f"text {n:02}" for n in range(25)]
    write(path, texts, other=values("one"))
    embed()
    assert embed() == set()
    write(path, texts, rows=25, other=values("one"))
    assert embed() == set()
    write(path, texts, other=values("two"))
    assert embed() == {"a-00002.parquet"}


def test_files_and_rows_that_come(site: Path, embed: Embed) -> None:
    embed()
    write(site / "in" / "c.parquet", ["new"])
    assert embed() == {"c-00000.parquet"}
    edit(site / "in" / "a.parquet", lambda texts: texts.extend(["more"] * 10), rows=8)
    assert embed() == {"a-00002.parquet", "a-00003.parquet"}  # the last was not full
    assert len(vectors(site)["a-00002.parquet"]) == ROWS


@pytest.mark.parametrize("how", ["a file is gone", "a file is shorter"])
def test_vectors_of_rows_that_are_gone_are_named(site: Path, embed: Embed, how: str) -> None:
    """They may have taken hours: it is not for a mistaken glob to remove them."""
    embed()
    if how == "a file is gone":
        (site / "in" / "b.parquet").unlink()
        name = "b-00000.parquet"
    else:
        write(site / "in" / "a.parquet", [f"text {n:02}" for n in range(20)])
        name = "a-00002.parquet"
    assert refusal(embed) == (
        f"{name} in {site / 'out'} belongs to rows that the input no longer has: remove that "
        "file, or choose another output"
    )
    assert set(vectors(site)) == ALL
    (site / "out" / name).unlink()
    assert embed() == set()


DAMAGES: dict[str, Any] = {
    "not JSON": b"{",
    "nothing": b"",
    "another kind": b"[]",
    "no UTF-8": b'{"model": "\xff"}',
    "another's": b'{"format": 1}',
    "deep": b"[" * 100_000,
    "a folder": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_one_line_with_a_way_out(
    site: Path, embed: Embed, damage: str
) -> None:
    embed()
    manifest = site / "out" / MANIFEST
    before = manifest.read_bytes()
    manifest.unlink()
    if DAMAGES[damage] is None:
        manifest.mkdir()
    else:
        manifest.write_bytes(DAMAGES[damage])
    message = refusal(embed)
    assert str(manifest) in message
    assert message.endswith("remove it: each output file says itself what it was made from")
    manifest.rmdir() if manifest.is_dir() else manifest.unlink()
    assert embed() == set()  # each has been asked
    assert manifest.read_bytes() == before
    assert embed() == set()


@pytest.mark.parametrize("key", ["digest", "column", "prompt", "precision", "partition_rows"])
@pytest.mark.parametrize("value", [None, 7, "x", [], {}, True, 10.0])
def test_values_of_any_type_are_compared(site: Path, embed: Embed, key: str, value: Any) -> None:
    embed()
    manifest = site / "out" / MANIFEST
    content = json.loads(manifest.read_text())
    if value == content[key] and type(value) is type(content[key]):
        return
    manifest.write_text(json.dumps({**content, key: value}))
    message = refusal(embed)
    wanted = "has vectors of another model" if key == "digest" else f"was started with {key} "
    assert wanted in message
    del content[key]
    manifest.write_text(json.dumps(content))
    assert f"the key '{key}' is missing" in refusal(embed)


def test_without_a_manifest_the_files_themselves_are_compared(site: Path, embed: Embed) -> None:
    embed()
    (site / "out" / MANIFEST).unlink()
    shutil.copytree(site / "model", site / "other")
    config = json.loads((site / "other" / "config.json").read_text())
    (site / "other" / "config.json").write_text(json.dumps(config))  # other bytes
    for choice, message in (
        ({"model": "other"}, "has vectors of another model; choose another output"),
        ({"prompt": "query"}, "was started with prompt None, not 'query'"),
        ({"precision": "int8"}, "was made in float32, not 'int8'"),
    ):
        assert message in refusal(lambda choice=choice: embed(**choice))
    assert embed() == set()


def test_the_precision_that_was_begun_with_is_gone_on_with(site: Path, embed: Embed) -> None:
    """By default it is the device's, and the next device may have another."""
    embed()
    (site / "out" / "b-00000.parquet").unlink()
    _, names = partitions.find(str(site / "in"))
    manifest = json.loads((site / "out" / MANIFEST).read_text())
    assert manifest["precision"] is None
    fields = {field.name for field in dataclasses.fields(CorpusJob)}
    job = CorpusJob(
        **{key: value for key, value in manifest.items() if key in fields},
        source=str(site / "in"), out=str(site / "out"), truncate=False, revision=None,
    )  # fmt: skip
    gone_on, _, todo = partitions.plan(job, names)
    assert gone_on.precision == "float32"
    assert [part.name for part in todo] == ["b-00000.parquet"]


def test_a_file_of_others_is_never_overwritten(site: Path, embed: Embed) -> None:
    embed()
    for name in ("a-00001.parquet", "notes.parquet"):
        path = site / "out" / name
        before = path.read_bytes() if path.exists() else None
        write(path, ["mine"] * 10, vector=[[0.5, 0.5]] * 10)
        mine = path.read_bytes()
        assert "out holds other Parquet files; choose another output" in refusal(embed)
        assert path.read_bytes() == mine
        path.unlink() if before is None else path.write_bytes(before)
    assert embed() == set()


def test_a_file_that_is_cut_is_written_again(site: Path, embed: Embed) -> None:
    embed()
    path = site / "out" / "a-00000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert embed() == {"a-00000.parquet"}


def test_the_base_of_an_adapter_is_part_of_the_digest(
    site: Path, embed: Embed, tiny_model: Model
) -> None:
    base = site / "base"
    tiny_model.save(base)
    adapter_of(base, tiny_model, site / "adapter", 0.1)
    embed("adapter")
    assert embed("adapter") == set()
    before = (base / "config.json").stat()
    text = (base / "config.json").read_text()
    (base / "config.json").write_text(text.replace("1e-12", "1e-11"))
    os.utime(base / "config.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "has vectors of another model" in refusal(lambda: embed("adapter"))
    (base / "config.json").write_text(text)
    assert embed("adapter") == set()
    shutil.rmtree(base)
    assert "base_model_name_or_path" in refusal(lambda: embed("adapter"))


def test_a_model_that_is_replaced_before_it_is_read(
    site: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is the job's, and then its files are others."""
    directory = site / "model"
    other = site / "other"
    tiny_model.with_embeddings("max").save(other)
    job = CorpusJob(
        str(directory), partitions.digest(directory), str(site), str(site / "out"), "text",
        None, False, None, None, ROWS,
    )  # fmt: skip
    whole = partitions.digest

    def and_then_replaced(place: Path) -> str:
        found = whole(place)
        monkeypatch.setattr(partitions, "digest", whole)
        shutil.rmtree(directory)
        shutil.copytree(other, directory)
        return found

    monkeypatch.setattr(partitions, "digest", and_then_replaced)
    assert "has other files on" in refusal(lambda: Writer(job).embedder)


def test_a_file_of_the_model_that_cannot_be_read_is_named(site: Path) -> None:
    (site / "model" / "notes.txt").mkdir()  # what is no file counts for nothing
    partitions.digest(site / "model")
    assert reading.state_of(site / "model")


def test_a_name_to_which_nothing_could_be_added(site: Path, embed: Embed) -> None:
    """What an attempt at it left that was killed is counted, and swept away."""
    name = "n" * 230
    write(site / "in" / f"{name}.parquet", ["a text"])
    job = CorpusJob(
        "m", "0", str(site / "in"), str(site / "out"), "text", None, False, None, None, ROWS
    )
    (site / "out").mkdir()
    for _ in range(partitions.MAX_FAILED_ATTEMPTS):
        (site / "out" / outputs.unfinished_name(f"{name}-00000.parquet")).touch()
    assert "5 processes died on them" in refusal(embed)
    with partitions.clean_up_temporary_files(job):
        assert embed() == {f"{name}-00000.parquet"}
    assert {path.name for path in (site / "out").iterdir()} == {
        *ALL, f"{name}-00000.parquet", MANIFEST,
    }  # fmt: skip


def test_rows_in_blocks() -> None:
    table = pyarrow.table({"n": list(range(23)), "t": [None, "x"] * 11 + [None]})

    def blocks(step: int) -> list[pyarrow.RecordBatch]:
        return list(partitions.cut(iter(table.to_batches(step)), [8, 8, 7]))

    for step in (1, 3, 8, 23):
        assert [len(block) for block in blocks(step)] == [8, 8, 7]
        assert pyarrow.Table.from_batches(blocks(step)).equals(table)
        digests = {Rows(), Rows()}
        for rows, found in zip(digests, (blocks(step), blocks(23)), strict=True):
            for block in found:
                rows.add(block)
        assert len({rows.digest() for rows in digests}) == 1
    assert partitions.blocks_of(partitions.ROWS + 1) == [partitions.ROWS, 1]
