"""The demo from end to end, in tiny form: what it writes, prints and refuses."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from encodax.demo import answers, run
from encodax.demo.dates import LANGUAGES
from encodax.demo.progress import watch
from encodax.demo.run import DemoResult, draw, run_demo
from encodax.errors import EncodaxError
from encodax.inference.predictors import TokenClassifier

SIZES = {
    "steps": 2, "writer_steps": 2, "train_size": 300, "validation_size": 20, "evaluation_size": 50,
    "dateparser_size": 20,
}  # fmt: skip
TOPICS = {"break": "It ends the loop early.", "sorting": "A list is sorted in place."}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, str]:
    """The result of a tiny run, and what it printed."""
    printed = io.StringIO()
    out = tmp_path_factory.mktemp("runs") / "demo"
    console = Console(file=printed, width=100)
    return run_demo(out, console=console, topics=TOPICS, **SIZES), printed.getvalue()


def test_summary_has_the_measured_shares(demo: tuple[DemoResult, str]) -> None:
    result, _ = demo
    summary = json.loads(result.summary.read_text(encoding="utf-8"))
    assert summary["exact_match"] == result.encoder.match.overall
    assert summary["exact_match_dateparser"] == result.dateparser.match.overall > 0.5
    assert set(summary["exact_match_by_language"]) <= set(LANGUAGES)
    for name in ("exact_match_by_language", "exact_match_by_language_dateparser"):
        assert all(0 <= share <= 1 for share in summary[name].values())
    for name in (
        "seconds_training",
        "tokens_per_second",
        "strings_per_second",
        "strings_per_second_dateparser",
        "seconds_training_seq2seq",
        "strings_per_second_seq2seq",
    ):
        assert summary[name] > 0
    assert (summary["evaluation_size"], summary["dateparser_size"]) == (50, 20)
    assert (summary["languages"], summary["seed"], summary["steps"]) == (len(LANGUAGES), 0, 2)


def test_the_model_is_one_that_reads(demo: tuple[DemoResult, str]) -> None:
    reader = TokenClassifier.load(demo[0].model)
    assert len(reader.predict(["5 août 2031"])) == 1


def test_the_report_shows_everything(demo: tuple[DemoResult, str]) -> None:
    html = demo[0].report.read_text(encoding="utf-8")
    for heading in (
        "What is compared",
        "Language by language",
        "Dates and their tags",
        "Mistakes of the encoder",
        "How it learned",
        "Where it looks",
        "Where a character stands",
        "The same dates, sequence to sequence",
        "Act two: questions about Python",
        "Machine and settings",
    ):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("<svg") == 2 + 2 * 4 + 4 + 2 * 4  # curves, maps, positions, maps
    assert len(html) < 1_500_000


def test_what_is_printed_ends_with_the_report(demo: tuple[DemoResult, str]) -> None:
    result, printed = demo
    lines = printed.splitlines()
    assert lines[-1].split() == ["report", str(result.report)]
    rows = {line.split()[1]: line for line in lines if line.startswith("│")}
    assert f"{result.encoder.match.overall:.2%}" in rows["encoder"]
    assert f"{result.dateparser.match.overall:.2%}" in rows["dateparser"]


def test_act_two_is_in_the_summary_and_its_passages_in_a_file(
    minilm: Path, demo: tuple[DemoResult, str]
) -> None:
    result, printed = demo
    act_two = json.loads(result.summary.read_text(encoding="utf-8"))["act_two"]
    assert act_two["passages"] == 2
    assert act_two["tokens"] == 17
    assert act_two["texts_per_second"] > 0
    asked = {answer["question"]: answer["found"][0]["topic"] for answer in act_two["answers"]}
    assert list(asked) == list(answers.QUESTIONS)
    assert asked["How do I stop a loop early?"] == "break"
    assert asked["How do I sort a list?"] == "sorting"
    assert result.passages is not None
    lines = result.passages.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(TOPICS.values())
    assert f"--corpus {result.passages} " in printed


def test_without_the_weights_act_one_is_done_and_act_two_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "find_spec", lambda name: None)
    printed = io.StringIO()
    console = Console(file=printed, width=100)
    result = run_demo(tmp_path / "demo", console=console, topics=TOPICS, **SIZES)
    note = f"the weights of all-MiniLM-L6-v2 are not installed: {answers.INSTALL}"
    assert printed.getvalue().count(note) == 2  # before the wait, and at the end
    assert result.passages is None
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        "model", "model.checkpoints", "writer", "writer.checkpoints", "summary.json", "report.html",
    }  # fmt: skip
    summary = json.loads(result.summary.read_text(encoding="utf-8"))
    assert summary["act_two"] == {"left_out": note}
    html = result.report.read_text(encoding="utf-8")
    assert f"It was left out: {note}" in html
    assert "Act two, at the end" not in html


def test_an_earlier_result_is_kept_unless_asked(demo: tuple[DemoResult, str]) -> None:
    result, _ = demo
    before = result.summary.read_bytes()
    with pytest.raises(EncodaxError, match="exists; choose another place, or ask to overwrite"):
        run_demo(result.summary.parent, **SIZES)
    assert result.summary.read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, EncodaxError, RuntimeError])
def test_an_interrupted_run_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*args: object, out: Path, **kwargs: object) -> None:
        out.mkdir()
        (out / "config.json").write_text("half")
        raise error("stopped")

    earlier = tmp_path / "demo" / "model" / "config.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("whole")
    monkeypatch.setattr(run, "train_reader", interrupted)
    with pytest.raises(error):
        run_demo(tmp_path / "demo", overwrite=True, **SIZES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [earlier]
    assert earlier.read_text() == "whole"


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_size_of_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EncodaxError, match=f"{name} = 0 is not above 0"):
        run_demo(tmp_path / "demo", **{**SIZES, name: 0})
    assert not any(tmp_path.iterdir())


def test_no_text_serves_two_purposes() -> None:
    data = draw(0, train_size=5_000, validation_size=500, evaluation_size=2_000)
    lists = (data.train, data.validation, data.evaluation)
    assert [len(dated) for dated in lists] == [5_000, 500, 2_000]
    assert len({written.text for dated in lists for written in dated}) == 7_500


def test_all_seeds_are_judged_by_the_same_dates() -> None:
    sizes = {"train_size": 100, "validation_size": 10, "evaluation_size": 100}
    first, second = draw(0, **sizes), draw(1, **sizes)
    assert first.evaluation == second.evaluation
    assert first.train != second.train


def test_progress_is_lines_where_nobody_watches() -> None:
    printed = io.StringIO()
    with watch("reading", Console(file=printed)) as progress:
        progress(100, 2_000)
        progress(2_000, 2_000)
    with watch("at once", Console(file=printed)) as progress:
        progress(5, 5)
    assert printed.getvalue() == "reading  2,000/2,000  0 s left\nat once  5/5\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    printed = io.StringIO()
    with watch("reading", Console(file=printed, force_terminal=True)) as progress:
        progress(100, 200)
    assert "100/200" in printed.getvalue()
