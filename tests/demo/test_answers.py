"""Act two: Python's help in passages, and questions answered with the published weights."""

import io
import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from encodax.cli import main
from encodax.demo import answers
from encodax.demo.answers import Answers, Passage, Skipped
from encodax.errors import EncodaxError
from encodax.text.tokenizer import Tokenizer

TOPICS = ("break", "in", "lambda", "pass", "return", "truth")
WORDS = st.sampled_from(["a", "loop.", "Stops", "e.g.", "x", "is"])
PARAGRAPHS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
TEXTS = st.lists(PARAGRAPHS, max_size=5).map("\n\n".join)


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def found(minilm: Path) -> tuple[Answers, str]:
    """What is found in a few topics, and what is printed on the way."""
    printed = io.StringIO()
    topics = {name: answers.python_topics()[name] for name in TOPICS}
    questions = ("How do I stop a loop early?", "How do I write a function without a name?")
    return answers.answer(minilm, topics, questions, console=Console(file=printed)), (
        printed.getvalue()
    )


@given(TEXTS, st.integers(1, 20))
def test_passages_are_short_and_hold_every_word_in_order(text: str, limit: int) -> None:
    passages = answers.split({"topic": text}, words, limit)
    assert all(0 < words(passage.text) <= limit for passage in passages)
    distinct = len({passage.text for passage in passages})
    assert distinct == len(passages)
    said = " ".join(passage.body for passage in passages).split()
    if len(said) == words(text):  # no passage was there twice
        assert said == text.split()
    assert set(said) == set(text.split())


@given(st.lists(TEXTS, max_size=4), st.integers(8, 20))
def test_each_passage_stands_under_its_heading(bodies: list[str], limit: int) -> None:
    text = "".join(f"Heading{index}\n*****\n\n{body}\n\n" for index, body in enumerate(bodies))
    passages = answers.split({"topic": text}, words, limit)
    assert all(words(passage.text) <= limit for passage in passages)
    for index, body in enumerate(bodies):
        own = [passage for passage in passages if passage.heading == f"Heading{index}"]
        assert {word for passage in own for word in passage.body.split()} == set(body.split())
        assert all(passage.text == f"{passage.heading}\n\n{passage.body}" for passage in own)


def test_a_paragraph_that_fits_is_not_cut() -> None:
    text = "One two three. Four.\n\nFive six seven. Eight nine."
    passages = answers.split({"topic": text}, words, 5)
    assert [passage.body for passage in passages] == text.split("\n\n")


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    text = "One two, e.g. three. Four five\nsix. Seven eight."
    passages = answers.split({"topic": text}, words, 5)
    assert [passage.body.strip() for passage in passages] == [
        "One two, e.g. three.",
        "Four five\nsix. Seven eight.",
    ]


def test_a_text_of_two_topics_is_kept_as_that_of_the_shorter_one() -> None:
    own = 'The "if" statement\n******************\n\nIt chooses.'
    topics = {"all": f"Statements\n==========\n\nMany.\n\n{own}", "if": own}
    assert answers.split(topics, words, 20) == [
        Passage("all", "Statements", "Many."),
        Passage("if", 'The "if" statement', "It chooses."),
    ]


def test_lines_of_tables_are_left_out() -> None:
    text = "+-----+-----+\n| a   | b   |\n|=====|=====|\n+-----+-----+\nx | y"
    (passage,) = answers.split({"topic": text}, words, 20)
    assert [line.split() for line in passage.body.splitlines()] == [["a", "b"], ["x", "|", "y"]]


def test_the_help_of_this_python_fits_the_model(minilm: Path) -> None:
    tokenizer = Tokenizer.load(minilm, model_type="bert")

    def count(text: str) -> int:
        return len(tokenizer.encode([text])[0]) - 2

    passages = answers.split(answers.python_topics(), count, answers.LIMIT - 2)
    assert 500 < len(passages) < 3000
    assert max(count(passage.text) for passage in passages) <= answers.LIMIT - 2
    assert {"break", "lambda", "comparisons"} <= {passage.topic for passage in passages}


def test_the_passages_that_answer_are_found(found: tuple[Answers, str]) -> None:
    result, _ = found
    assert [answer.found[0].passage.topic for answer in result.answers] == ["break", "lambda"]
    for answer in result.answers:
        scores = [hit.score for hit in answer.found]
        assert len(scores) == answers.TOP_K
        assert 1 > scores[0] >= scores[-1] > 0
        for hit in answer.found:
            whole = " ".join(hit.passage.body.split())
            assert hit.snippet.removesuffix(" …") in whole
    assert result.texts_per_second > 0
    assert result.tokens > sum(words(passage.text) for passage in result.passages)


def test_what_is_printed(found: tuple[Answers, str]) -> None:
    result, progress = found
    count = len(result.passages)
    assert progress.startswith(f"act two: {count} passages of Python's help")
    shown = io.StringIO()
    answers.show(result, Console(file=shown, width=100))
    lines = shown.getvalue().splitlines()
    place = lines.index(result.answers[0].question)
    assert [line.split()[1] for line in lines[place + 1 : place + 1 + answers.TOP_K]] == [
        hit.passage.topic for hit in result.answers[0].found
    ]
    assert lines[-1].startswith(f"{count} passages, {result.tokens:,} tokens, ")
    assert max(map(len, lines)) <= 100


def test_the_command_that_is_shown_finds_the_same(
    found: tuple[Answers, str], tmp_path: Path
) -> None:
    result, _ = found
    corpus = tmp_path / "passages.jsonl"
    answers.write_passages(corpus, result.passages)
    records = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    assert records == [{"topic": p.topic, "text": p.text} for p in result.passages]

    first = result.answers[0]
    said = CliRunner().invoke(
        main.app, ["search", str(result.model), first.question, "--corpus", str(corpus)]
    )
    hits = [json.loads(line) for line in said.stdout.splitlines()][: answers.TOP_K]
    assert [hit["text"] for hit in hits] == [hit.passage.text for hit in first.found]
    assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in first.found], 1e-5)


def test_the_command_is_short_where_the_files_are_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    said = answers.command(tmp_path / "a model", Path("runs/passages.jsonl"))
    assert said == (
        ".venv/bin/encodax search 'a model' --corpus runs/passages.jsonl 'your question'"
    )


def test_the_package_is_found_without_being_imported(minilm: Path) -> None:
    code = (
        "import sys; from encodax.demo import answers; print(answers.find_model()); "
        "assert answers.PACKAGE not in sys.modules; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == minilm


def test_a_missing_package_is_said_and_act_two_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "find_spec", lambda name: None)
    printed = io.StringIO()
    console = Console(file=printed)
    outcome = answers.act_two(answers.locate(console), None, console)
    reason = f"the weights of all-MiniLM-L6-v2 are not installed: {answers.INSTALL}"
    assert outcome == Skipped(reason)
    assert printed.getvalue() == f"act two is left out: {reason}\n"
    assert outcome.summary() == {"left_out": reason}


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec(answers.PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(answers, "find_spec", lambda name: spec)
    with pytest.raises(EncodaxError, match="are not installed"):
        answers.find_model()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(EncodaxError, match=r"is not the published file .*--force-reinstall"):
        answers.find_model()


def test_a_python_without_help_leaves_act_two_out(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    outcome = answers.act_two(minilm, None, Console(quiet=True))
    assert outcome == Skipped("this Python has no help to read: pydoc_data is missing")


def test_no_text_leaves_act_two_out(minilm: Path) -> None:
    outcome = answers.act_two(minilm, {"empty": " \n"}, Console(quiet=True))
    assert outcome == Skipped("there is no text to answer from")
