"""Runs from records to a model: what they learn, keep, write and tell."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from questions import QUESTIONS, answerer
from rich.console import Console
from toys import (
    DAYS,
    PAIRS,
    QUICK,
    SENTIMENT,
    SHAPE,
    classifier,
    pair_classifier,
    same,
    snapshot,
    spans_of,
    tagger,
    write_lines,
)

import encodax
from encodax.errors import EncodaxError
from encodax.storage import locks
from encodax.training import TrainResult
from encodax.training.setup.prepare import FINE_TUNING_RATE
from encodax.types.batches import Params

FLIPPED = [{**record, "label": "no" if record["label"] == "yes" else "yes"} for record in SENTIMENT]


def run(**choices: Any) -> TrainResult:
    """A run over `SENTIMENT`, of the shape of `classifier()` unless told otherwise."""
    shape = {} if choices.get("model") else SHAPE
    defaults = {"train": SENTIMENT, "eval": SENTIMENT, **shape, **QUICK}
    return encodax.train("classification", **{**defaults, **choices})


def near(first: Params, second: Params) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-4), first, second))


def encoder_of(model: encodax.Model) -> dict[str, Any]:
    return {path: leaf for path, leaf in model.params.items() if path.startswith("encoder/")}


# Learning.


def test_a_classifier_learns() -> None:
    result = classifier()
    assert result.metrics == {"accuracy": 1.0, "f1": 1.0, "loss": pytest.approx(0.1, abs=0.1)}
    assert result.model.config.labels == ("no", "yes")
    unseen = encodax.Classifier(result.model).predict(["good thing number 9", "bad"])
    assert [answer.label for answer in unseen] == ["yes", "no"]


def test_a_classifier_of_pairs_learns() -> None:
    result = pair_classifier()
    assert result.metrics["accuracy"] == 1.0
    texts = [(record["text"], record["text_pair"]) for record in PAIRS]
    answers = encodax.Classifier(result.model).predict(texts)
    assert [answer.label for answer in answers] == [record["label"] for record in PAIRS]


def test_a_token_classifier_learns() -> None:
    result = tagger()
    told = dict(result.metrics)
    assert told.pop("loss") < 0.2
    assert told == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert result.model.config.labels == ("O", "B-day", "I-day", "B-who", "I-who")
    answers = encodax.TokenClassifier(result.model).predict([record["text"] for record in DAYS])
    found = [[(span.start, span.end, span.label) for span in answer] for answer in answers]
    assert found == [spans_of(record) for record in DAYS]


def test_a_question_answerer_learns() -> None:
    result = answerer()
    assert result.metrics.keys() == {"exact_match", "f1", "loss"}
    assert result.metrics["exact_match"] >= 0.9
    assert result.model.config.labels == ()
    assert result.model.params["head/output"]["w"].shape == (32, 2)
    first, last = (result.curve[index]["loss"] for index in (0, -2))
    assert last < 0.2 * first


def test_the_figures_of_a_run_are_those_of_its_plan() -> None:
    result = classifier()
    assert result.steps == 30
    assert result.out is None
    assert result.seconds > 0
    assert result.tokens_per_second > 0
    encodings, _ = result.model.encode([record["text"] for record in SENTIMENT])
    tokens = 10 * sum(map(len, encodings))  # of ten epochs, in batches of one row
    assert result.padding == pytest.approx(1 - tokens / (30 * 128))


def test_the_step_compiles_once(caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        run(steps=30)  # the last batch of an epoch has fewer examples
    done = [record.getMessage() for record in caplog.records if "XLA comp" in record.getMessage()]
    assert sum("jit(step)" in line for line in done) == 1
    assert sum("jit(answer)" in line for line in done) == 1


# Seeds.

DROPPING = {"dropout_rate": 0.1, "steps": 4}


def test_a_seed_settles_a_run() -> None:
    first, again, other = (run(**DROPPING, seed=seed) for seed in (1, 1, 2))
    assert same(first.model.params, again.model.params)
    assert [entry.get("loss") for entry in first.curve] == [e.get("loss") for e in again.curve]
    assert not same(first.model.params, other.model.params)


def test_a_seed_settles_a_run_in_any_process(tmp_path: Path) -> None:
    """Two fresh ones: in this one, other tests have compiled parts with other optimizations."""
    data = write_lines(tmp_path / "data.jsonl", SENTIMENT)
    choices = {**SHAPE, **QUICK, **DROPPING, "seed": 1, "train": str(data), "eval": str(data)}
    script = "import encodax, json, sys; encodax.train('classification', **json.loads(sys.argv[1]))"
    processes = []
    for salt in ("1", "2"):
        arguments = json.dumps({**choices, "out": str(tmp_path / salt / "model")})
        variables = {**os.environ, "PYTHONHASHSEED": salt}
        command = [sys.executable, "-W", "error", "-c", script, arguments]
        processes.append(subprocess.Popen(command, env=variables))
    assert [process.wait() for process in processes] == [0, 0]
    first, second = (snapshot(tmp_path / salt / "model") for salt in ("1", "2"))
    for found in (first, second):
        assert "model.safetensors" in found
        for name in [name for name in found if name.startswith(("metrics.jsonl", "tensorboard"))]:
            del found[name]  # tells the speed
    assert first == second


# The best model.


def test_the_best_model_is_kept_and_not_the_last(tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = run(model=classifier().model, train=FLIPPED, out=out, steps=30, evaluate_every=1)
    curve = [entry["eval_accuracy"] for entry in result.curve if "eval_accuracy" in entry]
    assert curve[0] == 1.0
    assert curve[-1] < 1.0
    assert result.best_step == 1
    assert result.metrics == {"accuracy": 1.0, "f1": 1.0, "loss": pytest.approx(0.1, abs=0.1)}
    best = encodax.load(out)
    assert same(best.params, result.model.params)
    answers = encodax.Classifier(best).predict([record["text"] for record in SENTIMENT])
    assert [answer.label for answer in answers] == [record["label"] for record in SENTIMENT]


def test_a_run_stops_where_patience_ends() -> None:
    shown = io.StringIO()
    result = run(
        model=classifier().model,
        steps=30,
        evaluate_every=2,
        patience=3,
        console=Console(file=shown),
    )
    assert result.steps == 8
    losses = [entry["eval_loss"] for entry in result.curve if "eval_loss" in entry]
    assert result.best_step == 2 * (1 + losses.index(min(losses)))  # of equal ones by F1
    assert "stopped early: 3 evaluations without a better f1" in shown.getvalue()


def test_a_model_can_be_loaded_while_it_trains(tmp_path: Path) -> None:
    class Impatient(io.StringIO):
        def write(self, text: str) -> int:
            if "saved" in text:
                raise KeyboardInterrupt
            return len(text)

    out = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        run(out=out, steps=30, console=Console(file=Impatient()))
    assert encodax.load(out).config == replace(classifier().model.config, family="bert")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.checkpoints"]
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in curve] == [1, 2, 3, 3]


def test_the_curve_is_written_beside_the_model(tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = run(out=out, steps=30)
    assert result.out == out
    assert same(result.model.params, classifier().model.params)  # writing changes nothing
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert curve == result.curve
    steps = [entry for entry in curve if "loss" in entry]
    evaluations = [entry for entry in curve if "eval_accuracy" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 31))
    assert steps[0].keys() == {
        "step", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "padding",
        "waiting", "share_of_peak", "seconds",
    }  # fmt: skip
    assert evaluations[0].keys() == {"step", "eval_accuracy", "eval_f1", "eval_loss"}
    assert [entry["step"] for entry in evaluations] == list(range(3, 31, 3))
    assert max(entry["learning_rate"] for entry in steps) == pytest.approx(1e-2)
    assert steps[0]["learning_rate"] == pytest.approx(1e-2 / 3)  # three steps of warm-up
    assert 0 < steps[-1]["learning_rate"] < 1e-4  # it is 0 at the step after the last
    assert steps[-1]["loss"] < steps[0]["loss"]
    best = next(entry for entry in evaluations if entry["step"] == result.best_step)
    assert {name: best[f"eval_{name}"] for name in result.metrics} == result.metrics


# Fine-tuning.

GENTLY = {"learning_rate": None, "steps": 1}
"""One step at the rate of fine-tuning, which moves nothing far."""


def test_a_head_that_fits_is_kept() -> None:
    start = classifier().model
    result = run(model=start, **GENTLY)
    assert near(result.model.params, start.params)
    assert not same(result.model.params, start.params)
    assert result.curve[0]["learning_rate"] == pytest.approx(FINE_TUNING_RATE)
    assert result.metrics["accuracy"] == 1.0


def test_a_model_directory_is_a_start(tmp_path: Path) -> None:
    start = classifier().model
    start.save(tmp_path / "model")
    result = run(model=tmp_path / "model", **GENTLY)
    assert near(result.model.params, start.params)
    assert result.model.config == replace(start.config, family="bert")  # it tells of the file


def test_other_labels_take_a_new_head() -> None:
    start = classifier().model
    records = [{**record, "label": f"{record['label']}!"} for record in SENTIMENT]
    result = run(model=start, train=records, eval=records, **GENTLY)
    assert result.model.config.labels == ("no!", "yes!")
    assert near(encoder_of(result.model), encoder_of(start))
    assert result.model.params.keys() == start.params.keys()
    assert not near(result.model.params["head/output"], start.params["head/output"])
    assert result.model.tokenizer is start.tokenizer


def test_another_task_takes_a_new_head() -> None:
    start = classifier().model
    result = encodax.train("token-classification", train=DAYS, eval=DAYS, model=start, **GENTLY)
    assert near(encoder_of(result.model), encoder_of(start))
    assert result.model.params["head/output"]["w"].shape == (16, 5)


def test_another_task_of_no_label_takes_a_new_head() -> None:
    start, few = classifier().model, QUESTIONS[:4]
    result = encodax.train("question-answering", train=few, eval=few, model=start, **GENTLY)
    assert near(encoder_of(result.model), encoder_of(start))
    assert result.model.params["head/output"]["w"].shape == (16, 2)


def test_an_embedder_is_a_start(tmp_path: Path) -> None:
    start = classifier().model.with_embeddings()
    start.save(tmp_path / "model")
    result = run(model=tmp_path / "model", **GENTLY)
    assert near(encoder_of(result.model), encoder_of(start))
    assert result.model.config.labels == ("no", "yes")


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_scores_that_mean_something_else_take_a_new_head(problem: Any) -> None:
    start = classifier().model.with_head("sequence", labels=("no", "yes"), problem=problem)
    result = run(model=start, **GENTLY)
    head = result.model.config.head
    assert head is not None
    assert head.problem == "single_label"
    scores = encodax.Classifier(result.model).predict(["good"])[0].scores
    assert sum(scores.values()) == pytest.approx(1)


def test_the_shape_is_that_of_the_start() -> None:
    with pytest.raises(EncodaxError, match="layers, width: the shape is that of the given"):
        run(model=classifier().model, width=32, layers=2)


# What cannot be.


BREAKING = {
    "learning_rate": 1e30, "warmup": 0.0, "schedule": "constant", "batch_size": 16, "steps": 9,
    "bad_steps": 1,
}  # fmt: skip


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    named = "; ".join(f"example {index}" for index in range(8))
    told = rf"^step 2: the loss is nan at learning rate 1e\+30; .* held: {named} and 8 more$"
    with pytest.raises(EncodaxError, match=told):
        run(**BREAKING, evaluate_every=9)


def test_a_broken_model_is_never_kept(tmp_path: Path) -> None:
    out = tmp_path / "model"
    classifier().model.save(out)
    (out / "metrics.jsonl").write_text("older\n")
    before = snapshot(out)
    with pytest.raises(EncodaxError, match=r"step 1: the model's scores are not finite.* lower"):
        run(**BREAKING, evaluate_every=1, out=out, overwrite=True)
    assert snapshot(out) == before


def test_a_model_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(EncodaxError, match=r"model exists; .*overwrite=True"):
        run(out=tmp_path / "model", steps=1)
    assert snapshot(tmp_path / "model") == {"notes.txt": b"mine"}
    run(model=classifier().model, out=tmp_path / "model", overwrite=True, **GENTLY)
    assert snapshot(tmp_path)["model/notes.txt"] == b"mine"
    encodax.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["model", "teacher", "train", "eval", "corpus", "checkpoints"])
def test_what_is_read_is_not_written(name: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    classifier().model.save(base)
    data = write_lines(base / "data.jsonl", SENTIMENT)
    (tmp_path / "link").symlink_to(base)
    choices: dict[str, Any] = {
        "model": {"model": base},
        "teacher": {"teacher": str(base)},
        "train": {"train": data},
        "eval": {"eval": [data]},
        "corpus": {"train": base},
        "checkpoints": {"checkpoints": base / "checkpoints"},
    }[name]
    before = snapshot(tmp_path)
    for out in (base, tmp_path / "link"):
        with pytest.raises(EncodaxError, match=rf"^out {out} (is the same as|holds) "):
            run(out=out, overwrite=True, lora_rank=2, **choices)
    assert snapshot(tmp_path) == before


def test_an_adapter_does_not_replace_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    classifier().model.save(base)
    run(model=base, out=adapter, lora_rank=2, steps=1)
    before = snapshot(tmp_path)
    with pytest.raises(
        EncodaxError, match=r"out .* is the same as model .*/base, which is an input"
    ):
        run(model=adapter, out=base, overwrite=True, steps=1)
    assert snapshot(tmp_path) == before


def test_a_second_run_leaves_the_first_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.1)
    out = tmp_path / "model"
    refused: list[str] = []

    class Meanwhile(io.StringIO):
        def write(self, text: str) -> int:
            if not refused:
                refused.append(_refusal(out, overwrite=True))
                refused.append(_refusal(tmp_path / "other", checkpoints=f"{out}.checkpoints"))
            return len(text)

    run(out=out, steps=2, console=Console(file=Meanwhile()))
    assert all("is being written by process" in told for told in refused)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.checkpoints"}
    run(out=out, overwrite=True, steps=2)


def _refusal(out: Path, **choices: Any) -> str:
    """What another thread is told that trains to that place."""
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(run, out=out, steps=1, **choices).exception()
    return str(error)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"train": []}, "the data: the data set is empty"),
        ({"eval": []}, "the data: the data set is empty"),
        ({"train": "missing.jsonl"}, r"missing\.jsonl does not exist"),
        ({"train": SENTIMENT[:1]}, "every example has the label 'yes', so there is nothing"),
        ({"eval": [{"text": "x", "label": "new"}]}, "example 0: unknown label 'new'"),
        ({"eval": [{"text": "x " * 40, "label": "no"}]}, "example 0: .* the model takes 32"),
        ({"model": "./missing"}, r"\./missing does not exist: give a model directory, or the id"),
    ],
)
def test_what_cannot_be_learned_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        run(**choices)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(EncodaxError, match="'poetry' is not one of: classification"):
        encodax.train("poetry", train=SENTIMENT, eval=SENTIMENT)


# Where it writes.


@pytest.mark.parametrize("name", ["tensorboard", "profile", "bad_batch.npz", "metrics.jsonl"])
def test_what_is_in_the_way_is_refused_before_the_first_step(tmp_path: Path, name: str) -> None:
    out = tmp_path / "model"
    out.mkdir()
    if "." in name:
        (out / name).mkdir()
    else:
        (out / name).write_text("mine")
    with pytest.raises(EncodaxError, match=rf"{name} is in the way .*; move it away"):
        run(out=out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_checkpoints_are_beside_the_place_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    found = run(out=Path("../model/inner/.."), overwrite=True, **GENTLY)
    assert found.checkpoints == tmp_path / "model.checkpoints"
    assert {path.name for path in tmp_path.iterdir()} == {"else", "model", "model.checkpoints"}


@pytest.mark.parametrize("choices", [{"out": "x" * 250}, {"checkpoints": "ü" * 125}])
def test_a_name_leaves_room_for_those_beside_it(tmp_path: Path, choices: dict[str, str]) -> None:
    places = {name: tmp_path / place for name, place in {"out": "model", **choices}.items()}
    with pytest.raises(EncodaxError, match=r"^the name .* has 250 bytes, .*for 241: choose a s"):
        run(**places)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("choices", [{"out": "file/model"}, {"checkpoints": "file/x"}])
def test_what_cannot_be_written_is_refused_before_the_first_step(
    tmp_path: Path, choices: dict[str, str]
) -> None:
    (tmp_path / "file").write_text("mine")
    places = {name: tmp_path / place for name, place in {"out": "model", **choices}.items()}
    with pytest.raises(EncodaxError, match="cannot be written: Not a directory; choose another"):
        run(**places)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
