"""Records to pairs, scores to how well queries are answered, and a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score
from toys import MATCHES, STARS, ranker, scorer

import encodax
from encodax.config import InferenceConfig
from encodax.data.sources import Record, records_of
from encodax.errors import EncodaxError
from encodax.inference.predictors import Predictor
from encodax.models.encoder_model import Model
from encodax.tasks import reranking
from encodax.tasks.classification import Classification
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.types.batches import ModelOutput, PackedBatch

BATCH = PackedBatch.from_rows(np.zeros((1, 2), np.int32))


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return reranking.parse(Record(fields, "here"), labelled=labelled)


@pytest.mark.parametrize(("given", "target"), [(1, 1.0), (0, 0.0), (0.25, 0.25), ("1", 1.0)])
def test_a_record_is_a_pair_and_a_label(given: object, target: float) -> None:
    record = {"query": "a", "text": "b", "label": given}
    assert parsed(record) == Example(("a", "b"), target, "here")


def test_a_label_is_not_looked_at_where_none_is_asked() -> None:
    assert parsed({"query": "a", "text": "b"}, labelled=False) == Example(("a", "b"), None, "here")


@pytest.mark.parametrize(
    ("label", "target"),
    [(True, 1), (False, 0), ("True", 1), ("FALSE", 0), (1.0, 1), ("0.25", 0.25)],
)
def test_a_label_may_be_true_or_false(label: object, target: float) -> None:
    assert parsed({"query": "a", "text": "b", "label": label}).target == target


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "b", "label": 1}, r"no field 'query' \(found: text, label\)"),
        ({"query": "a", "label": 1}, "no field 'text'"),
        ({"query": "a", "text": " ", "label": 1}, "the text is empty"),
        ({"query": "a", "text": "b"}, r"needs a 'label', a finite number \(found: query, text\)"),
        ({"query": "a", "text": "b", "label": "yes"}, "needs a 'label', a finite number, not 'yes"),
        ({"query": "a", "text": "b", "label": 2}, r"the label 2 is not in 0\.\.1"),
        ({"query": "a", "text": "b", "label": -0.5}, r"the label -0\.5 is not in 0\.\.1"),
    ],
)
def test_what_is_no_labelled_pair_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"^here: {message}"):
        parsed(fields)


def test_the_loss_is_the_formula() -> None:
    random = np.random.default_rng(0)
    scores = 3 * random.normal(size=(3, 4)).astype(np.float32)
    values = random.choice([0.0, 0.3, 1.0], size=(3, 4)).astype(np.float32)
    weights = random.choice([0.0, 1.0], size=(3, 4)).astype(np.float32)
    right = 1 / (1 + np.exp(-scores.astype(np.float64)))
    losses = -(values * np.log(right) + (1 - values) * np.log(1 - right))
    output = ModelOutput(jnp.zeros((3, 2, 1)), jnp.asarray(scores)[..., None], None, {})
    targets = Targets(jnp.asarray(values), jnp.asarray(weights))
    total, weight = reranking.loss(output, targets, BATCH, LossOptions())
    np.testing.assert_allclose(total, (losses * weights).sum(), rtol=1e-6)
    assert weight == weights.sum()


def measured(*rows: tuple[str, float, float]) -> dict[str, float]:
    """Metrics of (query, score, label)."""
    answers = [Classification("score", score, {"score": score}) for _, score, _ in rows]
    examples = [Example((query, "text"), label, "here") for query, _, label in rows]
    return reranking.metrics(answers, examples)


def test_metrics_of_one_query() -> None:
    found = measured(("q", 3.0, 0), ("q", 2.0, 1), ("q", 1.0, 0), ("q", 0.0, 1))
    gain = 1 / np.log2(3) + 1 / np.log2(5)
    assert found == pytest.approx(
        {"map": (1 / 2 + 2 / 4) / 2, "mrr@10": 1 / 2, "ndcg@10": gain / (1 + 1 / np.log2(3))}
    )


def test_every_query_counts_the_same_wherever_its_texts_stand() -> None:
    found = measured(("a", 1.0, 1), ("b", 1.0, 0), ("a", 0.0, 0), ("b", 0.0, 1), ("b", -1.0, 0))
    assert found == pytest.approx(
        {"map": (1 + 1 / 2) / 2, "mrr@10": 0.75, "ndcg@10": (1 + 1 / np.log2(3)) / 2}
    )


def test_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = [random.choice([0.0, 0.0, 0.25, 0.5, 1.0], size=25) for _ in range(4)]
    scores = [random.normal(size=25) for _ in range(4)]
    rows = [
        (str(query), float(score), float(label))
        for query in range(4)
        for score, label in zip(scores[query], labels[query], strict=True)
    ]
    pairs = list(zip(labels, scores, strict=True))
    precision = [average_precision_score(label >= 0.5, score) for label, score in pairs]
    gains = [ndcg_score(label[None], score[None], k=10) for label, score in pairs]
    found = measured(*rows)
    assert found["map"] == pytest.approx(np.mean(precision))
    assert found["ndcg@10"] == pytest.approx(np.mean(gains))


def test_what_stands_below_the_tenth_place_earns_no_rank() -> None:
    rows = [("q", -float(index), float(index == 10)) for index in range(12)]
    assert measured(*rows) == pytest.approx({"map": 1 / 11, "mrr@10": 0, "ndcg@10": 0})


def test_equal_scores_earn_nothing() -> None:
    first = measured(("q", 1.0, 1), ("q", 1.0, 0), ("q", 1.0, 0))
    last = measured(("q", 1.0, 0), ("q", 1.0, 0), ("q", 1.0, 1))
    assert first == last
    assert first["map"] == pytest.approx(1 / 3)


def test_a_query_without_a_relevant_text_is_left_out() -> None:
    rows = [("a", 1.0, 0.0), ("a", 0.0, 1.0)]
    assert measured(*rows, ("b", 1.0, 0.0), ("b", 2.0, 0.4)) == measured(*rows)


def test_no_relevant_text_at_all_is_refused() -> None:
    with pytest.raises(EncodaxError, match="none of 2 queries has a relevant text"):
        measured(("a", 1.0, 0.0), ("b", 1.0, 0.4))


def test_the_metric_that_decides_is_measured() -> None:
    assert reranking.TASK.metric in measured(("q", 1.0, 1))


# A model.


def test_a_model_learns_and_is_saved(tmp_path: Path) -> None:
    result = ranker()
    told = dict(result.metrics)
    assert told.pop("loss") < 0.5
    assert told == {"map": 1.0, "mrr@10": 1.0, "ndcg@10": 1.0}
    result.model.save(tmp_path / "model")
    rerank = encodax.Reranker.load(tmp_path / "model")
    assert rerank.model.config.labels == ("score",)
    settings = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert settings["model_type"] == "CrossEncoder"
    assert settings["activation_fn"] == "torch.nn.modules.activation.Sigmoid"
    assert rerank.evaluate(records_of(MATCHES)) == told
    predictor: Predictor[Any] = Predictor.load(tmp_path / "model")
    assert predictor.evaluate(records_of(MATCHES)) == told
    texts = [record["text"] for record in MATCHES[:3]]
    assert rerank.rank("what is green?", texts)[0].text == "the leaf is green"
    scores = rerank.predict([(record["query"], record["text"]) for record in MATCHES])
    for query in {record["query"] for record in MATCHES}:
        own = [(s, r["label"]) for s, r in zip(scores, MATCHES, strict=True) if r["query"] == query]
        assert max(own)[1] == 1


def test_two_classes_are_measured_by_the_second() -> None:
    records = [
        {"text": r["query"], "text_pair": r["text"], "label": str(r["label"])} for r in MATCHES
    ]
    choices = {"steps": 30, "learning_rate": 1e-2, "batch_size": len(MATCHES)}
    model = encodax.train(
        "classification", train=records, eval=records, model=ranker().model, **choices
    ).model
    assert model.config.labels == ("0", "1")
    rerank = encodax.Reranker(model)
    assert rerank.evaluate(records_of(MATCHES))["map"] == 1
    flipped = [{**record, "label": 1 - record["label"]} for record in MATCHES]
    assert rerank.evaluate(records_of(flipped))["map"] < 1


def test_a_published_head_of_one_score_is_trained_on(tiny_model: Model) -> None:
    model = tiny_model.with_head("sequence", labels=("LABEL_0",), problem="regression")
    for task, records in (("reranking", MATCHES), ("regression", STARS)):
        choices: dict[str, Any] = {"train": records, "eval": records, "steps": 1}
        found = encodax.train(task, model=model, **choices).model
        activation = {"reranking": "sigmoid", "regression": "linear"}[task]
        usage = InferenceConfig(activation=activation)
        assert found.config == replace(model.config, usage=usage)
        near = jax.tree.map(lambda a, b: np.allclose(a, b, atol=2e-4), found.params, model.params)
        assert jax.tree.all(near)


def test_a_quantity_stays_one_for_sentence_transformers(tmp_path: Path, tiny_model: Model) -> None:
    # One that goes through the sigmoid, and learns a quantity.
    model = tiny_model.with_head("sequence", labels=("score",), problem="regression")
    squashed = replace(
        model, config=replace(model.config, usage=InferenceConfig(activation="sigmoid"))
    )
    choices: dict[str, Any] = {"train": STARS, "eval": STARS, "steps": 1}
    trained = encodax.train("regression", model=squashed, **choices).model
    trained.save(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert settings["activation_fn"] == "torch.nn.modules.linear.Identity"
    kept = encodax.train(
        "reranking", model=squashed, **choices | {"train": MATCHES, "eval": MATCHES}
    )
    assert kept.model.config.usage == squashed.config.usage


def test_a_score_of_another_meaning_takes_a_new_head(tiny_model: Model) -> None:
    for labels, problem in ((("a",), "multi_label"), (("a", "b"), "regression")):
        model = tiny_model.with_head("sequence", labels=labels, problem=problem)  # type: ignore[arg-type]
        choices: dict[str, Any] = {"train": MATCHES, "eval": MATCHES, "steps": 1}
        config = encodax.train("reranking", model=model, **choices).model.config
        assert config.labels == ("score",)
        assert config.head is not None
        assert config.head.problem == "regression"


def test_a_regression_is_not_measured_as_a_ranking() -> None:
    with pytest.raises(EncodaxError, match="example 0: no field 'query'"):
        encodax.Reranker(scorer().model).evaluate(records_of(STARS))
