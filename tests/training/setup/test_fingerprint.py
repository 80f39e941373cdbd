"""A run goes on with what it began with; what differs is named, with both values."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jobs
import pytest
import typer
from toys import write_lines

import encodax
from encodax.cli import main
from encodax.errors import EncodaxError
from encodax.training.loop.fit import FitResult
from encodax.training.setup.fingerprint import NOT_IN_FINGERPRINT, STEPS, check, content, option_of
from encodax.training.setup.prepare import prepare

RECORDS = jobs.RECORDS["classification"]
CHOICES: dict[str, Any] = {
    **jobs.choices_of("classification"),
    "steps": 5, "evaluate_every": 3, "schedule": "inverse_sqrt", "warmup": 3.0,
}  # fmt: skip
SHAPE = ("layers", "width", "heads", "ffn", "max_positions", "dropout_rate")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of files and of a model, that has done its steps; and another model of that shape."""
    folder = tmp_path_factory.mktemp("facts")
    write_lines(folder / "train.jsonl", RECORDS)
    write_lines(folder / "dev.jsonl", RECORDS[:16])
    for name, seed in (("base", 0), ("other", 1)):
        prepare("classification", **{**CHOICES, "seed": seed}).model.save(folder / name)
    train_on(folder)
    return folder


def given_to(site: Path, **more: Any) -> dict[str, Any]:
    choices = {name: value for name, value in CHOICES.items() if name not in SHAPE}
    files = {"train": site / "train.jsonl", "eval": site / "dev.jsonl", "model": site / "base"}
    return {**choices, **files, **more}


def train_on(site: Path, out: str = "run", **more: Any) -> FitResult:
    return encodax.train("classification", out=site / out, **given_to(site, **more))


def refusal(site: Path, **more: Any) -> str:
    with pytest.raises(EncodaxError) as error:
        train_on(site, resume=True, **more)
    assert "\n" not in str(error.value)
    begin, end = f"{site / 'run'}.checkpoints: ", (
        ": continue with what the run started with, or start again (--overwrite)"
    )  # fmt: skip
    message = str(error.value)
    assert message.startswith(begin) and message.endswith(end), message
    return message[len(begin) : -len(end)].replace(f"{site}/", "")


def test_what_differs_is_named_with_both_values(site: Path) -> None:
    assert refusal(site, learning_rate=0.002) == "--learning-rate was 0.01 and is 0.002"
    told = refusal(site, learning_rate=0.002, seed=3, batch_tokens=None, truncate=True)
    assert sorted(told.split("; ")) == [
        "--batch-tokens was 512 and is not given",
        "--learning-rate was 0.01 and is 0.002",
        "--seed was 0 and is 3",
        "--truncate was not given and is given",
    ]


def test_other_files_are_named_and_the_same_content_is_not(site: Path) -> None:
    write_lines(site / "flipped.jsonl", [{**r, "label": "red"} for r in RECORDS[:16]])
    evaluation = "evaluation data (--eval) was dev.jsonl and is flipped.jsonl, of other content"
    assert refusal(site, eval=site / "flipped.jsonl") == evaluation
    write_lines(site / "short.jsonl", RECORDS[:-1])
    training = "training data (--train) was train.jsonl and is short.jsonl, of other content"
    assert refusal(site, train=site / "short.jsonl") == training
    assert refusal(site, model=site / "other") == "--model was base and is other, of other content"
    assert refusal(site, model=None, layers=1, width=16, heads=2, ffn=32).startswith(
        "--model was base and is not given"
    )


def test_another_content_of_the_same_file_is_told(site: Path) -> None:
    content_before = (site / "dev.jsonl").read_bytes()
    write_lines(site / "dev.jsonl", RECORDS[1:17])
    told = refusal(site)
    (site / "dev.jsonl").write_bytes(content_before)
    assert told == "evaluation data (--eval) dev.jsonl has other content than before"


def test_another_teacher_is_named(site: Path) -> None:
    def facts(teacher: str) -> dict[str, Any]:
        given = given_to(site, teacher=site / teacher)
        return prepare("distillation", **given).facts

    shutil.copytree(site / "base", site / "teacher")
    before = facts("base")
    check(before, facts("teacher"), 1, site)  # of the same content
    with pytest.raises(
        EncodaxError, match=r": --teacher was \S+base and is \S+other, of other con"
    ):
        check(before, facts("other"), 1, site)


