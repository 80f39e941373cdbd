"""Each example once an epoch, in batches of one shape, in an order that the seed settles."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.training import TrainSettings
from encodax.training.batches.schedule import DEFAULT_BATCH_TOKENS, make_plan

LENGTHS = [3 + index * 7 % 50 for index in range(61)]
MODES: list[dict[str, Any]] = [{"batch_size": 8}, {"batch_tokens": 512}]


def flat(rows: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(rows))


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=50),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_an_epoch_holds_each_example_once(
    mode: dict[str, int], lengths: list[int], seed: int, epoch: int
) -> None:
    plan = make_plan(lengths, TrainSettings(seed=seed, epochs=4, **mode))
    batches = plan.epoch(epoch)
    assert sorted(flat([flat(batch) for batch in batches])) == list(range(len(lengths)))
    for batch in batches:
        assert 0 < len(batch) <= plan.shape.row_count
        for row in batch:
            assert 0 < len(row) <= plan.shape.slots
            assert sum(lengths[index] for index in row) <= plan.shape.row_tokens


def test_a_batch_has_so_many_examples() -> None:
    plan = make_plan(LENGTHS, TrainSettings(batch_size=8, epochs=2))
    sizes = [len(flat(batch)) for batch in plan.batches()]
    assert sizes == 2 * [8, 8, 8, 8, 8, 8, 8, 5]


def test_a_batch_has_so_many_tokens() -> None:
    plan = make_plan(LENGTHS, TrainSettings(batch_tokens=512))
    assert plan.shape.row_count * plan.shape.row_tokens == 512
    assert make_plan(LENGTHS, TrainSettings()).shape.row_count * 128 == DEFAULT_BATCH_TOKENS
    assert sum(LENGTHS[index] for index in flat(plan.epoch(0)[0])) > 0.7 * 512


def test_a_batch_has_room_for_the_longest_example() -> None:
    plan = make_plan([5, 300], TrainSettings(batch_tokens=64))
    assert (plan.shape.row_count, plan.shape.row_tokens) == (1, 512)


@pytest.mark.parametrize("mode", MODES)
def test_steps_are_counted_or_epochs(mode: dict[str, int]) -> None:
    epoch = len(make_plan(LENGTHS, TrainSettings(**mode)).epoch(0))
    choices: dict[str, Any]
    for choices, steps in (
        ({"steps": 5}, 5),
        ({"epochs": 3}, 3 * epoch),
        ({"epochs": 3.0}, 3 * epoch),
        ({"epochs": 0.5}, -(-epoch // 2)),
        ({"epochs": 1.5}, -(-3 * epoch // 2)),
        ({"epochs": 1e-9}, 1),
        ({}, 10 * epoch),
    ):
        plan = make_plan(LENGTHS, TrainSettings(**choices, **mode))
        assert plan.steps == len(list(plan.batches())) == steps


@pytest.mark.parametrize("mode", MODES)
def test_the_seed_settles_the_order(mode: dict[str, int]) -> None:
    def batches(seed: int) -> list[list[list[int]]]:
        return list(make_plan(LENGTHS, TrainSettings(seed=seed, epochs=2, **mode)).batches())

    assert batches(1) == batches(1)
    assert batches(1) != batches(2)


@pytest.mark.parametrize("mode", MODES)
def test_each_epoch_has_its_own_order(mode: dict[str, int]) -> None:
    plan = make_plan(LENGTHS, TrainSettings(**mode))
    first, second = list(plan.epoch(0)), list(plan.epoch(1))
    assert first != second
    batches = list(plan.batches())
    assert batches[: len(first)] == first
    assert batches[len(first) :][: len(second)] == second


def test_a_part_of_an_epoch_is_not_rounded_up_by_chance() -> None:
    plan = make_plan([5] * 100, TrainSettings(epochs=0.07, batch_size=1))
    assert plan.steps == 7  # 0.07 x 100 is a little above


@pytest.mark.parametrize(("count", "wanted"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1])])
def test_of_examples_that_are_compared_none_stands_alone(count: int, wanted: list[int]) -> None:
    units = [[2 * index, 2 * index + 1] for index in range(count)]
    plan = make_plan([5] * 2 * count, TrainSettings(batch_size=4, epochs=2), units=units)
    assert [len(flat(batch)) // 2 for batch in plan.batches()] == 2 * wanted
    assert sorted(flat([flat(batch) for batch in plan.epoch(1)])) == list(range(2 * count))
