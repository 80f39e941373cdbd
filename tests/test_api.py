"""Names that Python users call, as in the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import DAYS, QUICK, SENTIMENT, SHAPE, classifier, same, tagger

import encodax
from encodax.models.encoder_model import Model
from encodax.types.batches import PackedBatch, Params

TEXTS = ["good thing", "a bad thing", "good"]

IMPORTS = """
import sys
import encodax
dir(encodax)
assert encodax.__version__
from encodax.cli import main as cli
sys.argv = ["encodax", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
heavy = {"jax", "haiku", "optax", "numpy", "sklearn", "tokenizers"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_waits_for_no_library(arguments: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", IMPORTS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "encodax" in done.stdout


def test_every_public_name_is_there() -> None:
    for name in encodax.__all__:
        assert getattr(encodax, name) is not None
    assert set(dir(encodax)) == set(encodax.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = encodax.nonsense


def test_train_load_predict(tmp_path: Path) -> None:
    path = tmp_path / "model"
    result = encodax.train(
        "classification", train=SENTIMENT, eval=SENTIMENT, out=path, steps=30, **SHAPE, **QUICK
    )
    assert result.metrics == {"accuracy": 1.0, "f1": 1.0, "loss": pytest.approx(0.1, abs=0.1)}
    model = encodax.load(path)
    assert isinstance(model, encodax.Model)
    assert same(model.params, result.model.params)
    answers = encodax.Classifier.load(path).predict(TEXTS, truncate=False)
    assert [answer.label for answer in answers] == ["yes", "no", "yes"]
    with pytest.raises(encodax.EncodaxError, match="is one for classification"):
        encodax.TokenClassifier.load(path)


def test_spans_are_predicted(tmp_path: Path) -> None:
    tagger().model.save(tmp_path / "model")
    (spans,) = encodax.TokenClassifier.load(str(tmp_path / "model")).predict([DAYS[0]["text"]])
    assert [(span.start, span.end, span.label) for span in spans] == [
        (3, 9, "day"),
        (10, 12, "who"),
    ]


@pytest.fixture(scope="module")
def model() -> Model:
    return classifier().model


@pytest.fixture(scope="module")
def batch(model: Model) -> PackedBatch:
    return model.batch(TEXTS)


def test_apply_is_one_function_eager_and_compiled(model: Model, batch: PackedBatch) -> None:
    eager = model.apply(model.params, batch, is_training=False, rng=None)
    compiled = jax.jit(model.apply)(model.params, batch)
    assert eager.logits is not None
    assert compiled.logits is not None
    assert eager.logits.shape == (3, 1, 2)
    assert eager.hidden.shape == (*batch.token_ids.shape, 16)
    np.testing.assert_allclose(eager.logits, compiled.logits, atol=1e-5)
    np.testing.assert_allclose(eager.hidden, compiled.hidden, atol=1e-5)
    assert eager.logits[:, 0].argmax(-1).tolist() == [1, 0, 1]


def loss(model: Model, params: Params, batch: PackedBatch) -> Any:
    logits = model.apply(params, batch, is_training=False, rng=None).logits
    assert logits is not None
    labels = jnp.asarray([[0], [1], [0]])  # all wrong
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def test_apply_has_a_gradient(model: Model, batch: PackedBatch) -> None:
    value, slope = jax.jit(jax.value_and_grad(lambda params: loss(model, params, batch)))(
        model.params
    )
    assert jax.tree.structure(slope) == jax.tree.structure(model.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    bias, step = slope["head/output"]["b"], 1e-2
    moved = model.params["head/output"]["b"].at[0].add(step)
    higher = {**model.params, "head/output": {**model.params["head/output"], "b": moved}}
    rise = (loss(model, higher, batch) - value) / step
    np.testing.assert_allclose(bias[0], rise, rtol=2e-2)


def test_optax_trains_it(model: Model, batch: PackedBatch) -> None:
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params: Params, state: Any) -> Any:
        value, slope = jax.value_and_grad(lambda params: loss(model, params, batch))(params)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(params, updates), state, value

    params, state, values = model.params, optimizer.init(model.params), []
    for _ in range(10):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


def test_dropout_draws_from_the_key_it_is_given(tiny_model: Model) -> None:
    batch = tiny_model.batch(["the cat sat on the mat"])
    forward = jax.jit(tiny_model.apply, static_argnames="is_training")

    def logits(seed: int) -> Any:
        found = forward(tiny_model.params, batch, is_training=True, rng=jax.random.key(seed))
        return np.asarray(found.logits)

    np.testing.assert_array_equal(logits(0), logits(0))
    assert not np.allclose(logits(0), logits(1))


def test_a_batch_has_few_widths(model: Model) -> None:
    widths = {model.batch(["good " * count]).token_ids.shape[1] for count in range(1, 31)}
    assert widths == {4, 8, 16, 32}
