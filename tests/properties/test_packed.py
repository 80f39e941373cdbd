"""How sequences are put together never changes what comes out of one of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import goldens
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, drawn, packed
from hypothesis import example, given
from hypothesis import strategies as st

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    NormConfig,
)
from encodax.data.packing import best_fit
from encodax.nn import Encoder, Head
from encodax.nn.pooling import POOLINGS
from encodax.types.batches import PackedBatch

ROW_COUNT, TOKENS, SLOTS, VOCABULARY = 6, 16, 6, 33
TOLERANCE = 1e-6
MASK = 32
"""The id of ESM's `<mask>`, whose share of a sequence scales the others."""
NORM = NormConfig(1e-5)
LAYER = LayerConfig(AttentionConfig(2, 4), FeedForwardConfig(12), norm=NORM)
WINDOWED = LayerConfig(AttentionConfig(2, 4, window=2), FeedForwardConfig(12), norm=NORM)
EMBEDDINGS = EmbeddingsConfig(
    VOCABULARY, 8, max_positions=TOKENS, type_vocabulary_size=2, norm=NORM
)
FAMILIES = {
    name: golden
    for name, golden in goldens.ENCODERS.items()
    if name not in ("camembert", "xlm-roberta")  # RoBERTa's blocks
}
CONFIGS = {
    "blocks": EncoderConfig(EMBEDDINGS, (LAYER, WINDOWED)),
    **{name: goldens.read(golden).encoder for name, golden in FAMILIES.items()},
}


@dataclasses.dataclass
class Outputs:
    """What one sequence gets: (length, D), its logits (C,), and what each pooling gives."""

    hidden: np.ndarray
    pooled: tuple[np.ndarray, ...]


def forward(config: EncoderConfig, batch: PackedBatch) -> tuple[jax.Array, ...]:
    """The hidden states, and (B, N, _) of a head and of each pooling."""
    hidden = Encoder(config)(batch).hidden
    cls = Head(HeadConfig("sequence", 3, "cls", dense_width=8), name="cls")(hidden, batch)
    vectors = [
        Head(HeadConfig("embedding", pooling=pooling, normalize=True))(hidden, batch)
        for pooling in POOLINGS
    ]
    return hidden, cls, *vectors


@functools.cache
def compiled(name: str) -> Callable[[PackedBatch], Any]:
    transformed = hk.transform(functools.partial(forward, CONFIGS[name]))
    row = packed([[1, 2]], [[0]], tokens=TOKENS, slots=1)
    params = drawn(jax.eval_shape(transformed.init, jax.random.key(0), row))
    apply = jax.jit(transformed.apply)
    return lambda batch: apply(params, None, batch)


@pytest.fixture(scope="module", params=CONFIGS)
def run(request: pytest.FixtureRequest) -> Callable[[PackedBatch], Any]:
    """An encoder with heads, compiled once for each shape."""
    return compiled(request.param)


def outputs_of(result: Any, batch: PackedBatch, rows: list[list[int]]) -> dict[int, Outputs]:
    """What each sequence gets, by its index."""
    hidden, *pooled = (np.asarray(array) for array in result)
    found = {}
    for b, row in enumerate(rows):
        for n, index in enumerate(row):
            start, length = int(batch.starts[b, n]), int(batch.lengths[b, n])
            tokens = hidden[b, start : start + length]
            found[index] = Outputs(tokens, tuple(array[b, n] for array in pooled))
    return found


def alone(run: Callable[[PackedBatch], Any], sequences: list[list[int]]) -> dict[int, Outputs]:
    """One sequence a row."""
    rows = [[index] for index in range(len(sequences))]
    batch = in_rows(sequences, rows)
    return outputs_of(run(batch), batch, rows)


def in_rows(sequences: list[list[int]], rows: list[list[int]]) -> PackedBatch:
    """A batch of always the same shape, so that each encoder compiles once."""
    padded_rows = [*rows, *([] for _ in range(ROW_COUNT - len(rows)))]
    return packed(sequences, padded_rows, tokens=TOKENS, slots=SLOTS)


