"""The command line of sequence-to-sequence models: a line a text, and one for what cannot be."""

from __future__ import annotations

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import Call, Outcome, assert_refused, call, real
from toys import REVERSALS, classifier, reverser, snapshot, with_end, write_lines

import encodax
from encodax.generation.search import Sampling

__all__ = ["call"]

LONG = "abcd" * 10
FILES = {
    "two.src": "ab\ncd\n",
    "two.tgt": "BA\nDC\n",
    "one.tgt": "BA\n",
    "hole.src": "ab\n\n",
    "blank.src": "",
    "long.src": f"ab\n{LONG}\n",
    "texts.txt": "ab\ncd\nabc\n",
    "long.txt": f"ab\n{LONG}\nd\n",
    "unnamed.csv": ",text\n0,ab\n1,cd\n",
    "older.txt": "older translations\n",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models and of files, good and bad."""
    site = tmp_path_factory.mktemp("site")
    reverser().model.save(site / "model")
    with_end(-1e4).save(site / "endless")
    classifier().model.save(site / "encoder")
    for name, content in FILES.items():
        (site / name).write_text(content)
    write_lines(site / "pairs.jsonl", REVERSALS)
    write_lines(site / "hole.jsonl", [{"text": "ab"}, {"text": " "}])
    return site


def call_train(source: str, target: str) -> list[str]:
    shape = ["--layers=1", "--width=16", "--heads=2", "--ffn=32", "--max-positions=32"]
    files = ["--train", source, "--train-target", target, "--eval", "pairs.jsonl", "--out", "new"]
    return ["train", "translation", *files, "--tokenizer", "char", "--steps", "1", *shape]


LINES = [*call_train("two.src", "two.tgt"), "--eval=two.src", "--eval-target=two.tgt"]


# What it is for.


def test_a_pipe_is_answered_by_a_line_a_text(site: Path) -> None:
    outcome = real(site, "translate", "model", stdin=None, input=b"abc\nd\nab\n")
    assert outcome == Outcome(0, "CBA\nD\nBA\n", "")


@pytest.mark.parametrize("arguments", [["abc", "d", "ab"], ["--input", "-"], []])
def test_texts_are_translated_in_order(call: Call, arguments: list[str]) -> None:
    stdin = None if "abc" in arguments else b"abc\nd\nab\n"
    assert call("translate", "model", *arguments, stdin=stdin) == Outcome(0, "CBA\nD\nBA\n", "")


def test_translations_go_to_a_file(call: Call, tmp_path: Path) -> None:
    output = tmp_path / "answers.txt"
    outcome = call("translate", "model", "--input", "texts.txt", "--output", str(output))
    assert outcome == Outcome(0, "", "")
    assert output.read_text() == "BA\nDC\nCBA\n"
    assert list(tmp_path.iterdir()) == [output]


def test_a_table_whose_first_column_has_no_name_is_read(call: Call) -> None:
    assert call("translate", "model", "--input", "unnamed.csv") == Outcome(0, "BA\nDC\n", "")


def test_two_files_are_measured_as_records_are(call: Call, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "two.jsonl", [{"source": s, "target": s[::-1].upper()} for s in ("ab", "cd")]
    )
    outcome = call("evaluate", "model", "--data", "two.src", "--target", "two.tgt")
    assert outcome.answers[0]["chrf"] == pytest.approx(100)
    assert outcome == call("evaluate", "model", "--data", str(tmp_path / "two.jsonl"))
    (tmp_path / "two.data").write_text("ab\tBA\ncd\tDC\n")
    told = ["--format", "tsv", "--columns", "source,target"]
    assert outcome == call("evaluate", "model", "--data", str(tmp_path / "two.data"), *told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["two.src", "--target", "one.tgt"],
            "two.src has 2 lines, and one.tgt has 1: lines are matched one to one",
        ),
        (["two.src", "--target", "no.tgt"], "no.tgt does not exist"),
        (
            ["two.src", "--target", "two.tgt", "--format", "csv"],
            "--target is for two files with matching lines",
        ),
        (["pairs.jsonl", "--to", "fra"], "the model has one target language: leave out 'fra'"),
    ],
)
def test_what_cannot_be_measured_is_refused(call: Call, arguments: list[str], message: str) -> None:
    assert_refused(call("evaluate", "model", "--data", *arguments), message)


def test_several_translations_come_as_json(call: Call) -> None:
    outcome = call("translate", "model", "abc", "d", "--n-best", "3", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line["source"] for line in outcome.answers] == ["abc", "d"]
    wanted = encodax.Translator.load("model").translate(["abc", "d"], n_best=3)
    for line, found in zip(outcome.answers, wanted, strict=True):
        assert line["translation"] == found.text
        others = [other["translation"] for other in line["others"]]
        assert others == [other.text for other in found.others]


def test_what_is_drawn_is_drawn_again_by_its_seed(call: Call) -> None:
    def drawn(seed: int, *choices: str) -> str:
        choices = ("--sample", "--temperature", "3", "--top-p", "0.9", *choices)
        outcome = call("translate", "model", *["abc"] * 5, "--seed", str(seed), *choices)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    first = drawn(1)
    assert first == drawn(1) == drawn(1, "--batch-size", "2") != drawn(2)
    sampling = Sampling(temperature=3.0, top_p=0.9)
    found = encodax.Translator.load("model").translate(["abc"] * 5, sampling=sampling, seed=1)
    assert first.splitlines() == [each.text for each in found]


def test_several_are_drawn_of_a_text(call: Call) -> None:
    drawn = ("translate", "model", "abc", "d", "--sample", "--temperature", "3", "--seed", "1")
    outcome = call(*drawn, "--n-best", "3", "--json")
    assert [len(line["others"]) for line in outcome.answers] == [2, 2]
    assert [line["translation"] for line in outcome.answers] == call(*drawn).out.splitlines()


def test_a_translation_stays_on_its_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = encodax.text.tokenizer.Tokenizer.decode
    monkeypatch.setattr(
        encodax.text.tokenizer.Tokenizer, "decode", lambda self, ids: "\r\n".join(decode(self, ids))
    )
    assert call("translate", "model", "abc", "d").out == "C B A\nD\n"


def test_what_is_too_long_is_cut_where_that_is_asked_for(site: Path) -> None:
    outcome = real(site, "translate", "model", "--input", "long.txt", "--truncate")
    lines = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "note: 1 texts were cut to 32 tokens\n")
    assert len(lines) == 3
    assert (lines[0], lines[2]) == ("BA", "D")


def test_what_never_ends_is_cut_and_told(site: Path) -> None:
    outcome = real(site, "translate", "endless", "abc", "d", "--json")
    assert outcome.code == 0
    assert [(line["tokens"], line["is_cut"]) for line in outcome.answers] == [(32, True)] * 2
    told = r"note: 2 translations were cut at .* \(max_tokens, --max-tokens\)\n"
    assert re.fullmatch(told, outcome.err)


def test_progress_is_shown_beside_the_translations(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    outcome = call("translate", "model", "--input", "texts.txt")
    assert (outcome.code, outcome.out) == (0, "BA\nDC\nCBA\n")
    assert " texts" in outcome.err


def test_the_help_page_has_examples_that_pipe(call: Call) -> None:
    page = " ".join(re.sub(r"[│╭╮╰╯─]", " ", call("translate", "--help").out).split())
    assert 'encodax translate runs/en-de "two men are running"' in page
    assert "cat texts.txt | encodax translate runs/en-de --input - > translated.txt" in page
    assert "--input texts.txt --n-best 4 --json" in page


# What cannot be.

REFUSED: dict[str, tuple[list[str], str]] = {
    "numbers of lines": (
        call_train("two.src", "one.tgt"),
        "two.src has 2 lines, and one.tgt has 1: lines are matched one to one",
    ),
    "source of no text": (call_train("hole.src", "two.tgt"), "hole.src, line 2: the text is empty"),
    "columns of lines": (
        [*LINES, "--columns=source=text"],
        "columns: --train-target and --eval-target .* are for files of lines: leave out --columns",
    ),
    "format of lines": (
        [*LINES, "--format=csv"],
        "format: --train-target and --eval-target .* are for files of lines: leave out --format",
    ),
    "columns of the other file": (
        [*call_train("two.src", "two.tgt"), "--columns=source=text"],
        "pairs.jsonl, line 1: no field 'text'",
    ),
    "no source": (call_train("blank.src", "two.tgt"), "blank.src: the file is empty"),
    "long source": (
        call_train("long.src", "two.tgt"),
        r"long.src, line 2: 41 tokens, and the model takes 32; .*\(--truncate",
    ),
    "empty text": (
        ["translate", "model", "--input", "hole.jsonl", "--output", "older.txt"],
        "hole.jsonl, line 2: the text is empty",
    ),
    "long text": (
        ["translate", "model", "--input", "long.txt", "--output", "new.txt"],
        r"long.txt, line 2: 41 tokens, and the model takes 32; .*\(--truncate",
    ),
    "beams": (
        ["translate", "model", "abc", "--beams", "14", "--output", "new.txt"],
        "beams = 14 is more than the 13 tokens of the vocabulary; choose fewer",
    ),
    "encoder": (
        ["translate", "encoder", "abc", "--output", "new.txt"],
        "model_type 'bert' is an encoder, which writes no text: use `encodax predict`",
    ),
}
"""Each in a process of its own."""


def test_what_cannot_be_is_one_line_and_loses_nothing(
    site: Path, subtests: pytest.Subtests
) -> None:
    before = snapshot(site)
    with ThreadPoolExecutor(2) as pool:
        outcomes = {
            name: pool.submit(real, site, *arguments) for name, (arguments, _) in REFUSED.items()
        }
    for name, (_, message) in REFUSED.items():
        with subtests.test(name):
            assert_refused(outcomes[name].result(), message)
    for name in ("new.txt.partial", "older.txt.partial"):  # what was done before an error
        assert (site / name).read_text() == "BA\n"
        (site / name).unlink()
    assert snapshot(site) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["abc", ""], "text 1: the text is empty"),
        ([LONG], "text 0: 41 tokens, and the model takes 32"),
        (["--input", "missing.txt"], "missing.txt does not exist"),
        (["abc", "--input", "texts.txt"], "give texts or --input, not both"),
        (["abc", "--n-best", "2"], "--n-best needs --json"),
        (["abc", "--n-best", "2", "--sample"], "--n-best needs --json"),
        (["abc", "--n-best", "5", "--json"], r"n_best = 5 is not in 1\.\.4, the number of beams"),
        (["abc", "--max-tokens", "0"], "max_tokens = 0 is below 1"),
        (["abc", "--max-tokens", "33"], "max_tokens = 33 is more than the 32 that the model takes"),
        (["abc", "--sample", "--temperature", "nan"], "temperature = nan is not above 0"),
        (["abc", "--sample", "--top-p", "0"], r"top_p = 0\.0 is not in 0\.\.1"),
        (["abc", "--temperature", "2"], "--top-p, --min-p and --typical-p need --sample"),
        (["abc", "--top-k", "2"], "--top-p, --min-p and --typical-p need --sample"),
        (["abc", "--seed", "-1"], r"seed = -1 is not in 0\.\.4294967295"),
        (["abc", "--to", "fra"], "the model has one target language: leave out 'fra'"),
        (["abc", "--output", "no/new.txt"], "no/new.txt cannot be written"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Call, site: Path, arguments: list[str], message: str
) -> None:
    before = snapshot(site)
    assert_refused(call("translate", "model", *arguments), message)
    assert_refused(call("translate", "model", "--output", "older.txt", *arguments), message)
    (site / "older.txt.partial").unlink(missing_ok=True)
    assert snapshot(site) == before


def test_empty_texts_keep_their_lines_or_are_left_out(call: Call) -> None:
    lines = b"abc\n\n \nab\n"
    kept = call("translate", "model", "--on-empty", "keep", stdin=lines)
    assert kept.out == "CBA\n\n\nBA\n"
    assert kept.err == (
        "note: 2 texts are empty and given empty answers, the first: standard input, line 2\n"
    )
    left = call("translate", "model", "--on-empty", "skip", "--json", stdin=lines)
    assert [(answer["source"], answer["translation"]) for answer in left.answers] == [
        ("abc", "CBA"),
        ("ab", "BA"),
    ]
    nothing = call("translate", "model", "--on-empty", "keep", "--json", " ").answers
    assert nothing == [{"source": " ", "translation": "", "score": 0.0, "tokens": 0}]


def test_translations_before_an_error_are_kept(call: Call, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    outcome = call("translate", "model", "--output", str(output), stdin=b"abc\nab\n\nd\n")
    assert_refused(
        outcome,
        "standard input, line 3: the text is empty; .*--on-empty skip or keep .*; "
        f"the 2 lines that come before it are kept in {output}.partial",
    )
    assert Path(f"{output}.partial").read_text() == "CBA\nBA\n"
    assert not output.exists()


def test_bad_lines_of_a_pipe_are_named(call: Call) -> None:
    bad = call("translate", "model", stdin=b"abc\n\nab\n")
    assert_refused(bad, "standard input, line 2: the text is empty")
    latin = call("translate", "model", stdin="abc\ncafé\n".encode("latin-1"))
    assert_refused(latin, "standard input, line 2: not UTF-8")


@pytest.mark.parametrize("command", ["predict", "embed", "fill-mask"])
def test_other_commands_say_what_to_use(call: Call, command: str) -> None:
    assert_refused(call(command, "model", "abc"), "sequence-to-sequence model: use `encodax transl")


def test_a_model_that_is_cut_short_is_refused(call: Call, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    refused = call("translate", str(tmp_path / "model"), "abc")
    assert_refused(refused, "model/model.safetensors cannot be read")
