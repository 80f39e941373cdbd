"""The best model of a run that goes on is its own, whatever has become of OUT meanwhile."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jobs
import pytest
from rich.console import Console
from toys import same

import encodax
from encodax.errors import EncodaxError
from encodax.training import TrainResult
from encodax.training.loop.best import BestModel, weights_digest

CHOICES: dict[str, Any] = {
    **jobs.choices_of("classification"), "schedule": "constant", "warmup": 0.0, "evaluate_every": 1,
}  # fmt: skip
FIRST, MIDDLE = [0.9, 0.2, 0.1, 0.3], [0.5, 0.4, 0.6, 0.3]
"""F1 of each step: where the best is."""


class Runs:
    """Runs in a folder whose evaluations say what they are told to."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self._patch, self.told = folder, patch, ""

    def run(self, out: str | None, told: list[float], **choices: Any) -> TrainResult:
        """Evaluations are told one after another; a mean has the last of them."""
        rest, shown = iter(told), io.StringIO()

        def evaluate(params: Any) -> dict[str, float]:
            f1 = next(rest)
            return {"accuracy": f1, "f1": f1, "loss": 1 - f1}

        self._patch.setattr(sys.modules["encodax.training.train"], "evaluator", lambda *_: evaluate)
        place = None if out is None else self.folder / out
        console = Console(file=shown, width=400)
        given = {**CHOICES, "out": place, "console": console, **choices}
        try:
            return encodax.train("classification", **given)
        finally:
            self.told = shown.getvalue()

    def weights(self, out: str) -> bytes:
        return (self.folder / out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its first half, and another one."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        found = Runs(folder, patch)
        found.run("whole", FIRST, steps=4)
        found.run("half", FIRST[:2], steps=2)
        found.run("other", [0.4], steps=4, evaluate_every=4, seed=5)
    return folder


@pytest.fixture
def runs(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return Runs(tmp_path, monkeypatch)


def change(what: str, out: Path, other: Path) -> None:
    """What becomes of OUT."""
    if what in ("removed", "another"):
        shutil.rmtree(out)
    if what == "another":
        shutil.copytree(other, out)
    if what == "weights":
        shutil.copy(other / "model.safetensors", out)
    if what == "config":
        (out / "config.json").unlink()


@pytest.mark.parametrize("what", ["nothing", "removed", "another", "weights", "config"])
def test_what_has_become_of_out_changes_nothing(runs: Runs, what: str) -> None:
    out = runs.folder / "half"
    change(what, out, runs.folder / "other")
    resumed = runs.run("half", FIRST[1:], steps=4, resume=True)
    is_told = f"the best model, of step 1, is written to {out} from its checkpoint" in runs.told
    assert is_told is (what != "nothing")
    assert (resumed.best_step, resumed.metrics["f1"]) == (1, 0.9)
    assert runs.weights("half") == runs.weights("whole")
    assert same(resumed.model.params, encodax.load(out).params)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [entry["eval_f1"] for entry in map(json.loads, lines) if "eval_f1" in entry] == (
        FIRST[1:] if what in ("removed", "another") else FIRST
    )


def test_a_run_that_is_done_gives_its_best_again(runs: Runs) -> None:
    wanted = runs.weights("whole")
    shutil.rmtree(runs.folder / "whole")
    runs.run("whole", FIRST[3:], steps=4, resume=True)
    assert runs.weights("whole") == wanted


def test_an_adapter_is_written_again(runs: Runs) -> None:
    shape = ("layers", "width", "heads", "ffn", "max_positions", "dropout_rate")
    choices = {
        **dict.fromkeys(shape), "model": runs.folder / "other",
        "lora_rank": 2, "freeze": "head/dense",
    }  # fmt: skip
    whole = runs.run("b", FIRST, steps=4, **choices)
    runs.run("a", FIRST[:2], steps=2, **choices)
    shutil.rmtree(runs.folder / "a")
    resumed = runs.run("a", FIRST[1:], steps=4, resume=True, **choices)
    assert same(resumed.model.params, whole.model.params)
    assert weights_digest(runs.folder / "a") == weights_digest(runs.folder / "b")


def test_without_out_the_best_is_that_of_its_checkpoint(runs: Runs) -> None:
    places = {"checkpoints": runs.folder / "saved"}
    runs.run(None, FIRST[:2], steps=2, **places)
    resumed = runs.run(None, FIRST[1:], steps=4, resume=True, **places)
    assert resumed.best_step == 1
    assert same(resumed.model.params, encodax.load(runs.folder / "whole").params)


@pytest.mark.parametrize("what", ["removed", "another"])
def test_a_best_model_that_is_lost_is_told_before_the_first_step(runs: Runs, what: str) -> None:
    out = runs.folder / "a"
    runs.run("a", FIRST[:2], steps=2, save_every=2)
    shutil.copytree(out, runs.folder / "mine")
    change(what, out, runs.folder / "other")
    told = rf"^the best model so far, of step 1, is not in {out}, and has no checkpoint; bring it"
    with pytest.raises(EncodaxError, match=told):
        runs.run("a", [], steps=4, save_every=2, resume=True)
    shutil.rmtree(out)
    (runs.folder / "mine").rename(out)
    runs.run("a", FIRST[1:], steps=4, save_every=2, resume=True)
    assert runs.weights("a") == runs.weights("whole")


def test_what_a_later_part_found_is_found_again(runs: Runs) -> None:
    """As after SIGKILL: OUT holds the model of a step that is to be done again."""
    straight = runs.run("a", MIDDLE, steps=4, save_every=2)
    before = runs.weights("a")
    resumed = runs.run("a", MIDDLE[1:], steps=4, save_every=2, resume_step=2)
    assert "and has no checkpoint: the best of the steps from here on will be" in runs.told
    assert (resumed.best_step, resumed.metrics) == (straight.best_step, straight.metrics)
    assert runs.weights("a") == before
    worse = runs.run("a", [0.4, 0.2, 0.3], steps=4, save_every=2, resume_step=2)
    assert (worse.best_step, worse.metrics["f1"]) == (2, 0.4)
    assert same(worse.model.params, encodax.load(runs.folder / "a").params)


def test_a_mean_is_not_taken_for_the_best_checkpoint(runs: Runs) -> None:
    first = runs.run("c", [*FIRST, 0.95], steps=4, average=2)
    assert (first.best_step, first.metrics["f1"]) == (4, 0.95)
    again = runs.run("c", FIRST[3:], steps=4, resume=True)
    assert (again.best_step, again.metrics["f1"]) == (1, 0.9)
    assert runs.weights("c") == runs.weights("whole")


@pytest.mark.parametrize("every", [1, 2])
def test_a_checkpoint_without_a_digest_is_gone_on_with(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    record = BestModel.record
    with monkeypatch.context() as patch:
        patch.setattr(
            BestModel,
            "record",
            lambda self: {k: v for k, v in record(self).items() if k != "sha256"},
        )
        runs.run("a", FIRST[:2], steps=2, save_every=every)
    runs.run("a", FIRST[1:], steps=4, save_every=every, resume=True)
    assert ("an older version of Encodax" in runs.told) is (every == 2)
    assert runs.weights("a") == runs.weights("whole")
