"""Runs that train a part of a model, or learn from another one; and what they leave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from toys import QUICK, SENTIMENT, SHAPE, classifier, same

import encodax
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.options.presets import PRESETS
from encodax.training import dry_run
from encodax.training.loop.profiler import PROFILE_FOLDER
from encodax.training.loop.reporter import BAD_BATCH_FILE
from encodax.training.pretrain import HELD_OUT, pretraining
from encodax.training.setup.start import half_of


def run(task: str = "classification", **choices: Any) -> Any:
    given: dict[str, Any] = {"train": SENTIMENT, "eval": SENTIMENT, "steps": 4, **QUICK}
    if choices.get("model") is None and choices.get("teacher") is None:
        given |= SHAPE
    return encodax.train(task, **{**given, **choices})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("base") / "model"
    classifier().model.save(place)
    return place


def changed(first: Model, second: Model) -> set[str]:
    """The modules whose parameters are not equal."""
    return {path for path in first.params if not same(first.params[path], second.params[path])}


def test_an_adapter_is_written_and_makes_the_model_again(tmp_path: Path, base: Path) -> None:
    out = tmp_path / "adapter"
    result = run(model=base, out=out, lora_rank=2, lora_targets="attention/value$")
    start = Model.load(base)
    assert changed(start, result.model) == {
        "encoder/layer_0/attention/value", "head/dense", "head/output"
    }  # fmt: skip
    assert (out / "adapter_model.safetensors").is_file()
    assert not (out / "model.safetensors").exists()
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 2)
    assert config["base_model_name_or_path"] == str(base)
    texts = [record["text"] for record in SENTIMENT]
    wanted, found = (
        [answer.score for answer in encodax.Classifier(model).predict(texts)]
        for model in (result.model, encodax.load(out))
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_adapter_is_merged_on_request(tmp_path: Path, base: Path) -> None:
    out = tmp_path / "whole"
    result = run(model=base, out=out, lora_rank=2, merge=True)
    assert not (out / "adapter_config.json").exists()
    assert same(encodax.load(out).params, result.model.params)


def test_a_run_of_adapters_goes_on(tmp_path: Path, base: Path) -> None:
    choices = {"model": base, "lora_rank": 2, "save_every": 2, "evaluate_every": 4}
    straight = run(out=tmp_path / "a", **choices)
    again = run(out=tmp_path / "a", resume_step=2, **choices)
    assert same(again.model.params, straight.model.params)


def test_an_adapter_wants_a_base_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(EncodaxError, match="an adapter needs a base model with a name"):
        run(model=classifier().model, out=tmp_path / "adapter", lora_rank=2)
    assert not (tmp_path / "adapter").exists()


def test_what_is_frozen_stays() -> None:
    start = classifier().model
    result = run(model=start, freeze="^encoder/")
    assert changed(start, result.model) == {"head/dense", "head/output"}


def test_rates_fall_with_the_depth() -> None:
    start = classifier().model

    def moved(decay: float, path: str) -> float:
        model = run(model=start, steps=1, layer_decay=decay).model
        leaves = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), start.params[path], model.params[path]
        )
        return float(max(jax.tree.leaves(leaves)))

    for path, factor in (("head/output", 1.0), ("encoder/embeddings/token", 0.25)):
        assert moved(0.5, path) == pytest.approx(factor * moved(1.0, path), rel=1e-3)


# Distillation.


def test_a_student_has_half_of_the_teachers_layers() -> None:
    teacher = run(steps=1, layers=4).model
    assert half_of(teacher) == [0, 3]
    assert half_of(classifier().model) == [0]
    result = run("distillation", teacher=teacher, steps=2)
    assert len(result.model.config.encoder.layers) == 2
    assert result.model.config.labels == teacher.config.labels


def test_a_student_of_ones_own_comes_nearer(tmp_path: Path) -> None:
    teacher = classifier().model
    student = run(steps=1, seed=3).model
    result = run("distillation", teacher=teacher, model=student, steps=60, out=tmp_path / "model")
    assert result.metrics["similarity"] == pytest.approx(1.0)
    assert result.curve[-2]["loss"] < 0.2 * result.curve[0]["loss"]
    encodax.Classifier.load(tmp_path / "model").predict(["good"])


def test_a_teacher_belongs_to_distillation() -> None:
    with pytest.raises(EncodaxError, match="distillation needs a teacher"):
        run("distillation")
    with pytest.raises(EncodaxError, match="classification takes no teacher"):
        run(teacher=classifier().model)


# Guards.


def test_bad_steps_are_skipped_and_the_run_goes_on() -> None:
    scores = [{"text": record["text"], "score": float(i)} for i, record in enumerate(SENTIMENT)]
    broken = [*scores, {"text": "good", "score": 3e38}]  # its square is not finite
    result = run("regression", train=broken, eval=scores, steps=len(broken), batch_size=1)
    assert result.steps == len(broken)
    skipped = [entry["step"] for entry in result.curve if not np.isfinite(entry.get("loss", 0))]
    assert len(skipped) == 1
    assert result.curve[-2]["skipped"] == 1
    assert np.isfinite(result.metrics["mse"])


def test_the_batch_of_the_last_bad_step_is_saved(tmp_path: Path) -> None:
    out = tmp_path / "model"
    choices = {"learning_rate": 1e30, "warmup": 0.0, "steps": 9, "evaluate_every": 9}
    with pytest.raises(EncodaxError, match=r"in 3 steps in a row; .* it is in .*bad_batch\.npz"):
        run(out=out, bad_steps=3, **choices)
    with np.load(out / BAD_BATCH_FILE) as batch:
        assert batch["batch.token_ids"].shape == batch["batch.segment_ids"].shape
        assert batch["targets.values"].any()


def test_a_window_of_steps_is_traced(tmp_path: Path) -> None:
    run(out=tmp_path / "model", profile_steps="2:4")
    assert list((tmp_path / "model" / PROFILE_FOLDER).rglob("*.xplane.pb"))


@pytest.mark.parametrize("text", ["3", "3:", "4:3", "0:2", "a:b"])
def test_a_window_is_two_numbers(text: str) -> None:
    with pytest.raises(
        EncodaxError, match=f"profile_steps '{text}' is not START:STOP, such as 10:15"
    ):
        run(profile_steps=text)


# Trials and pretraining.


def test_a_trial_tells_what_a_run_would_be_and_writes_nothing(tmp_path: Path) -> None:
    trial = dry_run(
        "classification", train=SENTIMENT, eval=SENTIMENT, out=tmp_path / "model", steps=100,
        **SHAPE, batch_tokens=512,
    )  # fmt: skip
    assert (trial.steps, trial.batch_tokens) == (100, 512)
    assert trial.parameters == trial.trained_parameters == classifier().model.parameter_count()
    assert trial.parameter_bytes == 4 * trial.parameters
    assert 2 * trial.parameter_bytes <= trial.optimizer_bytes < 2 * trial.parameter_bytes + 100
    assert trial.flops > 0
    assert trial.temporary_bytes > 0
    assert np.isfinite(trial.loss)
    assert set(trial.to_json()) == {name for name in vars(trial)}
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_holds_out_one_in_a_hundred(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"text {i}\n" for i in range(250)))
    given = pretraining(tmp_path / "a.txt", preset="mini", steps=7, vocabulary_size=100)
    assert len(given["train"]) + len(given["eval"]) == 250
    parts = [[record.fields["text"] for record in given[name]] for name in ("train", "eval")]
    assert len(parts[1]) == 2
    assert sorted(parts[0] + parts[1]) == sorted(f"text {i}" for i in range(250))
    assert parts[0] == sorted(parts[0], key=lambda text: int(text.split()[1]))
    assert (given["layers"], given["width"]) == (4, 256)
    assert (given["vocabulary_size"], given["steps"]) == (100, 7)
    named = pretraining(tmp_path / "a.txt", eval=tmp_path / "a.txt")
    assert (named["train"], named["layers"]) == (tmp_path / "a.txt", 2)


def test_a_corpus_that_is_too_small_or_a_size_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\n" * (HELD_OUT - 1))
    with pytest.raises(EncodaxError, match=r"has 99 records: give texts to measure on \(--eval\)"):
        pretraining(tmp_path / "a.txt")
    with pytest.raises(EncodaxError, match=f"'huge' is not one of: {', '.join(PRESETS)}"):
        pretraining(tmp_path / "a.txt", preset="huge")


def test_a_language_is_learned_from_a_corpus(tmp_path: Path) -> None:
    words = ("red", "green", "blue", "cold")
    lines = [f"{a} {b} {a} {b} {a}\n\n" for a in words for b in words for _ in range(7)]
    (tmp_path / "corpus.txt").write_text("".join(lines))
    given = pretraining(
        [tmp_path / "corpus.txt"], steps=30, evaluate_every=15, batch_tokens=512,
        learning_rate=1e-2, **{**SHAPE, "vocabulary_size": 60},
    )  # fmt: skip
    result = encodax.train("masked-lm", **given)
    first, last = (entry["loss"] for entry in (result.curve[0], result.curve[-2]))
    assert last < 0.6 * first
    assert result.metrics["perplexity"] == pytest.approx(np.exp(result.metrics["loss"]), rel=1e-6)


def test_checkpoints_of_another_run_stay_unless_they_are_to_go(tmp_path: Path) -> None:
    older = tmp_path / "model.checkpoints" / "7"
    run(out=tmp_path / "model", steps=7)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(EncodaxError, match=r"model\.checkpoints exists; choose another place"):
        run(out=tmp_path / "model")
    assert older.is_dir()
    result = run(out=tmp_path / "model", overwrite=True, steps=2)
    assert not older.exists()
    assert set(result.places()) >= {"model", "learning curve", "checkpoints"}
    with pytest.raises(EncodaxError, match="there is no checkpoint to resume from"):
        run(out=tmp_path / "other", resume=True)
