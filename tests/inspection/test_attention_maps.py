"""Attention weights as maps: whole, in blocks, rolled out, and the strongest of each row."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close
from hypothesis import given
from hypothesis import strategies as st

from encodax.inspection import attention_maps
from encodax.inspection.attention_maps import (
    FEWEST,
    MOST,
    Resolution,
    blocks,
    reduce_attention,
    rollout,
)

ROWS = jnp.array(
    [
        [[1.0, 0.0, 0.0, 0.0, 0.0],
         [0.5, 0.5, 0.0, 0.0, 0.0],
         [0.1, 0.2, 0.7, 0.0, 0.0],
         [0.0, 0.0, 0.2, 0.4, 0.4],
         [0.2, 0.2, 0.2, 0.2, 0.2]],
    ],
    jnp.float32,
)  # fmt: skip


def weights(*shape: int, seed: int = 0) -> jax.Array:
    """Numbers of which each row adds up to 1."""
    drawn = np.random.default_rng(seed).exponential(size=shape)
    return jnp.asarray(drawn / drawn.sum(axis=-1, keepdims=True), jnp.float32)


# --- blocks


def test_a_cell_is_what_its_queries_give_its_keys_on_the_average() -> None:
    wanted = [[1.0, 0.0, 0.0], [0.15, 0.65, 0.2], [0.4, 0.4, 0.2]]
    assert_close(blocks(ROWS, 2), [wanted], 1e-6)
    assert_close(blocks(ROWS[:, :3], 4), [[[1.0, 0.0]]], 1e-6)  # fewer queries than a block has


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_a_row_of_blocks_adds_up_to_1(queries: int, keys: int, size: int) -> None:
    own = weights(2, queries, keys, seed=queries)
    found = np.asarray(blocks(own, size))
    assert found.shape == (2, math.ceil(queries / size), math.ceil(keys / size))
    assert_close(found.sum(axis=-1), np.ones(found.shape[:2]), 1e-6)


def test_a_block_of_one_token_is_the_token() -> None:
    own = weights(3, 5, 4)
    np.testing.assert_array_equal(blocks(own, 1), own)


# --- how much is kept


@given(
    maps=st.integers(1, 800),
    queries=st.integers(1, 5_000),
    keys=st.integers(1, 5_000),
)
def test_there_are_never_more_cells_than_have_room(maps: int, queries: int, keys: int) -> None:
    found = Resolution.of(maps, queries, keys)

    def cells(block: int) -> int:
        return maps * math.ceil(queries / block) * math.ceil(keys / block)

    assert cells(found.block) <= attention_maps.CELLS
    if found.block == 1:
        assert found.top_k == 0
        return
    assert cells(found.block - 1) > attention_maps.CELLS  # the finest there is
    assert min(FEWEST, keys) <= found.top_k <= min(MOST, keys)
    if found.top_k > FEWEST:
        assert maps * queries * found.top_k <= attention_maps.STRONGEST


def test_of_minilm_every_weight_of_256_tokens_is_kept() -> None:
    maps = 6 * (12 + 2)
    assert Resolution.of(maps, 256, 256) == Resolution(1, 0)
    assert Resolution.of(maps, 300, 300) == Resolution(2, MOST)
    assert Resolution.of(maps, 2_000, 2_000) == Resolution(8, 8)
    assert Resolution.of(maps, 5_000, 3) == Resolution(1, 0)


def test_views_are_heads_their_mean_and_the_rollout() -> None:
    assert attention_maps.view_names(2, rolls=False) == ("head 1", "head 2", "mean of heads")
    assert attention_maps.view_names(1, rolls=True) == ("head 1", "mean of heads", "rollout")


# --- rollout


def test_rollout_by_hand() -> None:
    first = jnp.array([[0.5, 0.5], [0.0, 1.0]])
    second = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    once = rollout(first, jnp.eye(2))
    np.testing.assert_array_equal(once, [[0.75, 0.25], [0, 1]])
    # (second + I) / 2 = [[1, 0], [1/4, 3/4]]
    np.testing.assert_array_equal(rollout(second, once), [[0.75, 0.25], [0.1875, 0.8125]])


def test_rollout_adds_up_to_1_and_what_is_causal_stays_so() -> None:
    causal = jnp.tri(6) / jnp.arange(1.0, 7.0)[:, None]
    rolled = jnp.eye(6)
    for _ in range(4):
        rolled = rollout(causal, rolled)
        assert_close(rolled.sum(axis=-1), np.ones(6), 1e-6)
        assert (rolled[~np.tri(6, dtype=bool)] == 0).all()
        assert (rolled[np.tri(6, dtype=bool)] > 0).all()


# --- all of a stack


def test_of_a_short_text_every_weight_is_kept() -> None:
    layers = [weights(1, 2, 5, 5, seed=seed) for seed in range(3)]
    cells, keys, values = jax.jit(lambda layers: reduce_attention(layers, rolls=True))(layers)
    assert cells.shape == (3, 4, 5, 5)
    assert keys.shape == values.shape == (3, 4, 5, 0)
    rolled = np.eye(5)
    for index, layer in enumerate(layers):
        np.testing.assert_array_equal(cells[index, :2], layer[0])
        assert_close(cells[index, 2], layer[0].mean(axis=0), 1e-7)
        rolled = (layer[0].mean(axis=0) + np.eye(5)) / 2 @ rolled
        assert_close(cells[index, 3], rolled, 1e-6)


@pytest.mark.parametrize("rolls", [True, False])
def test_of_a_long_text_blocks_and_the_strongest_are_kept(
    monkeypatch: pytest.MonkeyPatch, rolls: bool
) -> None:
    monkeypatch.setattr(attention_maps, "CELLS", 200)
    monkeypatch.setattr(attention_maps, "STRONGEST", 400)
    keys = 9 if rolls else 7
    layers = [weights(1, 2, 9, keys, seed=seed) for seed in range(2)]
    views = 3 + rolls
    cells, best, values = map(np.asarray, reduce_attention(layers, rolls=rolls))
    block, kept = (2, 5) if rolls else (2, 7)
    assert Resolution.of(2 * views, 9, keys) == Resolution(block, kept)
    assert cells.shape == (2, views, 5, math.ceil(keys / 2))
    assert best.shape == values.shape == (2, views, 9, kept)
    assert (np.diff(values, axis=-1) <= 0).all()
    rolled = jnp.eye(keys)
    for index, layer in enumerate(layers):
        whole = [*layer[0], layer[0].mean(axis=0)]
        if rolls:
            rolled = rollout(whole[-1], rolled)
            whole.append(rolled)
        for view, own in enumerate(whole):
            assert_close(cells[index, view], blocks(own[None], block)[0], 1e-6)
            assert_close(values[index, view], np.sort(own)[:, ::-1][:, :kept], 1e-7)
            at_best = np.take_along_axis(np.asarray(own), best[index, view], axis=1)
            assert_close(at_best, values[index, view], 1e-7)
