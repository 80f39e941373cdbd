"""A plan says what a run takes, and takes nothing itself."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import jax
import pytest
from toys import DAYS, SENTIMENT, SHAPE, tagger

from encodax.errors import EncodaxError
from encodax.models.forward import parameter_shapes
from encodax.options.presets import PRESETS
from encodax.options.training import NewModel, TrainSettings
from encodax.tasks import task_named
from encodax.tasks.task import LossOptions
from encodax.training.estimate import cost
from encodax.training.estimate.cost import StepPlan, plan_step
from encodax.training.estimate.table import table_of
from encodax.training.setup.prepare import prepare

CLASSIFICATION = task_named("classification")
SMALL = NewModel(layers=2, width=64, heads=2, vocabulary_size=100, dropout_rate=0.0)
SETTINGS = TrainSettings(batch_tokens=1024)
ROW = 128


def planned(shape: NewModel = SMALL, **choices: Any) -> StepPlan:
    config = cost.new_config(shape, CLASSIFICATION)
    return plan_step(config, CLASSIFICATION, replace(SETTINGS, **choices), row_tokens=ROW)


ON_FOUR = """
import json, sys
from encodax.tasks import task_named
from encodax.training.estimate import cost as planning
from encodax.options.training import NewModel, TrainSettings

planning.simulate_devices(4)
task = task_named("classification")
for shape, settings in json.loads(sys.argv[1]):
    config = planning.new_config(NewModel(**shape), task)
    found = planning.plan_step(config, task, TrainSettings(**settings), row_tokens=128)
    print(json.dumps(found.to_json()))
"""


def on_four(*cases: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """Plans of a process that simulates four devices."""
    command = [sys.executable, "-c", ON_FOUR, json.dumps(cases)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def meshes() -> dict[str, dict[str, Any]]:
    shape = {"layers": 2, "width": 64, "heads": 2, "vocabulary_size": 100, "dropout_rate": 0.0}
    names = ("data=4", "data=2,fsdp=2", "fsdp=4")
    cases = [(shape, {"mesh": name, "batch_tokens": 1024}) for name in names]
    return dict(zip(names, on_four(*cases), strict=True))


def bytes_of(tree: Any) -> int:
    """Bytes that really lie on the first device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("task", ["classification", "token-classification"])
def test_a_plan_holds_what_a_run_holds(task: str) -> None:
    records = SENTIMENT if task == "classification" else DAYS
    model = None if task == "classification" else tagger().model
    shape = SHAPE if model is None else {}
    job = prepare(
        task, train=records, eval=records, model=model, steps=1, batch_tokens=512, accumulate=2,
        **shape,
    )  # fmt: skip
    run = job.run
    state = run.initial_state()
    found = plan_step(
        job.model.config, job.task, run.settings, row_tokens=run.plan.shape.row_tokens
    )
    assert found.parameter_bytes == bytes_of(state.params)
    assert found.optimizer_bytes == bytes_of(state.optimizer)
    assert found.parameter_count == job.model.parameter_count()
    assert (found.rows, found.micro_batches) == (run.plan.shape.row_count, 2)
    assert found.sent_bytes == 0

    real = run.on_devices(run.reader(0))
    shapes = cost.batch_shapes(job.task, run.plan.shape, 2, LossOptions(), run.mesh)
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), real)
    plain = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), shapes)
    assert plain == wanted


def flops_by_hand(shape: NewModel, tokens: int, *, whole: bool = False) -> int:
    """6 for each weight of a layer and token; the same of attention, two products of T x D each.

    In the last layer, unless it is `whole`, these are of the first token of each row's sequence
    alone; of all others there are keys and values.
    """
    width = shape.width
    answer = 10 * width**2 + 2 * ROW * width  # query, output; feed-forward of 4 D; attention
    of_others = 2 * width**2  # key and value
    read = tokens if whole else tokens // ROW
    layers = tokens * (shape.layers * (answer + of_others) - answer) + read * answer
    return 6 * layers


@pytest.mark.parametrize("choices", [{}, {"accumulate": 2}, {"accumulate": 4, "scan": True}])
def test_products_count_as_often_as_they_run(choices: dict[str, Any]) -> None:
    found = planned(**choices)
    assert found.tokens == 1024
    assert found.unknown_loops == 0
    by_hand = flops_by_hand(SMALL, 1024, whole=choices.get("scan", False))
    assert found.flops == pytest.approx(by_hand, rel=0.01)


def test_what_is_computed_again_counts_again() -> None:
    assert planned(remat="full").flops == pytest.approx(flops_by_hand(SMALL, 1024) * 4 / 3, rel=0.1)
    assert planned(remat="full").flops > 1.1 * planned().flops


