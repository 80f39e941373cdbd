import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.batches import (
    BatchShape,
    Units,
    plan_by_examples,
    plan_by_tokens,
    row_tokens_for,
    slots_for,
)

LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=50)
SEEDS = st.integers(0, 2**32 - 1)


def alone(lengths: list[int]) -> list[list[int]]:
    """Each sequence is an example of its own."""
    return [[index] for index in range(len(lengths))]


def order(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


ROOMY = BatchShape(row_count=1, row_tokens=16, slots=16)
"""A row holds as many as have room."""


def indices(batches: list[list[list[int]]]) -> list[int]:
    return [index for batch in batches for row in batch for index in row]


@given(lengths=LENGTHS, seed=SEEDS, rows=st.integers(1, 4), slots=st.integers(1, 5))
def test_an_epoch_by_tokens_covers_each_example_once(
    lengths: list[int], seed: int, rows: int, slots: int
) -> None:
    shape = BatchShape(row_count=rows, row_tokens=16, slots=slots)
    batches = plan_by_tokens(lengths, shape, order(seed))
    assert sorted(indices(batches)) == list(range(len(lengths)))
    assert all(len(batch) == rows for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= rows
    for batch in batches:
        for row in batch:
            assert len(row) <= slots
            assert sum(lengths[index] for index in row) <= 16


@given(lengths=LENGTHS, seed=SEEDS, examples=st.integers(1, 9))
def test_an_epoch_by_examples_covers_each_example_once(
    lengths: list[int], seed: int, examples: int
) -> None:
    batches = plan_by_examples(lengths, alone(lengths), examples, ROOMY, order(seed))
    assert sorted(indices(batches)) == list(range(len(lengths)))
    counts = [sum(len(row) for row in batch) for batch in batches]
    assert all(count == examples for count in counts[:-1])
    assert 1 <= counts[-1] <= examples
    for batch in batches:
        assert all(sum(lengths[index] for index in row) <= 16 for row in batch)


def plan(kind: str, seed: int) -> list[list[list[int]]]:
    lengths = order(0).integers(1, 17, 80).tolist()
    if kind == "tokens":
        return list(plan_by_tokens(lengths, BatchShape(3, 16, 8), order(seed)))
    return list(plan_by_examples(lengths, alone(lengths), 7, ROOMY, order(seed)))


@pytest.mark.parametrize("kind", ["tokens", "examples"])
def test_the_same_seed_gives_the_same_plan_and_another_another(kind: str) -> None:
    assert plan(kind, 1) == plan(kind, 1)
    assert plan(kind, 1) != plan(kind, 2)


@pytest.mark.parametrize("kind", ["tokens", "examples"])
def test_the_next_epoch_of_one_generator_is_another(kind: str) -> None:
    lengths = order(0).integers(1, 17, 80).tolist()
    generator = order(1)
    if kind == "tokens":
        epochs = [plan_by_tokens(lengths, BatchShape(3, 16, 8), generator) for _ in range(2)]
    else:
        epochs = [plan_by_examples(lengths, alone(lengths), 7, ROOMY, generator) for _ in range(2)]
    assert list(epochs[0]) != list(epochs[1])


def test_examples_stand_in_the_batches_in_random_order() -> None:
    batches = plan_by_examples([1] * 1_000, alone([1] * 1_000), 100, ROOMY, order(0))
    first = sorted(index for row in batches[0] for index in row)
    assert first != list(range(100))
    assert 350 < np.mean(first) < 650


def test_rows_stand_in_the_batches_in_random_order() -> None:
    lengths = [16] + [8] * 40  # the packer makes the row of the longest first
    shape = BatchShape(row_count=1, row_tokens=16, slots=4)
    epochs = (plan_by_tokens(lengths, shape, order(seed)) for seed in range(20))
    places = {epoch.index([[0]]) for epoch in epochs}
    assert len(places) > 5


@pytest.mark.parametrize(
    ("longest", "room"), [(1, 128), (128, 128), (129, 256), (256, 256), (300, 512), (512, 512)]
)
def test_a_row_has_room_for_the_longest_in_a_power_of_two(longest: int, room: int) -> None:
    assert row_tokens_for([3, longest, 5]) == room


def test_the_smallest_room_may_be_less() -> None:
    assert row_tokens_for([3, 5], smallest=4) == 8


def test_slots_are_the_room_over_the_fifth_percentile_of_lengths() -> None:
    assert slots_for([8] * 100, 128) == 16
    assert slots_for([1] + [32] * 99, 128) == 4  # one short text is no reason for 128
    assert slots_for([128], 128) == 1
    assert slots_for([500], 128) == 1


def test_the_shape_of_sequences_and_of_pairs_follows_from_their_lengths() -> None:
    assert BatchShape.of([8] * 100, 3) == BatchShape(3, 128, 16)
    pairs = np.array([[16, 8]] * 99 + [[70, 20]])
    assert BatchShape.of(pairs, 2) == BatchShape(2, 128, 8, target_tokens=64)
    assert BatchShape.of(pairs, 2).longest_row == 128
    assert BatchShape.of(pairs[:, ::-1], 2).longest_row == 128


@given(
    pairs=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=40),
    seed=SEEDS,
)
def test_pairs_keep_both_budgets_of_a_row(pairs: list[tuple[int, int]], seed: int) -> None:
    shape = BatchShape(row_count=2, row_tokens=20, slots=4, target_tokens=12)
    lengths = np.asarray(pairs)
    by_tokens = plan_by_tokens(lengths, shape, order(seed))
    by_examples = plan_by_examples(lengths, alone(pairs), 3, shape, order(seed))
    for batches in (by_tokens, by_examples):
        assert sorted(indices(batches)) == list(range(len(pairs)))
        for row in (row for batch in batches for row in batch):
            assert (lengths[row].sum(axis=0) <= (20, 12)).all()
            assert len(row) <= 4


@given(
    pieces=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    examples=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_sequences_of_an_example_stand_in_one_batch(
    pieces: list[int], examples: int, seed: int
) -> None:
    owners = [owner for owner, count in enumerate(pieces) for _ in range(count)]
    lengths = [1 + 5 * index % 16 for index in range(len(owners))]
    units = [[i for i, own in enumerate(owners) if own == owner] for owner in range(len(pieces))]
    batches = plan_by_examples(lengths, units, examples, ROOMY, order(seed))
    found = [sorted(index for row in batch for index in row) for batch in batches]
    assert sorted(index for batch in found for index in batch) == list(range(len(owners)))
    for batch in found:
        whole = {owners[index] for index in batch}
        assert len(whole) <= examples
        assert batch == [index for index, owner in enumerate(owners) if owner in whole]


@given(sizes=st.lists(st.integers(1, 4), max_size=20))
def test_units_are_the_sequences_between_their_beginnings(sizes: list[int]) -> None:
    ends = np.cumsum(sizes, dtype=np.int64)
    units = Units(ends - sizes, sum(sizes))
    assert len(units) == len(sizes)
    wanted = [list(range(end - size, end)) for end, size in zip(ends.tolist(), sizes, strict=True)]
    assert [list(unit) for unit in units] == wanted
    assert [list(unit) for unit in units[1:]] == wanted[1:]


def test_a_batch_is_asked_for_by_its_number() -> None:
    batches = plan_by_tokens([16] * 7, BatchShape(2, 16, 4), order(0))
    whole = list(batches)
    assert len(batches) == len(whole) == 4
    assert (batches[-1], batches[1:3]) == (whole[3], whole[1:3])
    with pytest.raises(IndexError):
        batches[4]
