"""The command line: answers on standard output, one line for what can be mended, nothing lost."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import typer
from commands import COMMAND, Call, Outcome, assert_refused, call, real
from questions import LONG_QUESTIONS, answerer
from toys import (
    DAYS,
    MATCHES,
    PAIRS,
    QUICK,
    SENTIMENT,
    SHAPE,
    STARS,
    TRAITS,
    classifier,
    labeller,
    pair_classifier,
    ranker,
    scorer,
    snapshot,
    spans_of,
    tagger,
    write_lines,
)

import encodax
from encodax.cli import main
from encodax.cli.app import json_line
from encodax.config import InferenceConfig
from encodax.data import sources
from encodax.errors import EncodaxError
from encodax.inference import vectors
from encodax.model_files.run_files import RunFacts
from encodax.storage import json_files
from encodax.training import TrainResult

__all__ = ["call"]

NEW_MODEL = [
    f"--{name.replace('dropout_rate', 'dropout').replace('_', '-')}={value}"
    for name, value in {**SHAPE, **QUICK, "steps": 30}.items()
]
"""The choices of `classifier()`."""
LONG = "good " * 40


def call_train(*arguments: str) -> list[str]:
    return ["train", "classification", *arguments]


FILES: dict[str, bytes] = {
    "bad.jsonl": b'{"text": "good"}\n{"text": \n',
    "list.jsonl": b'{"text": "good"}\n["bad"]\n',
    "number.jsonl": b'{"text": "good", "label": ' + b"1" * 5000 + b"}\n",
    "deep.jsonl": b'{"text": ' + b"[" * 100_000 + b"\n",
    "half.jsonl": b'{"text": "good \\ud800"}\n',
    "unknown.jsonl": b'{"text": "good", "label": "yes"}\n{"text": "good", "label": "maybe"}\n',
    "unlabelled.jsonl": b'{"text": "good"}\n',
    "empty_text.jsonl": b'{"text": "good"}\n{"text": " "}\n',
    "long.jsonl": b'{"text": "good"}\n' + json.dumps({"text": LONG}).encode() + b"\n",
    "latin.txt": "good\nna\u00efve caf\u00e9\n".encode("latin-1"),
    "latin.jsonl": '{"text": "caf\u00e9", "label": "yes"}\n'.encode("latin-1"),
    "once.jsonl": b"".join(b'{"text": "a", "label": "%c"}\n' % label for label in b"xxyyz"),
    "one_label.jsonl": b'{"text": "a", "label": "x"}\n' * 4,
    "empty.jsonl": b"",
    "blank.jsonl": b"\n \n",
    "cells.csv": b"text,label\ngood,yes\nbad\n",
    "quote.csv": b'text,label\n"good,yes\nbad,no\n',
    "no_text.csv": b"sentence,label\ngood,yes\n",
    "cut.jsonl.gz": gzip.compress(b'{"text": "good"}\n' * 99)[:-9],
    "broken.jsonl.gz": gzip.compress(b"")[:10] + b"\xff" * 99,
    "plain.jsonl.gz": b'{"text": "good"}\n',
    "file.xyz": b"good\n",
    "answers.jsonl": b"older answers\n",
    "overlap.jsonl": b'{"text": "abc", "spans": [{"start": 0, "end": 2, "label": "x"},'
    b' {"start": 1, "end": 3, "label": "x"}]}\n',
}


SIZES = {"layers": 1, "width": 8, "parameters": 99}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models and of files, good and bad."""
    site = tmp_path_factory.mktemp("site")
    classifier().model.save(site / "model")
    (site / "model" / "metrics.jsonl").write_text("older curve\n")
    for name, run in (("pairs", pair_classifier()), ("tags", tagger())):
        run.model.save(site / name)
    for name in ("no_config", "no_weights", "cut_weights", "bad_weights", "other_weights"):
        shutil.copytree(site / "model", site / name)
    (site / "no_config" / "config.json").unlink()
    (site / "no_weights" / "model.safetensors").unlink()
    weights = (site / "model" / "model.safetensors").read_bytes()
    (site / "cut_weights" / "model.safetensors").write_bytes(weights[:-100])
    (site / "bad_weights" / "model.safetensors").write_bytes(b"not weights")
    (site / "other_weights" / "model.safetensors").write_bytes(
        (site / "tags" / "model.safetensors").read_bytes()
    )
    answerer().model.save(site / "questions")
    model = classifier().model
    usage = InferenceConfig((("query", "good "), ("document", "a ")), similarity="dot")
    embedder = model.with_embeddings()
    replace(embedder, config=replace(embedder.config, usage=usage)).save(site / "embedder")
    model.with_head("sequence", labels=("score",), problem="regression").save(site / "reranker")
    model.with_head("sequence", labels=("a", "b", "c")).save(site / "three")
    model.with_head("vocabulary", model.tokenizer.vocabulary_size).save(site / "filler")
    write_lines(site / "questions.jsonl", LONG_QUESTIONS)
    write_lines(site / "good.jsonl", SENTIMENT)
    write_lines(site / "days.jsonl", DAYS)
    for name, content in FILES.items():
        (site / name).write_bytes(content)
    return site


# What it is for.


def test_report(call: Call, tmp_path: Path) -> None:
    facts = RunFacts("classification", "f1", True, 2, {}, SIZES, {}, {}, {})
    facts.write(tmp_path / "run.json")
    step = {"step": 1, "loss": 0.5, "learning_rate": 1e-3, "tokens_per_second": 9.0, "padding": 0.1}
    write_lines(tmp_path / "metrics.jsonl", [step])
    outcome = call("report", str(tmp_path))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{tmp_path / 'report.html'}\n"
    assert "classification" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("missing", "command", "what"),
    [
        ("jinja2", ["report", "."], "the report"),
        ("matplotlib", ["report", "."], "the report"),
        ("jinja2", ["explore", ".", "a text"], "the page"),
    ],
)
def test_a_page_without_its_extra(missing: str, command: list[str], what: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from encodax.cli import main; main.main()"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True)
    line = f"error: {what} needs {missing}: pip install 'encodax[report]'\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", line)


def test_train_evaluate_predict(site: Path, tmp_path: Path) -> None:
    data, model = str(site / "good.jsonl"), str(tmp_path / "model")

    def run(*arguments: str, **how: Any) -> Outcome:
        outcome = real(tmp_path, *arguments, **how)
        assert outcome.code == 0, outcome.err
        return outcome

    trained = run(*call_train("--train", data, "--eval", data, "--out", model, *NEW_MODEL))
    (summary,) = trained.answers
    assert summary == {"model": model, "step": classifier().best_step, **classifier().metrics}
    assert "(best, saved)" in trained.err
    told = trained.err.splitlines()
    assert any(line.startswith("30 steps in ") for line in told)
    assert told[-1] == f"checkpoints: {model}.checkpoints"
    assert (tmp_path / "model" / "metrics.jsonl").is_file()

    measured = run("evaluate", model, "--data", data)
    assert measured.answers[0].keys() == {"accuracy", "f1", "classes"}
    assert measured.answers[0]["classes"]["yes"] == {
        "precision": 1, "recall": 1, "f1": 1, "support": 8,
    }  # fmt: skip

    text = (site / "good.jsonl").read_bytes()
    predicted = run("predict", model, "--input", "-", stdin=None, input=text)
    assert [(line["text"], line["label"]) for line in predicted.answers] == [
        (record["text"], record["label"]) for record in SENTIMENT
    ]
    assert predicted.err == measured.err == ""
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model", "model.checkpoints"]


def labels_of(outcome: Outcome) -> list[tuple[str, str]]:
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    return [(line["text"], line["label"]) for line in outcome.answers]


def test_info_says_what_became_of_each_key_of_the_files(call: Call, site: Path) -> None:
    directory = site / "keys"
    shutil.copytree(site / "model", directory)
    config = json.loads((directory / "config.json").read_text())
    kept = {"my_own_key": {"deep": 1}, "use_cache": True}
    (directory / "config.json").write_text(json.dumps({**config, **kept}))
    outcome = call("info", "keys", "--files")
    assert outcome.code == 0, outcome.err
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in outcome.out.splitlines()]
    rows = {cells[1]: cells for cells in lines if len(cells) == 4}
    assert rows["hidden_size"] == ["config.json", "hidden_size", "", "used"]
    assert rows["my_own_key"][2:] == [
        '{"deep": 1}', "ignored: the published class does not read it"
    ]  # fmt: skip
    assert rows["use_cache"][2:] == [
        "true", "ignored: it trades memory for time, and changes no number"
    ]  # fmt: skip
    assert config.keys() <= rows.keys()