def test_what_changes_no_step_may_change(site: Path) -> None:
    """A run that was stopped by its patience goes on without."""
    first = train_on(site, "patient", steps=6, learning_rate=1e-12, patience=1, evaluate_every=1)
    assert first.steps == 2
    more = {"patience": None, "save_every": 3, "keep": 5, "bad_steps": 3, "evaluate_every": 4}
    second = train_on(site, "patient", steps=6, learning_rate=1e-12, resume=True, **more)
    assert second.steps == 6
    assert second.metrics["f1"] == first.metrics["f1"]


def test_a_run_is_prolonged_where_its_steps_stay_the_same(site: Path) -> None:
    """And content counts, wherever it lies."""
    shutil.copy(site / "dev.jsonl", site / "moved.jsonl")
    shutil.copytree(site / "base", site / "copied")
    for name in ("run", "run.checkpoints"):
        shutil.copytree(site / name, site / name.replace("run", "long"))
    moved = {"eval": site / "moved.jsonl", "train": RECORDS, "model": site / "copied"}
    prolonged = train_on(site, "long", steps=8, resume=True, **moved)
    straight = train_on(site, "straight", steps=8)
    ends = [site / f"{name}.checkpoints" / "8" for name in ("long", "straight")]
    assert jobs.digest(ends[0]) == jobs.digest(ends[1])
    assert prolonged.best_step in (straight.best_step, 5)  # which the short run evaluated too


def test_a_constant_rate_can_be_prolonged_and_nothing_taken_back(site: Path) -> None:
    def facts(steps: int) -> dict[str, Any]:
        choices = {**CHOICES, "schedule": "constant", "warmup": 0.0, "steps": steps}
        return prepare("classification", **choices).facts

    check(facts(4), facts(9), 4, site)
    check(facts(9), facts(6), 6, site)
    with pytest.raises(EncodaxError, match=r"were 9 and are 4 \(6 are done already\)"):
        check(facts(9), facts(4), 6, site)


NOT = {
    "cosine": ({"schedule": "cosine"}, "with --schedule cosine the learning rate of each step"),
    "linear": ({"schedule": "linear"}, "a run of --schedule constant or inverse_sqrt can be"),
    "share": ({"warmup": 0.1}, "--warmup 0.1 is a share of all steps; a run that warms up for a"),
    "shape": ({"batch_size": 40, "batch_tokens": None}, "have another shape"),
}


@pytest.mark.parametrize("name", NOT)
def test_a_run_that_cannot_be_prolonged_says_why(name: str, site: Path) -> None:
    choices, why = NOT[name]
    given = {k: v for k, v in {**CHOICES, **choices}.items() if k != "steps"}

    def facts(steps: int) -> dict[str, Any]:
        return prepare("classification", **{**given, "steps": steps}).facts

    before, after = facts(4), facts(9)
    if name == "shape":  # the tallest batch of more epochs may be taller
        after = {**after, "shape of a batch": [999, *after["shape of a batch"][1:]]}
    steps = f"steps (--steps, --epochs) were {before[STEPS]} and are {after[STEPS]} ("
    with pytest.raises(EncodaxError) as error:
        check(before, after, 1, site)
    assert steps in str(error.value) and why in str(error.value)


def test_a_checkpoint_of_an_older_version_is_one_line(site: Path) -> None:
    with pytest.raises(EncodaxError, match=r"saved by an older version of Encodax, .* start again"):
        check(None, {}, 1, site)


def test_tokens_alone_are_told_where_nothing_else_differs(site: Path) -> None:
    before = {"--seed": 0, "tokens of the data": content("a")}
    with pytest.raises(EncodaxError, match=": tokens of the data has other content than before:"):
        check(before, {**before, "tokens of the data": content("b")}, 1, site)


def test_every_fact_is_named_as_its_option_is() -> None:
    (command,) = [
        typer.main.get_command(main.app).commands["train"]  # type: ignore[attr-defined]
    ]
    options = {name for parameter in command.params for name in parameter.opts}
    named = {name for name in prepare("classification", **CHOICES).facts if name[:2] == "--"}
    assert named - {"--teacher"} <= options
    assert {option_of(name) for name in NOT_IN_FINGERPRINT} <= options
