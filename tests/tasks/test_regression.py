"""Records to numbers, correlations, and a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from toys import STARS, scorer

import encodax
from encodax.data.parquet import ClassName
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.tasks import regression
from encodax.tasks.classification import Classification
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.text.tokenizer import Encoding, Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch

BATCH = PackedBatch.from_rows(np.zeros((1, 2), np.int32))


@pytest.fixture(scope="module")
def encoding(tiny_tokenizer: Tokenizer) -> Encoding:
    return tiny_tokenizer.encode(["the cat"])[0]


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return regression.parse(Record(fields, "here"), labelled=labelled)


@pytest.mark.parametrize(
    ("given", "target"), [(1.5, 1.5), (-3, -3.0), (0, 0.0), ("2.5", 2.5), (" 1e-3\n", 0.001)]
)
def test_a_record_is_a_text_and_a_number(given: object, target: float) -> None:
    assert parsed({"text": "a", "score": given}) == Example("a", target, "here")


def test_a_pair_has_one_number() -> None:
    record = {"text": "a", "text_pair": "b", "score": 1}
    assert parsed(record) == Example(("a", "b"), 1.0, "here")


def test_a_number_is_not_looked_at_where_none_is_asked() -> None:
    assert parsed({"text": "a", "score": []}, labelled=False) == Example("a", None, "here")


@pytest.mark.parametrize(
    "given",
    [None, "", "high", True, [1], math.nan, math.inf, "nan", "-inf", 1e39, 10**400],
)
def test_what_is_no_finite_number_is_refused(given: object) -> None:
    with pytest.raises(EncodaxError, match="here: needs a 'score', a finite number, not "):
        parsed({"text": "a", "score": given})


@pytest.mark.parametrize("given", ["1,5", " -0,5"])
def test_a_decimal_comma_is_told(given: str) -> None:
    with pytest.raises(EncodaxError, match=f"not '{given}'; write the decimal comma as a point$"):
        parsed({"text": "a", "score": given})


def test_a_class_counts_by_its_number() -> None:
    assert parsed({"text": "a", "score": ClassName.of("good", 2)}).target == 2


def test_a_number_may_not_be_missing() -> None:
    with pytest.raises(EncodaxError, match=r"here: .*, a finite number \(found: text, label\); .*"):
        parsed({"text": "a", "label": 1})


def examples(*targets: float) -> list[Example]:
    return [Example("text", target, f"line {n}") for n, target in enumerate(targets, 1)]


def answers(*scores: float) -> list[Classification]:
    return [Classification("score", score, {"score": score}) for score in scores]


def test_there_is_one_label() -> None:
    assert regression.labels(examples(1.0, 2.0, 2.0)) == ("score",)


def test_one_number_alone_teaches_nothing() -> None:
    with pytest.raises(
        EncodaxError, match=r"every example has the number 1\.5, so there is nothing"
    ):
        regression.labels(examples(1.5, 1.5))


def test_the_target_is_the_number(encoding: Encoding) -> None:
    found = regression.targets(Example("a", 1.5, "here"), encoding, ("stars",))
    assert (found.values, found.weights) == (1.5, 1)
    assert np.shape(found.values) == np.shape(found.weights) == ()


def test_the_loss_is_the_squared_error() -> None:
    random = np.random.default_rng(0)
    scores, values = random.normal(size=(2, 3, 4)).astype(np.float32)
    weights = random.choice([0.0, 1.0], size=(3, 4)).astype(np.float32)
    output = ModelOutput(jnp.zeros((3, 2, 1)), jnp.asarray(scores)[..., None], None, {})
    targets = Targets(jnp.asarray(values), jnp.asarray(weights))
    total, weight = regression.loss(output, targets, BATCH, LossOptions())
    np.testing.assert_allclose(total, ((scores - values) ** 2 * weights).sum(), rtol=1e-6)
    assert weight == weights.sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_are_those_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    right = random.integers(4, size=30).astype(float)  # many are equal
    found = right + random.normal(size=30).round(1)
    assert regression.metrics(answers(*found), examples(*right)) == pytest.approx(
        {
            "pearson": stats.pearsonr(found, right).statistic,
            "spearman": stats.spearmanr(found, right).statistic,
            "mse": np.mean((found - right) ** 2),
        }
    )


@pytest.mark.parametrize(
    ("found", "right"), [([0.1] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.1] * 3), ([2.0], [1.0])]
)
def test_what_is_constant_correlates_with_nothing(found: list[float], right: list[float]) -> None:
    metrics = regression.metrics(answers(*found), examples(*right))
    assert (metrics["pearson"], metrics["spearman"]) == (0.0, 0.0)
    assert metrics["mse"] > 0


def test_a_model_learns_and_is_saved(tmp_path: Path) -> None:
    result = scorer()
    assert result.metrics["spearman"] > 0.95
    assert result.metrics["pearson"] > 0.95
    assert result.model.config.labels == ("score",)
    result.model.save(tmp_path / "model")
    classify = encodax.Classifier.load(tmp_path / "model")
    told = {name: value for name, value in result.metrics.items() if name != "loss"}
    assert classify.evaluate(records_of(STARS)) == pytest.approx(told, abs=1e-6)
    found = [answer.score for answer in classify.predict([record["text"] for record in STARS])]
    errors = np.square(np.subtract(found, [record["score"] for record in STARS]))
    assert errors.mean() == pytest.approx(result.metrics["mse"], abs=1e-6)


def test_a_table_has_numbers_as_strings(tmp_path: Path) -> None:
    lines = [f"{record['text'].replace(',', '')},{record['score']}" for record in STARS]
    path = tmp_path / "stars.csv"
    path.write_text("\n".join(["text,score", *lines]))
    choices = {"model": scorer().model, "steps": 1}
    result = encodax.train("regression", train=path, eval=path, **choices)
    assert result.metrics["spearman"] > 0.9


def test_several_scores_are_not_measured_by_one_number(tiny_model: Model) -> None:
    model = tiny_model.with_head("sequence", labels=("a", "b"), problem="regression")
    with pytest.raises(EncodaxError, match=r"example 0: one number is given, and .* has 2 scores"):
        encodax.Classifier(model).evaluate(records_of(STARS))
