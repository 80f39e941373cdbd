"""The page of a run tells what its files say."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import QUICK, SENTIMENT, SHAPE

import encodax
from encodax.errors import EncodaxError
from encodax.model_files.run_files import (
    METRICS_FILE,
    REPORT_FILE,
    RUN_FILE,
    RunFacts,
    read_curve,
    read_facts,
)
from encodax.pages.run_report import EVALUATIONS, render, write_report

FACTS = RunFacts(
    task="classification",
    metric="f1",
    larger_is_better=True,
    steps=4_000,
    choices={"learning_rate": 0.001, "freeze": "<a>&b", "scan": False, "widths": [192, 96]},
    model={"layers": 2, "width": 8, "parameters": 12_345},
    batch={"rows": 4},
    surroundings={"devices": "1 x some device", "XLA_FLAGS": ""},
    versions={"jax": "1.2.3"},
)


def step(number: int, **values: Any) -> dict[str, Any]:
    return {
        "step": number,
        "loss": 1 / number,
        "learning_rate": 1e-3,
        "gradient_norm": 2.0,
        "tokens_per_second": 12_345.6,
        "padding": 0.123,
        "waiting": 0.045,
        "seconds": 1.5 * number,
        **values,
    }


def test_the_page_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = encodax.train(
        "classification", train=SENTIMENT, eval=SENTIMENT, out=out, steps=12, **SHAPE, **QUICK
    )
    assert write_report(out) == out / REPORT_FILE
    html = (out / REPORT_FILE).read_text(encoding="utf-8")
    facts, last = read_facts(out / RUN_FILE), read_curve(out / METRICS_FILE)[-2]
    assert facts.model["parameters"] == result.model.parameter_count()
    assert facts.choices["batch_size"] == QUICK["batch_size"]
    assert "mask_rate" not in facts.choices  # no option of the task
    for told in (
        f"<dd>{result.metrics['f1']:.4f}</dd>",
        f"<dt>f1, the best, at step {result.best_step}</dt>",
        f"<dd>{last['tokens_per_second']:,.0f}</dd>",
        f"<dd>{last['padding']:.1%}</dd>",
        f"<dd>{last['share_of_peak']:.0%}</dd>",
        f"{facts.model['parameters']:,} parameters",
        facts.versions["optax"],
    ):
        assert told in html
    assert html.count("<svg") == 4 + 3
    assert encodax.load(out).config.labels == result.model.config.labels  # still a model


def test_nothing_is_fetched_and_all_is_escaped() -> None:
    html = render(FACTS, [step(1), step(2)])
    assert "<a>&b" not in html
    assert "&lt;a&gt;&amp;b" in html
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        html = html.replace(f'"{namespace}"', "")
    assert "http://" not in html
    assert "https://" not in html


def test_the_same_files_give_the_same_bytes() -> None:
    curve = [step(1), step(2), {"step": 2, "eval_f1": 0.5}]
    assert render(FACTS, curve) == render(FACTS, curve)


def test_a_run_that_has_one_step() -> None:
    html = render(FACTS, [step(1)])
    assert "1 of 4,000 steps are done" in html
    assert "Evaluations" not in html
    assert "of the peak" not in html


def test_of_equal_ones_the_best_is_the_last() -> None:
    curve = [step(n) for n in range(1, 5)]
    curve += [
        {"step": n, "eval_f1": score} for n, score in ((1, 0.2), (2, 0.9), (3, 0.9), (4, 0.1))
    ]
    assert "f1, the best, at step 3<" in render(FACTS, curve)
    assert "f1, the best, at step 4<" in render(replace(FACTS, larger_is_better=False), curve)


def test_the_mean_of_checkpoints_is_in_the_table_and_not_in_the_pictures() -> None:
    curve = [step(1), step(2), {"step": 2, "eval_f1": 0.25}]
    mean = {"step": 2, "average": 3, "eval_f1": 0.5}
    html, before = render(FACTS, [*curve, mean]), render(FACTS, curve)
    assert "f1, the best, at step 2, the mean of 3 checkpoints<" in html
    assert "<bdi>2, the mean of 3 checkpoints (best)</bdi>" in html
    pictures = [re.findall(r"<svg.*?</svg>", page, re.DOTALL) for page in (html, before)]
    assert pictures[0] == pictures[1]


def test_the_best_stays_in_a_table_of_many() -> None:
    curve = [step(1), step(2)]
    curve += [{"step": n, "eval_f1": 1 / n, "eval_more": 5_000.0} for n in range(1, 60)]
    html = render(FACTS, curve)
    rows = re.findall(r'<th scope="row"><bdi>([\d,]+(?: \(best\))?)</bdi>', html)
    assert rows == ["1 (best)", *map(str, range(60 - EVALUATIONS, 60))]
    assert f"{59 - EVALUATIONS - 1} more are in metrics.jsonl" in html
    assert "<bdi>5,000</bdi>" in html


def test_steps_that_were_skipped_are_named() -> None:
    curve = [step(1), step(2, loss=math.nan, skipped=1), step(3, skipped=1)]
    curve.append(step(4, gradient_norm=math.inf, skipped=2))
    assert "not finite in 2 steps, which changed nothing: 2, 4." in render(FACTS, curve)
    assert "skipped" not in render(FACTS, [step(1)])


def test_a_loss_that_is_measured_stands_beside_the_one_of_training() -> None:
    facts = replace(FACTS, metric="loss", larger_is_better=False)
    html = render(facts, [step(1), step(2), {"step": 2, "eval_loss": 0.7}])
    assert ">evaluation<" in html
    assert html.count("<svg") == 3 + 2


@pytest.mark.parametrize(
    ("seconds", "told"), [(12.4, "12 s"), (75.0, "1.2 min"), (3_600 * 30.5, "30.5 h")]
)
def test_time_is_told_in_a_fitting_unit(seconds: float, told: str) -> None:
    assert f"<dd>{told}</dd>" in render(FACTS, [step(1, seconds=seconds)])


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    FACTS.write(tmp_path / RUN_FILE)
    (tmp_path / METRICS_FILE).write_text("")
    with pytest.raises(EncodaxError, match=r"metrics\.jsonl has no step yet"):
        write_report(tmp_path)


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    FACTS.write(tmp_path / RUN_FILE)
    (tmp_path / METRICS_FILE).write_text(
        '{"step": 1, "loss": 1, "learning_rate": 1, "tokens_per_second": 1, "padding": 0}\n'
    )
    (tmp_path / REPORT_FILE).mkdir()
    with pytest.raises(EncodaxError, match=r"report\.html cannot be written: it is a folder"):
        write_report(tmp_path)
