"""Where data and models come from is in `run.json`, on the page of the run and on the card."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jobs
import pytest
from toys import write_lines

import encodax
from encodax.data.aligned import Aligned
from encodax.data.records import open_records
from encodax.pages.run_report import write_report
from encodax.tasks import classification, translation
from encodax.training.batches.examples import Part, examples_of
from encodax.training.setup.origins import StartModel, data_of, digest_of
from encodax.training.setup.prepare import prepare

RECORDS = jobs.RECORDS["classification"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_of_every_kind_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_lines(folder / "a.jsonl", RECORDS[:5])
    write_lines(folder / "b.jsonl", RECORDS[5:12])
    packed = tmp_path / "c.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    of_folder = [
        {"path": str(folder / name), "sha256": sha256(folder / name), "rows": rows}
        for name, rows in (("a.jsonl", 5), ("b.jsonl", 7))
    ]
    of_packed = {"path": str(packed), "sha256": sha256(packed), "rows": 5}
    for given, files, count in (
        (folder, of_folder, 12),
        (str(folder / "*.jsonl"), of_folder, 12),
        ([folder / "a.jsonl", packed], [of_folder[0], of_packed], 10),
        (Part(open_records(folder), [0, 3]), of_folder, 2),
        (RECORDS[:3], [], 3),
    ):
        data: Any = given
        found = data_of(examples_of(classification.TASK, data))
        assert found == {"files": files, "examples": count}
    sides = [tmp_path / "x.en", tmp_path / "x.de"]
    for side in sides:
        side.write_text(f"one\ntwo {side.suffix}\n")
    found = data_of(examples_of(translation.TASK, Aligned(*sides)))
    assert [(file["path"], file["rows"]) for file in found["files"]] == [(str(s), 2) for s in sides]


def test_a_stream_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    content = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS[:4])
    stream = io.TextIOWrapper(io.BytesIO(content), "utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    wanted = {
        "path": "standard input", "sha256": hashlib.sha256(content).hexdigest(), "rows": 4,
    }  # fmt: skip
    assert open_records("-").described() == [wanted]


def test_models_of_equal_content_are_equal_and_others_are_not(tmp_path: Path) -> None:
    first, second = (
        prepare("classification", **{**jobs.choices_of("classification"), "seed": seed}).model
        for seed in (0, 1)
    )
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--me--it" / "snapshots" / commit
    first.save(cached)
    begin = StartModel.of(encodax.Model, cached)
    assert begin.revision == commit
    assert begin.sha256 == digest_of(encodax.Model.load(cached))
    shutil.copytree(cached, tmp_path / "copied")
    copied = StartModel.of(encodax.Model, tmp_path / "copied")
    assert (copied.revision, copied.sha256) == (None, begin.sha256)
    assert digest_of(first) != digest_of(second)


def test_a_run_says_what_it_is_made_of(tmp_path: Path) -> None:
    choices = jobs.choices_of("classification")
    base = prepare("classification", **choices).model
    base.save(tmp_path / "base")
    file = tmp_path / "[odd] `name`.jsonl"
    write_lines(file, RECORDS)
    out = tmp_path / "out"
    fitted = encodax.train(
        "classification", train=file, eval=RECORDS[:16], model=tmp_path / "base", out=out,
        steps=2, batch_tokens=512,
    )  # fmt: skip
    assert fitted.steps == 2
    facts = json.loads((out / "run.json").read_text())
    wanted = {"path": str(file), "sha256": sha256(file), "rows": len(RECORDS)}
    assert facts["data"]["train"] == {"files": [wanted], "examples": len(RECORDS)}
    assert facts["data"]["eval"] == {"files": [], "examples": 16}
    base_digest = digest_of(encodax.Model.load(tmp_path / "base"))
    assert facts["base"] == {"name": str(tmp_path / "base"), "sha256": base_digest}
    card = (out / "README.md").read_text()
    assert card.count(sha256(file)) == 1
    assert f"{len(RECORDS)} rows" in card
    assert base_digest in card
    write_report(out)
    page = (out / "report.html").read_text()
    assert sha256(file) in page
    assert base_digest in page
    older = {name: v for name, v in facts.items() if name not in ("data", "base", "teacher")}
    (out / "run.json").write_text(json.dumps(older))
    write_report(out)
    assert "What it is made of" not in (out / "report.html").read_text()