def test_devices_share_the_work(meshes: dict[str, dict[str, Any]]) -> None:
    for found in meshes.values():
        assert found["devices"] == 4
        assert found["tokens"] == 1024
        assert found["flops"] >= planned().flops / 4 * 0.99  # more where some is done twice
    for mesh in ("data=4", "data=2,fsdp=2"):
        assert meshes[mesh]["flops"] == pytest.approx(planned().flops / 4, rel=0.01)


def test_fsdp_cuts_weights_and_what_is_kept_for_them(meshes: dict[str, dict[str, Any]]) -> None:
    shapes = parameter_shapes(cost.new_config(SMALL, CLASSIFICATION))
    leaves = [(leaf, 4 * math.prod(s.shape)) for own in shapes.values() for leaf, s in own.items()]
    weights = sum(size for leaf, size in leaves if leaf == "w")
    others = sum(size for leaf, size in leaves if leaf != "w")
    for mesh, parts in (("data=4", 1), ("data=2,fsdp=2", 2), ("fsdp=4", 4)):
        held = weights // parts + others
        assert meshes[mesh]["parameter_bytes"] == held
        # Two moments of each, and two counters.
        assert meshes[mesh]["optimizer_bytes"] == pytest.approx(2 * held, abs=16)


def test_data_parallel_devices_send_every_gradient_once_around(
    meshes: dict[str, dict[str, Any]],
) -> None:
    whole = planned().parameter_bytes + 2 * 4  # and the loss as (sum, weight)
    assert meshes["data=4"]["sent"] == {"all-reduce": 2 * 3 * whole // 4}
    assert meshes["fsdp=4"]["sent"]["all-gather"] > 0


def test_a_model_larger_than_the_machine_is_planned() -> None:
    huge = {"layers": 2, "width": 32_768, "heads": 512, "vocabulary_size": 100}
    (found,) = on_four((huge, {"mesh": "fsdp=4", "batch_tokens": 512}))
    assert found["parameter_bytes"] * 4 > 100e9


def test_a_time_is_of_products_and_of_sending() -> None:
    found = replace(planned(), flops=8e12, sent={"all-reduce": 3 * 10**9})
    expected = found.expected(10e12, 1e9, share=0.4)
    assert (expected.compute, expected.exchange) == (2.0, 3.0)
    assert (expected.overlapped, expected.apart) == (3.0, 5.0)
    with pytest.raises(EncodaxError, match=r"bandwidth = 0\.0 is not above 0"):
        found.expected(1.0, 0.0)
    rows = [list(column.cells) for column in table_of(found, expected).columns]
    assert dict(zip(rows[0], rows[1], strict=True))["time of a step, tokens/s"] == "3 s .. 5 s"
    assert "8 TFLOP" in rows[1]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"mesh": "data=2"}, "a plan of 2 devices needs .* has started with 1: run `encodax plan`"),
        ({"accumulate": 3}, "8 rows of 128 tokens cannot be divided among 1 devices x 3"),
        ({"mesh": "model=2"}, "'model=2' is not one of data=N, fsdp=N"),
        ({"batch_tokens": 128, "mesh": "data=2"}, "a batch of 1 rows of 128 tokens cannot be"),
    ],
)
def test_what_cannot_be_planned_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        planned(**choices)


@pytest.mark.parametrize(
    ("name", "count"),
    [("tiny", 4_385_920), ("mini", 11_170_560), ("small", 28_763_648), ("base", 109_482_240)],
)
def test_presets_are_of_the_published_sizes(name: str, count: int) -> None:
    shape = NewModel(**PRESETS[name])
    shapes = parameter_shapes(cost.new_config(shape, CLASSIFICATION))
    output = 2 * shape.width + 2
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count + output


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "encodax", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_plans() -> None:
    choices = ["--preset", "tiny", "--task", "classification", "--row-tokens", "128"]
    mesh = ["--mesh", "data=2,fsdp=2", "--batch-tokens", "512"]
    peaks = ["--peak-tflops", "1", "--bandwidth-gbs", "1", "--json"]
    done = call(*choices, *mesh, *peaks)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["devices"], found["tokens"]) == (4, 512)
    assert found["expected_seconds"]["compute"] == found["flops"] / 1e12
    assert found["expected_seconds"]["exchange"] == found["sent_bytes"] / 1e9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset 'huge' is not one of: tiny, mini, small, base"),
        ([], "give either --preset or --model"),
        (
            ["--preset", "tiny", "--mesh", "data=3", "--batch-tokens", "1024"],
            "a batch of 2 rows of 512 tokens cannot be divided among 3 devices",
        ),
    ],
)
def test_the_command_refuses_in_a_line(arguments: list[str], message: str) -> None:
    done = call("--task", "classification", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: {message}.*\n", done.stderr)