def assert_same(actual: dict[int, Outputs], wanted: dict[int, Outputs]) -> None:
    assert actual.keys() == wanted.keys()
    for index, outputs in actual.items():
        assert_close(outputs.hidden, wanted[index].hidden, TOLERANCE)
        for pooled, again in zip(outputs.pooled, wanted[index].pooled, strict=True):
            assert_close(pooled, again, TOLERANCE)


SEQUENCES = st.lists(
    st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=TOKENS), min_size=1, max_size=6
)
TWO_ROWS = st.lists(
    st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=5), min_size=1, max_size=6
)


@given(sequences=TWO_ROWS, order=st.randoms(use_true_random=False))
@example(sequences=[[1], [1], [1], [1], [1], [1]], order=None)
@example(sequences=[[7, 7, 7]] * 5, order=None)
@example(sequences=[[7, MASK, 7], [MASK, MASK], [5, 4], [MASK, 2, 3, 1]], order=None)
def test_packed_equals_alone(run: Any, sequences: list[list[int]], order: Any) -> None:
    rows = best_fit([len(sequence) for sequence in sequences], TOKENS, SLOTS)
    if order is not None:
        for row in rows:
            order.shuffle(row)  # slots in any order
    batch = in_rows(sequences, rows)
    assert_same(outputs_of(run(batch), batch, rows), alone(run, sequences))


@pytest.mark.parametrize(
    ("run", "length", "rooms"),
    [("blocks", 1, (1,)), ("blocks", 5, (5, 6, 23)), *((name, 5, (23,)) for name in FAMILIES)],
    indirect=["run"],
)
def test_the_amount_of_padding_changes_nothing(
    run: Any, length: int, rooms: tuple[int, ...]
) -> None:
    sequence = np.random.default_rng(length).integers(1, VOCABULARY, length).tolist()
    wanted = alone(run, [sequence])
    for tokens in rooms:
        batch = packed([sequence], [[0]], tokens=tokens, slots=1)
        assert_same(outputs_of(run(batch), batch, [[0]]), wanted)


ROWS = [[0, 1, 2], [3]]
LENGTHS = (4, 3, 5, 9)


def sequences_of(seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, length).tolist() for length in LENGTHS]


@given(seed=st.integers(0, 2**32 - 1))
def test_what_stands_in_padding_changes_nothing_at_all(run: Any, seed: int) -> None:
    batch = in_rows(sequences_of(0), ROWS)
    padding = batch.segment_ids == 0
    random = np.random.default_rng(seed)

    def littered(field: str, limit: int) -> np.ndarray:
        array = getattr(batch, field)
        return np.where(padding, random.integers(0, limit, array.shape, np.int32), array)

    garbage = dataclasses.replace(
        batch,
        token_ids=littered("token_ids", VOCABULARY),
        position_ids=littered("position_ids", TOKENS),
        type_ids=littered("type_ids", 2),
    )
    clean, dirty = run(batch), run(garbage)
    np.testing.assert_array_equal(clean[0][~padding], dirty[0][~padding])
    for pooled, again in zip(clean[1:], dirty[1:], strict=True):
        np.testing.assert_array_equal(pooled, again)


@given(seed=st.integers(1, 2**32 - 1))
def test_what_the_row_mates_are_changes_nothing_at_all(run: Any, seed: int) -> None:
    sequences, others = sequences_of(0), sequences_of(seed)
    mixed = [others[0], sequences[1], others[2], others[3]]
    one, other = (in_rows(each, ROWS) for each in (sequences, mixed))
    kept, again = (outputs_of(run(batch), batch, ROWS)[1] for batch in (one, other))
    np.testing.assert_array_equal(kept.hidden, again.hidden)
    for pooled, other_pooled in zip(kept.pooled, again.pooled, strict=True):
        np.testing.assert_array_equal(pooled, other_pooled)


@given(sequences=SEQUENCES, order=st.permutations(range(ROW_COUNT)))
def test_the_order_of_rows_goes_through(
    run: Any, sequences: list[list[int]], order: list[int]
) -> None:
    rows = [[index] for index in range(len(sequences))]
    batch = in_rows(sequences, rows)
    permuted = jax.tree.map(lambda array: array[np.array(order)], batch)
    for result, moved in zip(run(batch), run(permuted), strict=True):
        assert_close(moved, result[jnp.array(order)], TOLERANCE)
