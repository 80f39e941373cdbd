import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, normal, packed

from encodax.nn import pool
from encodax.nn.pooling import POOLINGS
from encodax.types.batches import PackedBatch


def batch_of_two() -> PackedBatch:
    """Row 0: sequences of 3 and 1 tokens and an empty slot; row 1: one of 4; one of padding."""
    sequences = [[5, 3, 8], [1], [7, 7, 2, 4]]
    return packed(sequences, [[0, 1], [2], []], tokens=6, slots=3)


def test_cls_is_the_first_token_of_each_sequence() -> None:
    hidden = normal(3, 6, 4)
    pooled = pool(hidden, batch_of_two(), "cls")
    wanted = np.zeros((3, 3, 4), np.float32)
    wanted[0, 0], wanted[0, 1], wanted[1, 0] = hidden[0, 0], hidden[0, 3], hidden[1, 0]
    np.testing.assert_array_equal(pooled, wanted)


def test_mean_is_over_the_tokens_of_each_sequence() -> None:
    hidden = normal(3, 6, 4)
    pooled = pool(hidden, batch_of_two(), "mean")
    x = np.asarray(hidden, np.float64)
    wanted = np.zeros((3, 3, 4))
    wanted[0, 0], wanted[0, 1], wanted[1, 0] = x[0, :3].mean(0), x[0, 3], x[1, :4].mean(0)
    assert_close(pooled, wanted)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pooled_vector_has_the_dtype_of_its_tokens(pooling: str, dtype: str) -> None:
    assert pool(normal(3, 6, 4).astype(dtype), batch_of_two(), pooling).dtype == dtype


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="pooling 'sum' is not one of: cls, mean, max"):
        pool(normal(3, 6, 4), batch_of_two(), "sum")


def by_loops(hidden: np.ndarray, batch: PackedBatch, pooling: str) -> np.ndarray:
    """Sequence by sequence; zeros for an empty slot."""
    pooled = np.zeros((*batch.starts.shape, hidden.shape[-1]))
    for row, slot in np.ndindex(batch.starts.shape):
        start, length = batch.starts[row, slot], batch.lengths[row, slot]
        tokens = hidden[row, start : start + length]
        if length == 0:
            continue
        if pooling == "cls":
            pooled[row, slot] = tokens[0]
        elif pooling == "last":
            pooled[row, slot] = tokens[-1]
        elif pooling == "mean_sqrt_length":
            pooled[row, slot] = sum(tokens) / length**0.5
        elif pooling == "mean":
            pooled[row, slot] = sum(tokens) / length
        elif pooling == "max":
            pooled[row, slot] = [max(column) for column in tokens.T]
        else:
            weights = range(1, length + 1)
            total = sum(weight * token for weight, token in zip(weights, tokens, strict=True))
            pooled[row, slot] = total / sum(weights)
    return pooled


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooling_is_its_loop(pooling: str) -> None:
    # All below zero: a maximum of padding, or of an empty slot, would be larger.
    hidden = -1 - jnp.abs(normal(3, 6, 4))
    batch = batch_of_two()
    wanted = by_loops(np.asarray(hidden, np.float64), batch, pooling)
    assert_close(pool(hidden, batch, pooling), wanted)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_gets_no_gradient_and_no_gradient_is_nan(pooling: str) -> None:
    hidden, batch = normal(3, 6, 4), batch_of_two()
    gradient = np.asarray(jax.grad(lambda x: jnp.sin(pool(x, batch, pooling)).sum())(hidden))
    assert np.isfinite(gradient).all()
    assert not gradient[batch.segment_ids == 0].any()
    assert np.abs(gradient).max() > 0.1


def test_several_poolings_are_joined() -> None:
    hidden, batch = normal(3, 6, 4), batch_of_two()
    pooled = pool(hidden, batch, ("max", "cls", "mean"))
    wanted = [pool(hidden, batch, name) for name in ("max", "cls", "mean")]
    np.testing.assert_array_equal(pooled, np.concatenate(wanted, axis=-1))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_tokens_that_are_skipped_count_nowhere(pooling: str) -> None:
    hidden, batch = normal(3, 6, 4), batch_of_two()
    pooled = np.asarray(pool(hidden, batch, pooling, skipped=2))
    x = np.asarray(hidden, np.float64)
    wanted = np.zeros((3, 3, 4))
    wanted[0, 0] = x[0, 2]  # one token is left of three, none of one, and two of four
    kept = x[1, 2:4]
    wanted[1, 0] = {
        "cls": kept[0],
        "last": kept[1],
        "mean": kept.mean(0),
        "mean_sqrt_length": kept.sum(0) / 2**0.5,
        "max": kept.max(0),
        "weighted_mean": (3 * kept[0] + 4 * kept[1]) / 7,  # positions stay what they were
    }[pooling]
    assert_close(pooled, wanted)