def test_info_shows_every_parameter(call: Call) -> None:
    outcome = call("info", "model")
    assert (outcome.code, outcome.err) == (0, "")
    model = classifier().model
    for path, leaves in model.params.items():
        for leaf, array in leaves.items():
            shape = " x ".join(map(str, array.shape))
            assert re.search(rf"{path} +\W *{leaf} +\W *{shape} .* {array.size:,} ", outcome.out)
    assert f" {model.parameter_count():,} " in outcome.out
    assert outcome.out.endswith("labels: no, yes\nscores: softmax of the logits\n")
    assert "scores:" not in call("info", "embedder").out


def test_texts_are_answered_in_order(call: Call) -> None:
    outcome = call("predict", "model", "bad thing", "good thing", "bad")
    assert labels_of(outcome) == [("bad thing", "no"), ("good thing", "yes"), ("bad", "no")]
    answer = outcome.answers[0]
    assert answer.keys() == {"text", "label", "score", "scores"}
    assert answer["score"] == max(answer["scores"].values())


def test_text_is_written_as_it_is(call: Call) -> None:
    assert '"text": "good café 日本"' in call("predict", "model", "good café 日本").out


def test_any_format_is_read(call: Call, tmp_path: Path) -> None:
    texts = {"good thing": "yes", "bad, thing": "no"}
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    contents = {
        "a.jsonl": lines,
        "a.csv": b'id,text\n1,good thing\n2,"bad, thing"\n',
        "a.tsv": b"text\tid\ngood thing\t1\nbad, thing\t2\n",
        "a.txt": b"good thing\nbad, thing\n",
        "bom.csv": b'\xef\xbb\xbftext\r\ngood thing\r\n"bad, thing"\r\n',
        "a.jsonl.gz": gzip.compress(lines),
        "a.txt.gz": gzip.compress(b"good thing\nbad, thing"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        outcome = call("predict", "model", "--input", str(tmp_path / name))
        assert labels_of(outcome) == list(texts.items()), name


def test_a_table_without_a_header_is_read(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("yes\tgood thing\nno\tbad thing\n")
    named = ["--columns", "label,text"]
    outcome = call("predict", "model", "--input", str(tmp_path / "a.tsv"), *named)
    assert labels_of(outcome) == [("good thing", "yes"), ("bad thing", "no")]
    measured = call("evaluate", "model", "--data", str(tmp_path / "a.tsv"), *named)
    assert (measured.answers[0]["accuracy"], measured.answers[0]["f1"]) == (1, 1)


def test_the_format_can_be_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("good thing\n")
    outcome = call("predict", "model", "--input", str(tmp_path / "a.log"), "--format", "txt")
    assert labels_of(outcome) == [("good thing", "yes")]


STARS_AND_TEXTS = {
    "a.jsonl": b"".join(b'{"content": "%s thing", "stars": "%s"}\n' % pair
                        for pair in [(b"good", b"yes"), (b"bad", b"no")]),
    "a.json": b'[{"content": "good thing", "stars": "yes"},\n'
    b'{"content": "bad thing", "stars": "no"}]',
    "a.csv": b"stars,content\nyes,good thing\nno,bad thing\n",
    "a.data": b"content\tstars\ngood thing\tyes\nbad thing\tno\n",
}  # fmt: skip


@pytest.mark.parametrize("name", STARS_AND_TEXTS)
def test_fields_of_other_names_are_read(call: Call, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(STARS_AND_TEXTS[name])
    told = ["--columns", "text=content, label=stars", *(["--format", "tsv"] * (name == "a.data"))]
    measured = call("evaluate", "model", "--data", str(path), *told)
    (found,) = measured.answers
    assert found["accuracy"] == found["f1"] == 1
    assert set(found["classes"]) == {"no", "yes"}
    found = call("predict", "model", "--input", str(path), *told)
    assert labels_of(found) == [("good thing", "yes"), ("bad thing", "no")]


def test_training_takes_a_format_and_other_names(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.data"
    path.write_bytes(STARS_AND_TEXTS["a.data"] * 2)
    files = ["--train", str(path), "--eval", str(path), "--format", "tsv"]
    outcome = call(*call_train(*files, "--columns", "text=content,label=stars", "--out", "new",
                               *NEW_MODEL, "--dry-run"))  # fmt: skip
    assert (outcome.code, "error" in outcome.err) == (0, False)


def test_classes_of_parquet_are_measured_by_name(call: Call, tmp_path: Path) -> None:
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pyarrow.table({"text": ["good thing", "bad thing"], "label": [1, 0]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    measured = call("evaluate", "model", "--data", str(tmp_path / "a.parquet"))
    (found,) = measured.answers
    assert found["accuracy"] == found["f1"] == 1
    assert set(found["classes"]) == {"no", "yes"}


def test_sentences_of_conll_are_measured(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_text("on O\nFriday B-day\nthey B-who\nmet O\n")
    measured = call("evaluate", "tags", "--data", str(tmp_path / "a.iob"))
    assert measured.answers[0]["f1"] == 1
    (tmp_path / "b.conll").write_text("on\nFriday\nthey\nmet\n")
    (answer,) = call("predict", "tags", "--input", str(tmp_path / "b.conll")).answers
    assert [span["label"] for span in answer["spans"]] == ["day", "who"]


def test_squad_is_measured_as_json_lines_are(call: Call, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path("questions.jsonl").read_text().splitlines()]
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "question": row["question"],
                    "id": str(number),
                    "answers": [
                        {"text": answer["text"], "answer_start": answer["start"]}
                        for answer in row["answers"]
                    ],
                }
            ],
        }
        for number, row in enumerate(rows)
    ]
    squad = {"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs}]}
    (tmp_path / "dev.json").write_text(json.dumps(squad))
    found = call("evaluate", "questions", "--data", str(tmp_path / "dev.json"))
    assert found.out == call("evaluate", "questions", "--data", "questions.jsonl").out
    assert len(call("predict", "questions", "--input", str(tmp_path / "dev.json")).answers) == len(
        rows
    )


def test_a_shell_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("_ENCODAX_COMPLETE", "complete_bash"), ("COMP_WORDS", "encodax embed"),
                        ("COMP_CWORD", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        typer.main.get_command(main.app)(prog_name="encodax")
    assert capsys.readouterr().out.split() == ["embed", "embed-corpus"]


@pytest.mark.parametrize("arguments", [["--input", "-"], []])
@pytest.mark.parametrize("content", [b"good\nbad\n", b'{"text": "good"}\n\n{"text": "bad"}'])
def test_standard_input_is_read(call: Call, arguments: list[str], content: bytes) -> None:
    outcome = call("predict", "model", *arguments, stdin=content)
    assert labels_of(outcome) == [("good", "yes"), ("bad", "no")]


def test_no_input_has_no_answer(call: Call) -> None:
    assert call("predict", "model", "--input", "-", stdin=b"") == Outcome(0, "", "")


def test_answers_go_to_a_file(call: Call, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("older\n")
    assert call("predict", "model", "good", "--output", str(output)) == Outcome(0, "", "")
    assert json.loads(output.read_text())["label"] == "yes"
    assert list(tmp_path.iterdir()) == [output]


def test_a_link_to_a_file_stays_a_link(call: Call, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "answers.jsonl")
    call("predict", "model", "good", "--output", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "answers.jsonl").read_text())["label"] == "yes"


def test_a_device_stays_a_device(call: Call) -> None:
    assert call("predict", "model", "good", "--output", os.devnull) == Outcome(0, "", "")
    assert not Path(os.devnull).is_file()


def test_pairs_are_answered(call: Call, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", PAIRS)
    answers = call("predict", "pairs", "--input", str(path)).answers
    assert [(a["text"], a["text_pair"], a["label"]) for a in answers] == [
        (record["text"], record["text_pair"], record["label"]) for record in PAIRS
    ]


def test_spans_are_aggregated_as_asked(call: Call) -> None:
    text = DAYS[0]["text"]
    (by_token,) = call("predict", "tags", text, "--aggregation", "none").answers
    assert all(span["end"] == span["start"] + 1 for span in by_token["spans"])
    for way in ("simple", "first", "average", "max"):
        (found,) = call("predict", "tags", text, "--aggregation", way).answers
        assert spans_of(found) == spans_of(DAYS[0])
    data = ("--data", "days.jsonl", "--aggregation")
    assert call("evaluate", "tags", *data, "first").answers[0]["f1"] == 1
    assert call("evaluate", "tags", *data, "none").answers[0]["f1"] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "model", "good"),
        ("evaluate", "model", "--data", "good.jsonl"),
        ("evaluate", "filler", "--data", "good.jsonl"),
    ],
)
def test_other_heads_have_no_aggregation(call: Call, command: tuple[str, ...]) -> None:
    refused = call(*command, "--aggregation", "first")
    assert_refused(refused, "aggregation 'first' is for token classification.*: leave it out")
    assert call(*command).code == 0
    assert_refused(call(*command, "--tag-scheme", "io"), "tag_scheme 'io' is for token class.*")


def test_a_long_text_is_tagged_in_windows(call: Call, tmp_path: Path) -> None:
    text = " and ".join(record["text"] for record in DAYS)
    refused = call("predict", "tags", text)
    assert_refused(refused, r"the model takes 32; .*--truncate, .*--stride N, stride=N\)")
    (found,) = call("predict", "tags", text, "--stride", "8").answers
    assert max(span["end"] for span in found["spans"]) > 64
    path = write_lines(tmp_path / "long.jsonl", [found])
    measured = call("evaluate", "tags", "--data", str(path), "--stride", "8").answers[0]
    assert measured["f1"] == 1
    assert_refused(call("predict", "tags", text, "--stride", "-1"), "stride -1 is below 0")
    assert_refused(call("predict", "tags", text, "--stride", "30"), "stride 30 .* holds 30 tokens")
    told = "stride 8 is for token classification, and the model is one for"
    assert_refused(call("predict", "model", "good", "--stride", "8"), told)


def test_several_answers_are_asked_for(call: Call, tmp_path: Path) -> None:
    record = {"question": "which colour?", "context": "then a red cat ran"}
    command = ("predict", "questions", "--input", str(write_lines(tmp_path / "a.jsonl", [record])))
    (one,) = call(*command).answers
    assert one["answer"].keys() == {"text", "start", "end", "score", "no_answer_score"}
    (found,) = call(*command, "--top-k", "3", "--max-answer-tokens", "1").answers
    alternatives = found["answer"].pop("alternatives")
    assert len({each["text"] for each in (found["answer"], *alternatives)}) == 3
    assert all(each.keys() == one["answer"].keys() for each in alternatives)
    assert_refused(call(*command, "--top-k", "0"), "top_k 0 is below 1")
    told = "top_k 3 is for question answering, and the model is one for .*: leave it out"
    assert_refused(call("predict", "model", "good", "--top-k", "3"), told)


def test_a_scheme_of_tags_is_asked_for(call: Call, tmp_path: Path) -> None:
    record = {"tokens": ["on", "Monday", "we", "met"], "tags": ["O", "E-mail", "O", "O"]}
    path = write_lines(tmp_path / "tags.jsonl", [record])
    command = ("evaluate", "tags", "--data", str(path))
    assert_refused(call(*command, "--tag-scheme", "iob"), "'E-mail' is not in the scheme iob .*")
    told = call(*command)
    assert told.code == 2
    note, error = told.err.splitlines()
    assert note.startswith("note: tags are read as io (names of spans, with O)")
    assert "unknown label 'B-E-mail'" in error


def test_spans_are_answered(call: Call) -> None:
    answers = call("predict", "tags", "--input", "days.jsonl").answers
    assert [spans_of(answer) for answer in answers] == [spans_of(record) for record in DAYS]
    assert answers[0]["spans"][0].keys() == {"start", "end", "label", "score"}
    assert call("evaluate", "tags", "--data", "days.jsonl").answers[0]["f1"] == 1


@pytest.mark.parametrize(
    ("run", "records", "fields"),
    [
        (labeller, TRAITS, {"text", "labels", "label", "score", "scores"}),
        (scorer, STARS, {"text", "label", "score", "scores"}),
        (ranker, MATCHES, {"query", "text", "label", "score", "scores"}),
    ],
)
def test_a_sequence_may_have_any_kind_of_scores(
    call: Call,
    tmp_path: Path,
    run: Callable[[], TrainResult],
    records: list[dict[str, Any]],
    fields: set[str],
) -> None:
    model, data = str(tmp_path / "model"), str(write_lines(tmp_path / "data.jsonl", records))
    run().model.save(model)
    (metrics,) = call("evaluate", model, "--data", data).answers
    metrics.pop("classes", None)
    wanted = {name: value for name, value in run().metrics.items() if name != "loss"}
    assert metrics == pytest.approx(wanted, abs=1e-6)
    answers = call("predict", model, "--input", data).answers
    for record, answer in zip(records, answers, strict=True):
        assert answer.keys() == fields
        assert [answer[name] for name in ("query", "text") if name in record] == [
            record[name] for name in ("query", "text") if name in record
        ]


def test_long_texts_are_cut_and_counted(call: Call) -> None:
    outcome = call("predict", "model", "--input", "long.jsonl", "--truncate")
    assert outcome.code == 0
    assert [answer["label"] for answer in outcome.answers] == ["yes", "yes"]
    assert outcome.err == "note: 1 texts were cut to 32 tokens\n"


def test_a_model_is_overwritten_where_asked(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "model"
    shutil.copytree("model", out)
    (out / "notes.txt").write_text("mine")
    data = ["--train", "good.jsonl", "--eval", "good.jsonl"]
    outcome = call(*call_train(*data, "--out", str(out), "--overwrite", *NEW_MODEL))
    assert outcome.answers[0]["accuracy"] == 1
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "metrics.jsonl").read_text().count("eval_accuracy") == 10
    encodax.load(out)


def test_the_version_is_told(call: Call) -> None:
    assert call("--version") == Outcome(0, f"encodax {encodax.__version__}\n", "")


EXAMPLES = {
    "train": "encodax train classification --train",
    "evaluate": "encodax evaluate runs/",
    "predict": "encodax predict runs/",
    "embed": "encodax embed sentence-transformers/all-MiniLM-L6-v2",
    "embed-corpus": "encodax embed-corpus MODEL --input",
    "fill-mask": "encodax fill-mask google-bert/",
    "search": "encodax search MODEL --corpus",
    "rerank": "encodax rerank cross-encoder/",
    "explore": "encodax explore sentence-transformers/all-MiniLM-L6-v2",
}


@pytest.mark.parametrize("command", EXAMPLES)
def test_a_help_page_has_an_example(call: Call, command: str) -> None:
    page = " ".join(re.sub(r"[│╭╮╰╯─]", " ", call(command, "--help").out).split())
    assert EXAMPLES[command] in page


def test_every_command_has_help(call: Call) -> None:
    for command in (*EXAMPLES, "info", "demo"):
        assert command in call("--help").out
        assert "Usage" in call(command, "--help").out


# Models for other uses.


def test_every_use_in_a_process_of_its_own(
    site: Path, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    texts = b"good thing\nbad thing\ngood\n"
    cases: dict[str, tuple[list[str], bytes]] = {
        "embed": (["embed", "embedder", "--input", "-"], texts),
        "search": (["search", "embedder", "good thing", "--corpus", "-", "--top-k", "2"], texts),
        "rerank": (["rerank", "reranker", "good"], texts),
        "fill-mask": (["fill-mask", "filler", "--input", "-", "--top-k", "3"], b"a [MASK] thing\n"),
        "predict": (["predict", "questions"], (site / "questions.jsonl").read_bytes()),
    }
    keys = {
        "embed": {"text", "vector"},
        "search": {"query", "score", "index", "text"},
        "rerank": {"query", "score", "index", "text"},
        "fill-mask": {"text", "mask", "guesses"},
        "predict": {"question", "context", "answer"},
    }
    with ThreadPoolExecutor(2) as pool:
        outcomes = {
            name: pool.submit(real, site, *arguments, stdin=None, input=stdin)
            for name, (arguments, stdin) in cases.items()
        }
    lines = {"embed": 3, "search": 2, "rerank": 3, "fill-mask": 1, "predict": len(LONG_QUESTIONS)}
    for name in cases:
        with subtests.test(name):
            outcome = outcomes[name].result()
            noted = "note: " if name == "search" else ""
            assert (outcome.code, outcome.err[:6]) == (0, noted)
            assert len(outcome.answers) == lines[name]
            assert all(answer.keys() == keys[name] for answer in outcome.answers)


def vectors_of(texts: list[str], prompt: str | None = None) -> np.ndarray:
    return encodax.Embedder.load("embedder").encode(texts, prompt=prompt)


@pytest.mark.parametrize("prompt", [None, "query"])
def test_texts_become_vectors_in_any_format(call: Call, tmp_path: Path, prompt: str | None) -> None:
    texts = ["good thing", "bad", "a good, bad thing"]
    wanted = vectors_of(texts, prompt)
    chosen = [] if prompt is None else ["--prompt", prompt]
    lines = call("embed", "embedder", *texts, *chosen).answers
    assert [line["text"] for line in lines] == texts
    np.testing.assert_array_equal(np.float32([line["vector"] for line in lines]), wanted)
    for ending in ("npy", "parquet", "jsonl"):
        path = tmp_path / f"a.{ending}"
        assert call("embed", "embedder", *texts, *chosen, "--output", str(path)).code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), wanted)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table["text"].to_pylist() == texts
    np.testing.assert_array_equal(np.float32(table["vector"].to_pylist()), wanted)
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert written == lines


@pytest.mark.parametrize("kind", ["float32", "int8", "binary"])
def test_vectors_take_fewer_bytes(call: Call, tmp_path: Path, kind: str) -> None:
    texts = [record["text"] for record in SENTIMENT]
    wanted, ranges = vectors_of(texts), None
    path = tmp_path / "a.npy"
    choices = ["--vectors", kind, "--output", str(path)]
    if kind == "int8":
        ranges = vectors.ranges_of(wanted)
        made = ["--output", str(tmp_path / "b.npy"), "--save-ranges", str(tmp_path / "r.json")]
        assert call("embed", "embedder", "--input", "good.jsonl", *made) == Outcome(0, "", "")
        choices += ["--ranges", str(tmp_path / "r.json")]
    outcome = call("embed", "embedder", "--input", "good.jsonl", *choices)
    assert outcome == Outcome(0, "", "")
    stored = vectors.converter(kind, ranges)
    np.testing.assert_array_equal(np.load(path), stored(wanted))
    assert call("embed", "embedder", "--input", "-", *choices, stdin=b"").code == 0
    assert len(np.load(path)) == 0
    (line,) = call("embed", "embedder", texts[0], *choices[:2], *choices[4:]).answers
    assert line["vector"] == stored(vectors_of(texts[:1]))[0].tolist()  # alone as among others


def test_int8_is_refused_without_the_ranges_of_a_corpus(call: Call, tmp_path: Path) -> None:
    ranges = str(tmp_path / "r.json")
    one = ["embed", "embedder", "good", "--vectors", "int8"]
    way_out = "encodax embed MODEL --input CORPUS --output vectors.npy --save-ranges FILE"
    assert_refused(call(*one), f"int8 needs the ranges of a corpus.*--ranges FILE; .*{way_out}")
    assert_refused(call(*one, "--ranges", ranges), f"r.json does not exist; .*{way_out}")
    assert_refused(
        call(*one, "--ranges", ranges, "--save-ranges", ranges), "--ranges or --save-ranges, not"
    )
    assert_refused(call(*one[:3], "--ranges", ranges), "r.json does not exist")
    outcome = call(*one[:3], "--save-ranges", ranges)
    assert "the ranges come from one vector" in outcome.err
    assert outcome.code == 2
    assert not list(tmp_path.iterdir())


def test_a_model_without_module_files_embeds_too(call: Call) -> None:
    (line,) = call("embed", "model", "good thing").answers
    assert len(line["vector"]) == 16


def test_a_corpus_is_searched(call: Call, tmp_path: Path) -> None:
    texts = ["good thing", "bad thing", "a bad text", "good"]
    (tmp_path / "corpus.txt").write_text("\n".join(texts))
    queries = ["good thing", "one bad text"]
    outcome = call(
        "search", "embedder", *queries, "--corpus", str(tmp_path / "corpus.txt"), "--top-k", "3"
    )
    scores = vectors_of(queries, "query") @ vectors_of(texts, "document").T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    assert outcome.err == (
        "note: 'good ' is put before each query: it is the model's prompt\n"
        "note: 'a ' is put before each text of the corpus: it is the model's prompt\n"
    )
    assert [(line["query"], line["index"], line["text"]) for line in outcome.answers] == [
        (query, index, texts[index])
        for query, row in zip(queries, order.tolist(), strict=True)
        for index in row
    ]
    found = [line["score"] for line in outcome.answers]
    np.testing.assert_allclose(found, np.take_along_axis(scores, order, 1).ravel(), rtol=1e-5)
    many = call("search", "embedder", LONG, "--corpus", "good.jsonl", "--truncate")
    assert many.code == 0
    assert len(many.answers) == 5


BEIR: list[dict[str, Any]] = [
    {"_id": "d7", "title": "good", "text": "thing", "metadata": {}},
    {"_id": "d8", "title": "", "text": "bad thing"},
    {"_id": 9, "title": "bad", "text": ""},
]


def test_a_ranking_of_beir_keeps_its_ids_and_shows_what_was_scored(
    call: Call, tmp_path: Path
) -> None:
    write_lines(tmp_path / "corpus.jsonl", BEIR)
    found = call("rerank", "reranker", "good", "--input", str(tmp_path / "corpus.jsonl")).answers
    ranked = encodax.Reranker.load("reranker").rank("good", ["good thing", "bad thing", "bad"])
    assert [(line["_id"], line["text"], line["score"]) for line in found] == [
        (("d7", "d8", "9")[item.index], item.text, item.score) for item in ranked
    ]


def test_a_corpus_of_beir_keeps_its_ids(call: Call, tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", BEIR)
    found = call("search", "embedder", "good thing", "--corpus", str(tmp_path / "corpus.jsonl"))
    texts = ["good thing", "bad thing", "bad"]
    scores = vectors_of(["good thing"], "query") @ vectors_of(texts, "document").T
    order = np.argsort(-scores[0], kind="stable").tolist()
    lines = [(line["_id"], line["index"], line["text"]) for line in found.answers]
    assert lines == [(("d7", "d8", "9")[index], index, texts[index]) for index in order]


@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_texts_are_reranked(call: Call, top_k: int | None) -> None:
    chosen = [] if top_k is None else ["--top-k", str(top_k)]
    outcome = call("rerank", "reranker", "good", *chosen, stdin=b"bad thing\ngood\na thing\n")
    ranked = encodax.Reranker.load("reranker").rank("good", ["bad thing", "good", "a thing"])
    assert outcome.answers == [
        {"query": "good", "score": item.score, "index": item.index, "text": item.text}
        for item in ranked[:top_k]
    ]


def test_scores_that_a_cross_encoder_would_not_give_are_noted_once(call: Call) -> None:
    note = "note: scores: softmax of the logits, and CrossEncoder of sentence-transformers gives "
    outcome = call("rerank", "model", "good", stdin=b"bad thing\ngood\n")
    assert outcome.err.startswith(note)
    assert len(outcome.err.splitlines()) == 1
    note = "note: scores: logits, and CrossEncoder .*: encodax rerank gives those too\n"
    pairs = b'{"query": "good", "text": "bad"}\n' * 2
    assert re.fullmatch(note, call("predict", "reranker", "--input", "-", stdin=pairs).err)
    assert call("predict", "reranker", "good").err == ""  # a regression, as far as it is known
    assert "encodax rerank gives those too\n" in call("info", "reranker").out


def test_vectors_of_a_cross_encoder_are_noted(call: Call) -> None:
    outcome = call("embed", "reranker", "good")
    assert outcome.code == 0
    assert re.fullmatch(
        r"note: the model scores texts or pairs, .* `encodax rerank` .*\n", outcome.err
    )


def test_masks_are_filled(call: Call) -> None:
    texts = ["a [MASK] thing", "[MASK] good [MASK]"]
    answers = call("fill-mask", "filler", *texts, "--top-k", "2").answers
    assert [(answer["text"], answer["mask"]) for answer in answers] == [
        (texts[0], 0), (texts[1], 0), (texts[1], 1)
    ]  # fmt: skip
    found = encodax.FillMask.load("filler", top_k=2).predict(texts)
    wanted = [
        [dataclasses.asdict(guess) for guess in guesses] for text in found for guesses in text
    ]
    assert [answer["guesses"] for answer in answers] == wanted


def test_questions_are_answered_from_contexts_of_any_length(call: Call) -> None:
    answers = call("predict", "questions", "--input", "questions.jsonl").answers
    for record, answer in zip(LONG_QUESTIONS, answers, strict=True):
        assert answer["question"] == record["question"]
        assert answer["context"] == record["context"]
        found = answer["answer"]
        assert record["context"][found["start"] : found["end"]] == found["text"]
    (measured,) = call("evaluate", "questions", "--data", "questions.jsonl").answers
    assert measured["exact_match"] >= 0.8


def test_question_answering_is_trained(call: Call, tmp_path: Path) -> None:
    data = ["--train", "questions.jsonl", "--eval", "questions.jsonl"]
    out = ["--out", str(tmp_path / "model"), "--overwrite"]
    begin = ["--model", "questions", "--steps", "1"]
    outcome = call("train", "question-answering", *data, *out, *begin)
    assert outcome.code == 0, outcome.err
    assert outcome.answers[0].keys() == {"model", "step", "exact_match", "f1", "loss"}
    encodax.QuestionAnswerer.load(tmp_path / "model")


HOSTILE = "[/b] \x1b[31m\u202e[red]"


def test_brackets_and_control_characters_are_text_to_a_terminal(call: Call, tmp_path: Path) -> None:
    records = [{"text": f"{word} thing", "label": f"{word}{HOSTILE}"} for word in ("good", "bad")]
    (tmp_path / "data[").mkdir()  # a path with [/b] in it is one of two folders
    data = str(write_lines(tmp_path / f"data{HOSTILE}.jsonl", records * 2))
    out = tmp_path / f"out{HOSTILE}"
    shape = ["--layers", "1", "--width", "8", "--heads", "2", "--steps", "1"]
    outcome = call(*call_train("--train", data, "--eval", data, "--out", str(out), *shape))
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.err and "\u202e" not in outcome.err
    plain = str(out).replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert f"model: {plain}\n" in outcome.err and f"report: {plain}/report.html" in outcome.err
    page = (out / "report.html").read_text()
    assert "\x1b" not in page and "\u202e" not in page
    told = call("info", str(out))
    assert r"good[/b] \x1b[31m\u202e[red]" in told.out and "\x1b" not in told.out
    (answer,) = call("predict", str(out), "good thing").answers
    assert answer["label"].endswith(HOSTILE)
    for arguments in (
        ["predict", f"no{HOSTILE}", "a"],
        ["predict", str(out), "--input", f"no{HOSTILE}.txt"],
        ["predict", str(out), f"--{HOSTILE}"],
        [f"no{HOSTILE}"],
        call_train("--train", data, "--eval", data, "--out", str(out)),
    ):
        outcome = call(*arguments)
        assert outcome.code == 2
        assert r"\x1b[31m\u202e" in outcome.err and "[/b]" in outcome.err
        assert "\x1b" not in outcome.err and "\u202e" not in outcome.err


def test_a_warning_is_a_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    show, handlers = warnings.showwarning, list(logging.getLogger("encodax").handlers)

    def app() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"of {HOSTILE}", stacklevel=1)
        raise SystemExit(0)

    monkeypatch.setattr(main, "app", app)
    assert call().err == r"warning: of [/b] \x1b[31m\u202e[red]" + "\n"
    assert warnings.showwarning is show  # a program that calls `main` has its own again
    assert logging.getLogger("encodax").handlers == handlers


# Texts that are empty.

HOLES = "good\n\nbad\n\u200b\n \ngood thing\n"


def found_in(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(line["text"], line["label"]) for line in outcome.answers]


def holes(folder: Path) -> str:
    path = folder / "holes.txt"
    path.write_text(HOLES)
    return str(path)


def test_empty_texts_are_refused_with_a_way_out(call: Call, tmp_path: Path) -> None:
    path = holes(tmp_path)
    way_out = r"; write a text, or choose what to do with empty ones: --on-empty "
    for command in (["predict", "model"], ["embed", "embedder"]):
        outcome = call(*command, "--input", path)
        assert_refused(outcome, f"holes.txt, line 2: the text is empty{way_out}skip or keep")
    for command in (
        ["search", "embedder", "good", "--corpus", path],
        ["rerank", "reranker", "good", "--input", path],
        ["fill-mask", "filler", "[MASK]", "\u200b"],
    ):
        assert_refused(call(*command), rf"(line 2|text 1): the text is empty{way_out}skip \(")
    assert_refused(
        call("predict", "model", "good", "\u200b"), f"text 1: the text is empty{way_out}"
    )


def test_empty_texts_keep_their_places_or_are_left_out(call: Call, tmp_path: Path) -> None:
    path = holes(tmp_path)
    kept = call("predict", "model", "--input", path, "--on-empty", "keep")
    assert found_in(kept) == [
        ("good", "yes"), ("", None), ("bad", "no"), ("\u200b", None), (" ", None),
        ("good thing", "yes"),
    ]  # fmt: skip
    assert kept.answers[1] == {"text": "", "label": None, "score": None, "scores": None}
    told = f"note: 3 texts are empty and {{}}, the first: {path}, line 2\n"
    assert kept.err == told.format("given empty answers")
    left = call("predict", "model", "--input", path, "--on-empty", "skip")
    assert found_in(left) == [("good", "yes"), ("bad", "no"), ("good thing", "yes")]
    assert left.err == told.format("left out")
    nothing = call("predict", "model", "--on-empty", "keep", " ", "")
    assert found_in(nothing) == [(" ", None), ("", None)]


def test_vectors_of_empty_texts_are_zeros_or_left_out(call: Call, tmp_path: Path) -> None:
    path, output = holes(tmp_path), str(tmp_path / "v.npy")
    assert (
        call("embed", "embedder", "--input", path, "--on-empty", "keep", "--output", output).code
        == 0
    )
    kept = np.load(output)
    assert (np.abs(kept).sum(axis=1) == 0).tolist() == [False, True, False, True, True, False]
    assert (
        call("embed", "embedder", "--input", path, "--on-empty", "skip", "--output", output).code
        == 0
    )
    assert np.array_equal(np.load(output), kept[[0, 2, 5]])
    # A prompt does not hide that a text is empty.
    outcome = call("embed", "embedder", "good", "\u200b", "--prompt", "query")
    assert_refused(outcome, "text 1: the text is empty; ")


def test_what_is_found_has_the_numbers_of_the_file(call: Call, tmp_path: Path) -> None:
    path = holes(tmp_path)
    found = call("search", "embedder", "good", "--corpus", path, "--on-empty", "skip").answers
    assert {(hit["index"], hit["text"]) for hit in found} == {
        (0, "good"), (2, "bad"), (5, "good thing"),
    }  # fmt: skip
    ranked = call("rerank", "reranker", "good", "--input", path, "--on-empty", "skip").answers
    assert {(item["index"], item["text"]) for item in ranked} == {
        (0, "good"), (2, "bad"), (5, "good thing"),
    }  # fmt: skip


def test_answers_before_an_error_are_kept(call: Call, tmp_path: Path) -> None:
    path, output = tmp_path / "texts.txt", tmp_path / "out.jsonl"
    path.write_text(f"good\nbad\n{LONG}\ngood\n")
    output.write_text("older\n")
    outcome = call("predict", "model", "--input", str(path), "--output", str(output))
    kept = f"the 2 lines that come before it are kept in {output}.partial"
    assert_refused(outcome, rf"texts.txt, line 3: 42 tokens, .*--truncate.*; {kept}")
    lines = Path(f"{output}.partial").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["good", "bad"]
    assert output.read_text() == "older\n"
    shown = call("predict", "model", "--input", str(path))  # to standard output too
    assert found_in(shown) == [("good", "yes"), ("bad", "no")]
    output = tmp_path / "v.npy"
    outcome = call("embed", "embedder", "--input", str(path), "--output", str(output))
    kept = f"the 2 vectors that come before it are kept in {output}.partial"
    assert_refused(outcome, rf"line 3: .* tokens, .*; {kept}")
    with open(f"{output}.partial", "rb") as file:
        assert np.load(file).shape[0] == 2


def test_empty_records_of_data_are_left_out_where_asked(call: Call, tmp_path: Path) -> None:
    records = [*SENTIMENT, {"text": "", "label": "yes"}, {"text": None, "label": "yes"}]
    data = str(write_lines(tmp_path / "data.jsonl", records))
    outcome = call("evaluate", "model", "--data", data)
    assert_refused(outcome, r"line 17: the text is empty; .* --on-empty skip \(on_empty=\)")
    outcome = call("evaluate", "model", "--data", data, "--on-empty", "skip")
    assert outcome.answers[0]["accuracy"] == 1
    assert outcome.err == f"note: 2 texts are empty and left out, the first: {data}, line 17\n"
    train = call_train("--train", data, "--eval", data, "--out", "new", *NEW_MODEL)
    assert_refused(call(*train), r"data.jsonl, line 17: the text is empty; .* --on-empty skip")
    outcome = call(*train, "--on-empty", "skip", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(f"note: 2 texts are empty and left out, the first: {data}, li") == 2


def test_unknown_labels_are_named_all_at_once(call: Call, tmp_path: Path) -> None:
    wrong = [{"text": "good", "label": label} for label in ("x", "y", "x")]
    data = str(write_lines(tmp_path / "data.jsonl", [*SENTIMENT, *wrong]))
    outcome = call("evaluate", "model", "--data", data)
    told = r"line 17: unknown labels 'x' \(2 records\), 'y'; the model knows: no, yes"
    assert_refused(outcome, told)


def test_labels_seen_once_are_noted(call: Call) -> None:
    outcome = call(*call_train("--train", "once.jsonl", "--eval", "once.jsonl", "--out", "new",
                               *NEW_MODEL, "--dry-run"))  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = "note: a label is seen once, so little can be learned about it: 'z' (once.jsonl, line 5)"
    assert told in outcome.err.splitlines()


# Pipes.


def test_pipes_are_read_where_files_are(site: Path) -> None:
    def bash(command: str) -> Outcome:
        script = f'encodax() {{ {shlex.join(COMMAND)} "$@"; }}; {command}'
        done = subprocess.run(["bash", "-c", script], cwd=site, capture_output=True)
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    answers = bash("encodax predict model --input <(cat good.jsonl | gzip)").answers
    assert [answer["label"] for answer in answers] == [record["label"] for record in SENTIMENT]
    data = bash("cat good.jsonl | encodax evaluate model --data /dev/stdin")
    assert data.answers[0]["accuracy"] == 1


def start(site: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with pipes on all sides."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *arguments], cwd=site, stdin=pipe, stdout=pipe, stderr=pipe)


def test_answers_come_as_lines_come(site: Path) -> None:
    """Whole lines alone, the first before the second is sent; and all that come before an error."""
    with start(site, "predict", "model") as process:
        assert process.stdin and process.stdout and process.stderr

        def answers_of(sent: bytes, count: int) -> list[str]:
            assert process.stdin and process.stdout
            process.stdin.write(sent)
            process.stdin.flush()
            return [json.loads(process.stdout.readline())["text"] for _ in range(count)]

        assert answers_of(b"good\n", 1) == ["good"]
        assert answers_of(b"bad\ngood thing\ncaf\xc3", 2) == ["bad", "good thing"]
        assert answers_of(b"\xa9\nbad thing\ngood \xff\nnever", 2) == ["café", "bad thing"]
        assert process.stdout.read() == b""  # it ends, though the pipe is open
        assert re.fullmatch(rb"error: standard input, line 6: not UTF-8.*\n", process.stderr.read())
    assert process.returncode == 2


def test_an_interrupt_of_a_silent_pipe_keeps_what_was_answered(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with (
        start(site, "fill-mask", "filler") as process,
        start(site, "predict", "model", "--output", str(output)) as other,
    ):
        for each, text in ((process, b"a [MASK]\n"), (other, b"good\n")):
            assert each.stdin
            each.stdin.write(text)
            each.stdin.flush()
        assert process.stdout and other.stderr and process.stderr
        assert json.loads(process.stdout.readline())["text"] == "a [MASK]"
        while not any(file.stat().st_size for file in tmp_path.iterdir()):
            time.sleep(0.1)
        for each in (process, other):
            each.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
        kept = f"note: the one line that comes before it is kept in {output}.partial\n"
        assert other.stderr.read().decode() == kept
    assert (process.returncode, other.returncode) == (130, 130)
    assert json.loads(Path(f"{output}.partial").read_text())["text"] == "good"


def test_a_batch_is_waited_for_as_long_as_asked(call: Call) -> None:
    for command in (["predict", "model"], ["fill-mask", "filler"]):
        assert call(*command, "--max-wait", "-1", stdin=b"good [MASK]\n").code == 2
        found = call(*command, "--max-wait", "0", stdin=b"good [MASK]\nbad [MASK]\n")
        assert [answer["text"] for answer in found.answers] == ["good [MASK]", "bad [MASK]"]


# Standard streams.


def test_a_closed_output_is_told_before_the_work(site: Path) -> None:
    for closed, told in (
        (">&-", "error: standard output is closed; send it to a file, or to /dev/null\n"),
        ("<&- >&- 2>&-", ""),
    ):
        script = f'exec "$@" {closed}'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *COMMAND, "--version"], cwd=site, stderr=subprocess.PIPE
        )
        assert (done.returncode, done.stderr.decode()) == (2, told)


def test_a_closed_input_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real_setattr = monkeypatch.setattr

    def closed(target: Any, name: str, value: Any) -> None:
        real_setattr(target, name, None if name == "stdin" else value)

    monkeypatch.setattr(monkeypatch, "setattr", closed)
    for command in (
        ["predict", "model"],
        ["evaluate", "model", "--data", "-"],
        ["embed", "embedder", "--input", "-"],
        ["explore", "model", "-"],
    ):
        assert_refused(call(*command), "standard input is closed; send something to it, or give")
    assert call("predict", "model", "good").code == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_answers_are_utf_8_whatever_the_locale(
    site: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.chdir(site)
    written, told = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(told, "ascii"))
    for arguments, code in ((["predict", "model", "café"], 0), (["info", "caf\udce9é"], 2)):
        monkeypatch.setattr(sys, "argv", ["encodax", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert (stop.value.code or 0) == code
    assert json.loads(written.getvalue().decode("utf-8"))["text"] == "café"
    sys.stderr.flush()
    assert told.getvalue().startswith(b"error: caf\\udce9\\xe9 does not exist")


def test_half_a_character_is_an_escape_of_json(tmp_path: Path) -> None:
    with sources.open_output(tmp_path / "out.jsonl") as stream:
        stream.write(json_line({"label": "a\ud800"}))
    json_files.write(tmp_path / "config.json", {"label": "a\ud800"})
    for name in ("out.jsonl", "config.json"):
        assert json.loads((tmp_path / name).read_bytes()) == {"label": "a\ud800"}


# Where output ends.


@pytest.mark.parametrize("lines", [1, 3000])
def test_a_reader_may_leave(site: Path, lines: int) -> None:
    with subprocess.Popen(
        [*COMMAND, "predict", "model", "--input", "-"],
        cwd=site,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        if lines == 1:
            process.stdout.close()  # before there is anything to read, as `| true` does
        process.stdin.write(b"good thing\n" * lines)
        process.stdin.close()
        if lines > 1:
            assert json.loads(process.stdout.readline())["label"] == "yes"
            process.stdout.close()  # as `| head -1` does
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_may_leave_any_command(site: Path, stream: str) -> None:
    """Also where Typer or rich writes, each of which has a way of its own with broken pipes."""
    commands = {
        "stdout": [["--help"], ["predict", "--help"], ["--version"], ["info", "model"]],
        "stderr": [["predict", "--colour"], ["info", "missing"]],
    }
    for command in commands[stream]:
        reader, writer = os.pipe()
        os.close(reader)
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer}
        done = subprocess.run([*COMMAND, *command], cwd=site, stdin=subprocess.DEVNULL, **how)
        os.close(writer)
        assert (done.returncode, done.stdout or b"", done.stderr or b"") == (141, b"", b""), command


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_output_is_told(site: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert_refused(real(site, "info", "model", stdout=full), "No space left")


def test_an_interrupt_ends_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **choices: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("encodax.training.train", interrupted)
    outcome = call(*call_train("--train", "good.jsonl", "--eval", "good.jsonl", "--out", "new"))
    assert outcome == Outcome(130, "", "")


# What cannot be.

NEW = ["--eval", "good.jsonl", "--out", "new", *NEW_MODEL]
GOOD = ["--train", "good.jsonl", *NEW]

REFUSED: dict[str, tuple[list[str], str]] = {
    "missing file": (call_train("--train", "missing.jsonl", *NEW), "missing.jsonl does not exist"),
    "unreadable line": (
        ["predict", "model", "--input", "bad.jsonl"],
        "bad.jsonl, line 2: not JSON",
    ),
    "unknown label": (
        ["evaluate", "model", "--data", "unknown.jsonl"],
        "unknown.jsonl, line 2: unknown label 'maybe'; the model knows: no, yes",
    ),
    "empty text": (
        ["predict", "model", "--input", "empty_text.jsonl"],
        "empty_text.jsonl, line 2: the text is empty",
    ),
    "long text": (
        ["predict", "model", "--input", "long.jsonl", "--output", "answers.jsonl"],
        r"long.jsonl, line 2: 42 tokens, and the model takes 32; .*\(--truncate",
    ),
    "other encoding": (
        ["predict", "model", "--input", "latin.txt"],
        "latin.txt, line 2: not UTF-8; .* iconv -f latin1 -t utf-8 latin.txt",
    ),
    "nothing to learn": (call_train("--train", "empty.jsonl", *NEW), "empty.jsonl: .* is empty"),
    "existing output": (
        call_train("--train", "good.jsonl", "--eval", "good.jsonl", "--out", "model", *NEW_MODEL),
        "model exists; choose another place, .*--overwrite",
    ),
    "schedule": (call_train(*GOOD, "--schedule", "foo"), "'foo' is not one of: cosine, linear"),
    "tokenizer": (call_train(*GOOD, "--tokenizer", "foo"), "'foo' is not one of: wordpiece, bpe"),
}
"""Each in a process of its own."""


def test_what_cannot_be_is_one_line_and_loses_nothing(
    site: Path, subtests: pytest.Subtests
) -> None:
    before = snapshot(site)
    cases: dict[str, tuple[list[str], str, int | None]] = {
        name: (arguments, message, None) for name, (arguments, message) in REFUSED.items()
    }
    cases["full disk, answers"] = (
        ["predict", "model", "--input", "good.jsonl", "--output", "answers.jsonl"],
        "answers.jsonl cannot be written: File too large",
        1,
    )
    with ThreadPoolExecutor(2) as pool:
        outcomes = {
            name: pool.submit(real, site, *arguments, limit=limit)
            for name, (arguments, _, limit) in cases.items()
        }
    for name, (_, message, _) in cases.items():
        with subtests.test(name):
            assert_refused(outcomes[name].result(), message)
    assert len((site / "answers.jsonl.partial").read_text().splitlines()) == 1  # of a long text
    (site / "answers.jsonl.partial").unlink()
    assert snapshot(site) == before


def test_a_disk_that_fills_up_loses_nothing(site: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be made here")
    try:
        shutil.copytree(site / "model", disk / "model")
        before = snapshot(disk)
        data = ["--train", "good.jsonl", "--eval", "good.jsonl"]
        out = ["--out", str(disk / "model"), "--overwrite"]
        outcome = real(site, *call_train(*data, *out, *NEW_MODEL))
        assert_refused(outcome, "cannot be written: it needs .* bytes, and the disk has .* left")
        assert snapshot(disk) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "poetry", *GOOD], "task 'poetry' is not one of: classification, multi-"),
        (call_train(*GOOD, "--heads", "3", "--width", "128"), "128 is not a multiple of heads 3"),
        (call_train(*GOOD, "--steps", "0"), "steps = 0 is not above 0"),
        (call_train(*GOOD, "--epochs", "3"), "give steps or epochs, not both"),
        (call_train(*GOOD, "--batch-tokens", "99"), "batch_tokens or batch_size, not both"),
        (call_train(*GOOD, "--learning-rate", "nan"), "learning_rate = nan"),
        (call_train(*GOOD, "--seed", "-1"), "seed = -1"),
        (call_train(*GOOD, "--lowercase", "--tokenizer", "bpe"), "lowercase is for the wordp"),
        (
            call_train(*GOOD, "--columns", "text,label"),
            "--columns is for csv, tsv, conll, conllu",
        ),
        (call_train(*GOOD, "--columns", "text=a,label"), "give the names of all columns, such as"),
        (
            ["evaluate", "model", "--data", "good.jsonl", "--columns", "text=body"],
            "good.jsonl, line 1: no field 'body', which --columns names .found: text, label",
        ),
        (
            ["evaluate", "model", "--data", "good.jsonl", "--target", "good.jsonl"],
            "--target is for translation, and the model is not a translator",
        ),
        (["evaluate", "model", "--data", "good.jsonl", "--to", "fra"], "--to is for translation"),
        (
            ["evaluate", "model", "--data", "good.jsonl", "--length-penalty", "0.6"],
            "--length-penalty is for translation, and the model is not a translator: leave it out",
        ),
        (
            ["evaluate", "model", "--data", "good.jsonl", "--bleu-tokenizer", "none"],
            "--bleu-tokenizer is for translation",
        ),
        (call_train(*GOOD, "--model", "model"), "the shape is that of the given model"),
        (
            call_train(*GOOD, "--max-positions", "4"),
            "good.jsonl, line .* tokens, and the model takes 4",
        ),
        (call_train("--train", "one_label.jsonl", *NEW), "every example has the label 'x'"),
        (call_train("--train", "unlabelled.jsonl", *NEW), "unlabelled.jsonl, line 1: needs a 'lab"),
        (call_train("--train", "latin.jsonl", *NEW), "latin.jsonl, line 1: not UTF-8"),
        (call_train("--train", ".", *NEW), r"out new lies in train \., which is an input: write"),
        (["train", "token-classification", *GOOD], "good.jsonl, line 1: needs 'spans'"),
        (
            ["train", "token-classification", "--train", "overlap.jsonl", *NEW],
            r"overlap.jsonl, line 1: the span 1\.\.3 overlaps",
        ),
        (
            call_train(*GOOD, "--out", "good.jsonl"),
            "out good.jsonl is the same as train good.jsonl",
        ),
        (
            call_train(*GOOD, "--out", "good.jsonl/new"),
            "good.jsonl/new lies in train good.jsonl, which",
        ),
        (["predict", "./missing", "good"], "./missing does not exist: give a model directory, or"),
        (["predict", "good.jsonl", "good"], "good.jsonl is a file: give a model directory, or the"),
        (["predict", "a/b/c", "good"], "a/b/c does not exist: give a model directory, or the id"),
        (["embed", "../missing", "good"], "../missing does not exist: give a model directory"),
        (["embed", "a b", "good"], "a b does not exist: give a model directory"),
        (["search", "./missing", "good", "--corpus", "good.jsonl"], "./missing does not exist"),
        (["rerank", "./missing", "good", "--input", "good.jsonl"], "./missing does not exist"),
        (["fill-mask", "./missing", "[MASK]"], "./missing does not exist"),
        (["embed", "./missing", "good", "--output", "a.txt"], "a.txt: .* .npy, .parquet, .jsonl"),
        (["embed", "./missing", "good", "--output", "vectors"], "vectors: .* must end in"),
        (["embed", "embedder", "good", "--prompt", "passage"], "no prompt 'passage'; it has: que"),
        (["embed", "embedder", "good", "--output", "no/a.npy"], "no/a.npy cannot be written"),
        (["embed", "embedder", LONG], "text 0: 42 tokens, and the model takes 32"),
        (["embed", "embedder", "--input", "empty_text.jsonl"], "empty_text.jsonl, line 2: the tex"),
        (["embed", "embedder", "good", "--input", "good.jsonl"], "texts or --input, not both"),
        (["embed", "embedder"], "nothing to read: give texts"),
        (["search", "embedder", "x", "--corpus", "missing.txt"], "missing.txt does not exist"),
        (["search", "embedder", "", "--corpus", "good.jsonl"], "the query is empty: write one"),
        (["search", "embedder", "x", " \u200b", "--corpus", "good.jsonl"], "the query is empty"),
        (["search", "embedder", "x", "--corpus", "empty.jsonl"], "empty.jsonl: there is no text"),
        (
            ["embed", "embedder", "x", "--save-ranges", "embedder/config.json"],
            "--save-ranges embedder/config.json is a file of the model",
        ),
        (
            ["embed", "embedder", "--input", "good.jsonl", "--save-ranges", "good.jsonl"],
            "--save-ranges good.jsonl is the same as --input good.jsonl",
        ),
        (call_train(*GOOD, "--warmup", "1"), "warmup = 1 is neither a share of the steps, below 1"),
        (["search", "embedder", LONG, "--corpus", "good.jsonl"], "text 0: 43 tokens"),
        (
            ["rerank", "three", "good", "--input", "good.jsonl"],
            "one score or two classes, .* 3",
        ),
        (
            ["rerank", "embedder", "good", "--input", "good.jsonl"],
            "the model is one for embeddings",
        ),
        (["fill-mask", "filler", "good"], r"text 0: the text has no \[MASK\] to fill"),
        (["fill-mask", "model", "[MASK]"], "the model has no masked-language-model head"),
        (["fill-mask", "filler", "[MASK]", "--top-k", "9999"], "top_k = 9999 is not in 1"),
        (["predict", "embedder", "good"], "the model is one for embeddings: use `encodax embed`"),
        (["predict", "filler", "good"], "use `encodax fill-mask`"),
        (["predict", "questions", "good"], r"text 0: no field 'question' \(found: text\)"),
        (["evaluate", "questions", "--data", "good.jsonl"], "good.jsonl, line 1: no field 'quest"),
        (["report", "model"], "model/metrics.jsonl, line 1: is not JSON"),
        (["report", "pairs"], "pairs/metrics.jsonl does not exist: a training run writes it"),
        (["predict", "no_config", "good"], "no_config/config.json does not exist"),
        (["predict", "no_weights", "good"], "no_weights/model.safetensors does not exist"),
        (["predict", "cut_weights", "good"], "cut_weights/model.safetensors cannot be read"),
        (["info", "bad_weights"], "bad_weights/model.safetensors cannot be read"),
        (
            ["info", "other_weights"],
            "other_weights/model.safetensors: .* is F32 .*, wanted F32",
        ),
        (["predict", "model", "good", "--input", "good.jsonl"], "texts or --input, not both"),
        (["predict", "model"], "nothing to read: give texts, or --input FILE, or --input -"),
        (["rerank", "reranker", "good"], "nothing to read: give texts, or --input FILE"),
        (["predict", "model", ""], "text 0: the text is empty"),
        (["predict", "model", "\u200b"], "text 0: the text is empty"),
        (["predict", "model", "caf\udce9"], "text 0: character 3 of the text, .* is not Unicode"),
        (["predict", "model", LONG], "text 0: 42 tokens, and the model takes 32"),
        (["predict", "model", "--input", "list.jsonl"], "list.jsonl, line 2: needs an object"),
        (["evaluate", "model", "--data", "number.jsonl"], "number.jsonl, line 1: needs a 'label'"),
        (["predict", "model", "--input", "deep.jsonl"], "deep.jsonl, line 1: cannot be read"),
        (["predict", "model", "--input", "half.jsonl"], "half.jsonl, line 1: character 5 of the"),
        (["predict", "model", "--input", "cells.csv"], "cells.csv, line 3: has 1 columns where 2"),
        (["predict", "model", "--input", "quote.csv"], "quote.csv, line 2: cannot be read"),
        (["predict", "model", "--input", "no_text.csv"], "no_text.csv, line 2: no field 'text'"),
        (["predict", "model", "--input", "cut.jsonl.gz"], "cut.jsonl.gz, after line .* be read"),
        (["predict", "model", "--input", "broken.jsonl.gz"], "broken.jsonl.gz, after line 0: can"),
        (["predict", "model", "--input", "plain.jsonl.gz"], "plain.jsonl.gz, after line 0: cannot"),
        (["predict", "model", "--input", "file.xyz"], "file.xyz: format 'xyz' is not one of: js"),
        (["predict", "model", "--input", "x" * 300], "x{300}"),
        (["predict", "model", "good", "--output", "no/a.jsonl"], "no/a.jsonl cannot be written"),
        (["predict", "model", "good", "--output", "."], r"\. is a folder: name a file in it"),
        (["predict", "./missing", "good", "--output", "no/a"], "no/a .* no folder .*no; make it"),
        (["predict", "model", "--input", "good.jsonl", "--output", "./good.jsonl"], "is the same"),
        (["predict", "model", "good", "--output", "model/config.json"], "is a file of the model"),
        (["embed", "embedder", "good", "--output", "no/v.npy"], "no/v.npy .* no folder .*no"),
        (["predict", "model", "good", "--output", "file.xyz/a"], "file.xyz/a cannot be written"),
        (["evaluate", "model", "--data", "empty.jsonl"], "empty.jsonl: the file is empty"),
        (["evaluate", "model", "--data", "blank.jsonl"], "blank.jsonl: the file is empty"),
        (["evaluate", "model", "--data", "unlabelled.jsonl"], "line 1: needs a 'label'"),
        (["evaluate", "model", "--data", "days.jsonl"], "days.jsonl, line 1: needs a 'label'"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Call, site: Path, arguments: list[str], message: str
) -> None:
    before = snapshot(site)
    assert_refused(call(*arguments), message)
    assert snapshot(site) == before


TAKES_A_TEXT = ("TASK", "TEXT", "TEXT_PAIR", "QUERY")
"""Arguments that may be empty, or say themselves what they want."""


def test_nothing_of_a_command_may_be_an_empty_path(call: Call, site: Path) -> None:
    """A variable that the shell does not know is not the folder one is in."""
    before = snapshot(site)
    for name, command in typer.main.get_command(main.app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if getattr(parameter, "is_flag", False):
                continue
            if parameter.param_type_name == "option":
                given, told = [parameter.opts[0], ""], parameter.opts[0]
            elif parameter.metavar in TAKES_A_TEXT:
                continue
            else:
                given, told = [""], parameter.metavar
            message = f"{told} is empty: give it a value"
            assert_refused(call(name, *given), message)
    assert_refused(call("pretrain", "--corpus", "good.jsonl", "--corpus="), "--corpus is empty")
    assert snapshot(site) == before


@pytest.mark.parametrize(
    "read",
    [
        lambda: list(sources.read("")),
        lambda: encodax.train("classification", train="", eval=SENTIMENT),
        lambda: encodax.load(""),
    ],
)
def test_no_path_of_python_is_empty_either(read: Callable[[], object]) -> None:
    with pytest.raises(EncodaxError, match=r"path is empty: (name a file|give a model directory)"):
        read()


@pytest.mark.parametrize("out", [".", "/", "..", "./"])
def test_where_this_runs_is_no_output(call: Call, site: Path, out: str) -> None:
    before = snapshot(site)
    place = re.escape(out.rstrip("/") or "/")
    message = f"{place} is the working directory, or holds it; choose another place"
    assert_refused(call(*call_train(*GOOD, "--out", out)), message)
    assert_refused(call(*call_train(*GOOD, "--out", out, "--overwrite")), message)
    assert snapshot(site) == before


def test_a_bad_line_is_found_before_anything_is_lost(call: Call, site: Path) -> None:
    before = snapshot(site)
    outcome = call("predict", "model", "--input", "bad.jsonl", "--output", "answers.jsonl")
    assert_refused(outcome, r"bad.jsonl, line 2.*answers\.jsonl\.partial")
    partial = site / "answers.jsonl.partial"
    assert json.loads(partial.read_text())["text"] == "good"  # what was done before it
    partial.unlink()
    assert snapshot(site) == before


def test_bad_standard_input_is_named(call: Call) -> None:
    bad = call("predict", "model", "--input", "-", stdin=b'{"text": "good"}\nbad\n')
    assert_refused(bad, "standard input, line 2: not JSON")
    latin = call("predict", "model", "--input", "-", stdin="good\ncafé\n".encode("latin-1"))
    assert_refused(latin, "standard input, line 2: not UTF-8")


@pytest.mark.parametrize(
    "arguments",
    [
        call_train("--train", "good.jsonl", "--eval", "good.jsonl"),
        call_train(*GOOD, "--steps", "many"),
        call_train(*GOOD, "--colour", "red"),
        ["predict"],
        ["predict", "model", "--input", "file.xyz", "--format", "xyz"],
        ["poetry"],
        [],
    ],
)
def test_a_wrong_use_is_told_with_code_2(call: Call, arguments: list[str]) -> None:
    outcome = call(*arguments)
    assert outcome.code == 2
    assert "Usage" in outcome.err + outcome.out
    assert "Traceback" not in outcome.err
