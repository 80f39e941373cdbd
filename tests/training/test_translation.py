"""Sequence-to-sequence models trained: what is learned, means of checkpoints, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jobs
import numpy as np
import orbax.checkpoint as ocp
import pytest

import encodax
from encodax import Seq2SeqModel, Translator
from encodax.errors import EncodaxError
from encodax.inference.evaluation import evaluator
from encodax.model_files.run_files import METRICS_FILE, read_curve
from encodax.tasks.task import LossOptions
from encodax.training import TrainResult
from encodax.training.setup.prepare import TrainingSetup, prepare

LETTERS = "abcdef"
PAIRS = [
    {"source": f"{a}{b}{c}", "target": f"{c}{b}{a}".upper()}
    for a in LETTERS
    for b in LETTERS
    for c in LETTERS
]
SMALL: dict[str, Any] = {
    "tokenizer": "char", "layers": 1, "width": 32, "heads": 2, "ffn": 64, "max_positions": 32,
    "dropout_rate": 0.0, "learning_rate": 1e-2, "warmup": 20.0, "batch_tokens": 512,
}  # fmt: skip


def trained(**choices: Any) -> TrainResult:
    return encodax.train("translation", **{"train": PAIRS, "eval": PAIRS[:20], **SMALL, **choices})


def saved_params(checkpoint: Path) -> Any:
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(checkpoint.absolute() / "state")["params"]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """A run that ends with the mean of its three newest checkpoints."""
    out = tmp_path_factory.mktemp("averaged") / "model"
    result = trained(
        out=out, steps=120, evaluate_every=20, save_every=20, keep=2, average=3, seed=1
    )
    return out, result


def job_of_it() -> TrainingSetup:
    return prepare("translation", train=PAIRS, eval=PAIRS[:20], **SMALL, steps=120, seed=1)


def test_it_learns_to_write_backwards_and_the_translator_reads_what_was_saved(
    averaged: tuple[Path, TrainResult],
) -> None:
    out, result = averaged
    assert result.metrics["accuracy"] > 0.99
    assert result.metrics["perplexity"] < 1.2  # smoothing keeps it above 1
    model = Seq2SeqModel.load(out)
    assert model.config.family == "marian"
    found = Translator(model).translate([pair["source"] for pair in PAIRS[:40]], beams=1)
    right = sum(t.text == pair["target"] for t, pair in zip(found, PAIRS[:40], strict=True))
    assert right >= 38


def test_the_mean_is_that_of_the_checkpoints_on_disk(averaged: tuple[Path, TrainResult]) -> None:
    out, result = averaged
    folder = out.with_name("model.checkpoints")
    newest = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())[-3:]
    assert newest == [80, 100, 120]
    each = [saved_params(folder / str(step)) for step in newest]
    mean = jax.tree.map(lambda *leaves: np.mean(np.stack(leaves), axis=0), *each)
    job = job_of_it()
    judged = evaluator(job.model, job.eval, job.loss_options)
    on_device = jax.tree.map(jax.numpy.asarray, [*each, mean])
    *by_step, of_mean = [judged(params)["perplexity"] for params in on_device]
    (written,) = [entry for entry in read_curve(out / METRICS_FILE) if "average" in entry]
    assert (written["step"], written["average"]) == (120, 3)
    assert written["eval_perplexity"] == pytest.approx(of_mean, rel=1e-5)
    assert result.metrics["perplexity"] == pytest.approx(min([*by_step, of_mean]), rel=1e-5)
    if of_mean < min(by_step):
        kept = Seq2SeqModel.load(out).params
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), dict(kept), mean)


def test_a_run_that_has_ended_takes_another_mean(averaged: tuple[Path, TrainResult]) -> None:
    out, result = averaged
    again = trained(
        out=out, steps=120, evaluate_every=20, save_every=20, keep=2, average=2, seed=1, resume=True
    )
    assert again.steps == 120
    each = [saved_params(out.with_name("model.checkpoints") / str(step)) for step in (100, 120)]
    judged = evaluator(result.model, job_of_it().eval, LossOptions(label_smoothing=0.1))
    mean = jax.tree.map(lambda a, b: jax.numpy.asarray((a + b) / 2), *each)
    measured = [entry for entry in result.curve if "eval_perplexity" in entry]
    on_the_way = [entry["eval_perplexity"] for entry in measured if "average" not in entry]
    assert again.curve == [entry for entry in result.curve if "average" not in entry] + [
        {**again.curve[-1], "step": 120, "average": 2}
    ]
    wanted = min(*on_the_way, judged(mean)["perplexity"])  # as if it had been 2 from the start
    assert again.metrics["perplexity"] == pytest.approx(wanted, rel=1e-5)


def test_a_mean_wants_checkpoints() -> None:
    with pytest.raises(EncodaxError, match="average needs checkpoints: give a place"):
        trained(steps=2, average=2)


def test_micro_batches_are_one_batch() -> None:
    losses = [
        [entry["loss"] for entry in trained(steps=4, accumulate=count).curve if "loss" in entry]
        for count in (1, 2)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_remat_changes_no_number() -> None:
    losses = [
        [entry["loss"] for entry in trained(steps=4, remat=kind).curve if "loss" in entry]
        for kind in ("none", "dots", "full")
    ]
    for found in losses[1:]:
        np.testing.assert_allclose(found, losses[0], rtol=1e-6)


def test_batches_may_be_counted_in_examples() -> None:
    job = prepare(
        "translation",
        train=PAIRS, eval=PAIRS[:4], **{**SMALL, "batch_tokens": None, "batch_size": 8}, steps=3,
    )  # fmt: skip
    counts = [sum(map(len, job.run.plan.rows(step))) for step in range(3)]
    assert counts == [8, 8, 8]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"lora_rank": 4}, "lora_rank is for encoders"),
        ({"layer_decay": 0.9}, "layer_decay is for encoders"),
        ({"scan": True}, "scan is for encoders"),
        ({"mask_rate": 0.2}, "mask_rate is not for translation; its options: label_smoothing"),
        ({"train": [{"source": "a"}]}, "example 0: no field 'target'"),
        ({"train": [{"source": "a", "target": " "}]}, "example 0: the text is empty"),
        ({"train": [{"target": "a"}]}, "example 0: no field 'source'"),
        ({"eval": [{"source": "a" * 40, "target": "b"}]}, "example 0: 41 tokens, and the model"),
        ({"eval": [{"source": "a", "target": "b" * 40}]}, "target of example 0: 41 tokens, and"),
        ({"warmup": 1.5}, "warmup = 1.5 is neither a share of the steps, below 1, nor a number"),
        ({"beta2": 1.0}, "beta2 = 1.0 is not in 0..1"),
        ({"average": 0}, "average = 0 is not above 0"),
        ({"attention_dropout_rate": 1.0}, "attention_dropout_rate = 1.0 is not in 0..1"),
    ],
)
def test_what_cannot_be_trained_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        trained(steps=1, **choices)


def test_it_goes_on_from_a_trained_model(averaged: tuple[Path, TrainResult]) -> None:
    out, _ = averaged
    result = encodax.train(
        "translation", model=out, train=PAIRS, eval=PAIRS[:20], steps=2, learning_rate=1e-6
    )
    assert result.metrics["accuracy"] > 0.99


def test_toy_jobs_have_translation() -> None:
    assert "translation" in jobs.RECORDS
