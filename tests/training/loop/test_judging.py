"""Which model of a run is kept: by the metric, then by the loss, then the later."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from toys import QUICK, SENTIMENT, SHAPE

import encodax
from encodax.errors import EncodaxError
from encodax.model_files.run_files import (
    METRICS_FILE,
    RUN_FILE,
    evaluation_sort_key,
    read_curve,
    read_facts,
)
from encodax.pages.run_report import _History
from encodax.tasks import TASKS, embedding
from encodax.tasks.task import Example, LossOptions
from encodax.training import TrainResult
from encodax.training.setup.prepare import check_metric

TOLD = [(0.487, 0.3), (0.487, 0.25), (0.487, 0.25), (0.487, 0.4), (0.6, 0.9), (0.55, 0.1)]
"""Macro F1 and loss of one evaluation after another, as of a class that is rarely right."""


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs whose evaluations say what they are told to."""

    def run(told: list[tuple[float, float]], **choices: Any) -> TrainResult:
        rest = iter(told)

        def evaluate(params: Any) -> dict[str, float]:
            f1, loss = next(rest)
            return {"accuracy": 0.95, "f1": f1, "loss": loss}

        # The package's own name `train` is the function.
        monkeypatch.setattr(sys.modules["encodax.training.train"], "evaluator", lambda *_: evaluate)
        shape = {**SHAPE, **QUICK, "steps": len(told), "evaluate_every": 1, **choices}
        return encodax.train("classification", train=SENTIMENT, eval=SENTIMENT, **shape)

    return run


@pytest.mark.parametrize(
    ("count", "metric", "best"),
    [(6, None, 5), (4, "f1", 3), (6, "loss", 6)],
)
def test_the_best_is_kept(
    judged: Any, tmp_path: Path, count: int, metric: str | None, best: int
) -> None:
    out = tmp_path / "model"
    result = judged(TOLD[:count], metric=metric, out=out)
    assert result.best_step == best
    assert (result.metrics["f1"], result.metrics["loss"]) == TOLD[best - 1]
    history = _History(read_facts(out / RUN_FILE), read_curve(out / METRICS_FILE))
    assert history.best is not None
    assert history.best["step"] == best  # the report knows the same one
    assert read_facts(out / RUN_FILE).metric == (metric or "f1")


def test_patience_is_with_the_metric(judged: Any) -> None:
    result = judged([(0.5, 0.4), (0.5, 0.3), (0.5, 0.2), (0.9, 0.1)], patience=2)
    assert (result.steps, result.best_step) == (3, 3)
    result = judged([(0.5, 0.4), (0.5, 0.3), (0.6, 0.2), (0.6, 0.1)], patience=2)
    assert result.steps == 4


@pytest.mark.parametrize(
    ("worse", "better", "larger"),
    [
        ({"m": 0.1, "loss": 0.1}, {"m": 0.2, "loss": 9.0}, True),
        ({"m": 0.2, "loss": 0.1}, {"m": 0.1, "loss": 9.0}, False),
        ({"m": 0.1, "loss": 0.2}, {"m": 0.1, "loss": 0.1}, True),
        ({"m": math.nan, "loss": 0.1}, {"m": 0.0, "loss": 9.0}, True),
        ({"m": math.nan, "loss": 0.1}, {"m": 9.0, "loss": 9.0}, False),
        ({"m": 0.1, "loss": math.nan}, {"m": 0.1, "loss": 9.0}, True),
        ({"m": 0.1}, {"m": 0.1, "loss": 9.0}, True),
    ],
)
def test_what_is_no_number_is_the_worst(
    worse: dict[str, float], better: dict[str, float], larger: bool
) -> None:
    first, second = (
        evaluation_sort_key(each, "m", larger_is_better=larger) for each in (worse, better)
    )
    assert first < second


@pytest.mark.parametrize("task", TASKS.values())
def test_each_task_knows_its_metrics(task: Any) -> None:
    judged = [Example("a", None, "", ("b",))]
    assert task.metric in task.metric_names
    for metric in (None, task.metric, "loss"):
        check_metric(task, judged, LossOptions(), metric)
    with pytest.raises(
        EncodaxError, match=f"metric 'best' is not one of those of {task.name}: .*, loss$"
    ):
        check_metric(task, judged, LossOptions(), "best")


def test_metrics_of_vectors_are_those_of_the_data_and_of_each_width() -> None:
    scored, unscored = [Example("a", 1.0, "", ("b",))], [Example("a", None, "", ("b",))]
    check_metric(embedding.TASK, scored, LossOptions(widths=(8,)), "pearson_8")
    check_metric(embedding.TASK, unscored, LossOptions(widths=(8,)), "mrr_8")
    with pytest.raises(EncodaxError, match=r"score, mrr, accuracy, loss$"):
        check_metric(embedding.TASK, unscored, LossOptions(), "spearman")
