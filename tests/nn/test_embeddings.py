import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from blocks import assert_close, built, packed

from encodax.config import EmbeddingsConfig, NormConfig, TokenDropoutConfig
from encodax.errors import EncodaxError
from encodax.nn import Embeddings
from encodax.types.batches import PackedBatch

BARE = EmbeddingsConfig(vocabulary_size=11, width=6, positions="sinusoidal", max_positions=None)
BERT = EmbeddingsConfig(
    vocabulary_size=11, width=6, max_positions=9, type_vocabulary_size=2, norm=NormConfig(1e-12)
)


def batch_of_two() -> PackedBatch:
    batch = packed([[5, 3, 8], [1, 10], [7, 7, 2, 4]], [[0, 1], [2]], tokens=6, slots=2)
    return dataclasses.replace(batch, type_ids=np.array([[0, 0, 1, 0, 1, 0], [0, 1, 1, 1, 0, 0]]))


def embedded(config: EmbeddingsConfig, batch: PackedBatch) -> tuple[dict, np.ndarray]:
    params, apply = built(lambda batch: Embeddings(config)(batch), batch)
    return reference.float64(params), apply(params, batch)


def positions(batch: PackedBatch, width: int) -> np.ndarray:
    return np.array(
        [
            [[reference.sinusoid(p, column, width) for column in range(width)] for p in row]
            for row in np.asarray(batch.position_ids)
        ]
    )


def test_a_token_is_its_row_plus_its_sinusoid() -> None:
    batch = batch_of_two()
    params, x = embedded(BARE, batch)
    assert set(params) == {"embeddings/token"}
    assert_close(x, params["embeddings/token"]["w"][batch.token_ids] + positions(batch, 6))


def test_tokens_alone_are_scaled_by_sqrt_d() -> None:
    batch = batch_of_two()
    params, x = embedded(dataclasses.replace(BARE, scale_by_sqrt_width=True), batch)
    tokens = params["embeddings/token"]["w"][batch.token_ids]
    assert_close(x, math.sqrt(6) * tokens + positions(batch, 6))


def test_bert_is_token_plus_position_plus_type_then_norm() -> None:
    batch = batch_of_two()
    params, x = embedded(BERT, batch)
    shapes = {path: {k: v.shape for k, v in leaves.items()} for path, leaves in params.items()}
    assert shapes == {
        "embeddings/token": {"w": (11, 6)},
        "embeddings/position": {"w": (9, 6)},
        "embeddings/type": {"w": (2, 6)},
        "embeddings/norm": {"alpha": (6,), "beta": (6,)},
    }
    total = sum(
        params[f"embeddings/{table}"]["w"][ids]
        for table, ids in (
            ("token", batch.token_ids),
            ("position", batch.position_ids),
            ("type", batch.type_ids),
        )
    )
    assert_close(x, reference.layer_norm(total, params["embeddings/norm"], 1e-12))


def test_plain_ids_are_one_sequence_a_row() -> None:
    ids = jnp.array([[5, 3, 8], [1, 10, 0]])
    params, apply = built(lambda ids: Embeddings(BERT)(ids), ids)
    rows = PackedBatch.from_rows(ids)
    np.testing.assert_array_equal(apply(params, ids), apply(params, rows))


def test_a_table_is_drawn_from_a_normal_of_variance_1_over_d() -> None:
    config = dataclasses.replace(BARE, vocabulary_size=2_000, width=64)
    init = hk.transform(lambda ids: Embeddings(config)(ids)).init
    w = init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["embeddings/token"]["w"]
    assert float(w.std()) == pytest.approx(1 / 8, rel=0.01)
    assert float(jnp.abs(w).max()) > 4 / 8  # not truncated at two deviations


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("token_ids", 11, r"token id 11 is outside 0\.\.10"),
        ("token_ids", -1, r"token id -1 is outside 0\.\.10"),
        ("position_ids", 9, r"position 9 is outside 0\.\.8"),
        ("type_ids", 2, r"token type 2 is outside 0\.\.1"),
    ],
)
def test_an_id_out_of_range_is_named_with_its_limit(field: str, value: int, message: str) -> None:
    batch = batch_of_two()
    params, _ = built(lambda batch: Embeddings(BERT)(batch), batch)
    array = getattr(batch, field).copy()
    array[1, 2] = value
    apply = hk.transform(lambda batch: Embeddings(BERT)(batch)).apply
    apply(params, None, batch)
    with pytest.raises(EncodaxError, match=message):
        apply(params, None, dataclasses.replace(batch, **{field: array}))


def test_a_limit_of_positions_holds_for_sinusoids_too() -> None:
    config = dataclasses.replace(BARE, max_positions=4)
    params, _ = built(lambda ids: Embeddings(config)(ids), jnp.zeros((1, 4), jnp.int32))
    apply = hk.transform(lambda ids: Embeddings(config)(ids)).apply
    with pytest.raises(EncodaxError, match=r"position 4 is outside 0\.\.3"):
        apply(params, None, jnp.zeros((1, 5), jnp.int32))


def test_learned_positions_need_a_limit() -> None:
    config = dataclasses.replace(BERT, max_positions=None)
    with pytest.raises(ValueError, match="learned positions need max_positions"):
        built(lambda ids: Embeddings(config)(ids), jnp.zeros((1, 4), jnp.int32))


def test_positions_may_begin_at_a_later_row() -> None:
    config = dataclasses.replace(BERT, position_offset=2, norm=None, type_vocabulary_size=0)
    batch = batch_of_two()
    params, x = embedded(config, batch)
    assert params["embeddings/position"]["w"].shape == (11, 6)  # 9 positions and 2 rows before
    rows = params["embeddings/position"]["w"][batch.position_ids + 2]
    assert_close(x, params["embeddings/token"]["w"][batch.token_ids] + rows)


def test_the_limit_of_positions_is_of_tokens_and_not_of_rows() -> None:
    config = dataclasses.replace(BERT, max_positions=4, position_offset=2)
    params, _ = built(lambda ids: Embeddings(config)(ids), jnp.zeros((1, 4), jnp.int32))
    apply = hk.transform(lambda ids: Embeddings(config)(ids)).apply
    apply(params, None, jnp.zeros((1, 4), jnp.int32))
    with pytest.raises(EncodaxError, match=r"position 4 is outside 0\.\.3"):
        apply(params, None, jnp.zeros((1, 5), jnp.int32))


def test_the_one_type_is_that_of_every_token() -> None:
    config = dataclasses.replace(BERT, type_vocabulary_size=1, norm=None)
    batch = batch_of_two()
    assert np.any(batch.type_ids)
    params, x = embedded(config, batch)
    assert params["embeddings/type"]["w"].shape == (1, 6)
    tokens = params["embeddings/token"]["w"][batch.token_ids]
    places = params["embeddings/position"]["w"][batch.position_ids]
    assert_close(x, tokens + places + params["embeddings/type"]["w"][0])


def test_without_positions_there_is_no_table_and_order_does_not_matter() -> None:
    config = EmbeddingsConfig(vocabulary_size=11, width=6, positions=None)
    batch = batch_of_two()
    params, x = embedded(config, batch)
    assert set(params) == {"embeddings/token"}
    assert_close(x, params["embeddings/token"]["w"][batch.token_ids])


def test_a_narrow_table_is_widened_after_its_norm() -> None:
    config = dataclasses.replace(BERT, projected_width=10)
    assert config.model_width == 10
    batch = batch_of_two()
    params, x = embedded(config, batch)
    shapes = {leaf: array.shape for leaf, array in params["embeddings/projection"].items()}
    assert shapes == {"w": (6, 10), "b": (10,)}
    assert params["embeddings/token"]["w"].shape == (11, 6)
    assert x.shape == (2, 6, 10)
    narrow = dataclasses.replace(config, projected_width=None)
    assert narrow.model_width == 6
    before = hk.transform(lambda batch: Embeddings(narrow)(batch)).apply
    small = {path: leaves for path, leaves in params.items() if "projection" not in path}
    small = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), small)
    normed = np.asarray(before(small, None, batch), np.float64)
    assert_close(x, reference.linear(normed, params["embeddings/projection"]))


def test_the_token_table_is_the_one_that_embeds() -> None:
    def block(batch: PackedBatch) -> tuple[jax.Array, jax.Array]:
        embeddings = Embeddings(BERT)
        return embeddings(batch), embeddings.token_table()

    params, apply = built(block, batch_of_two())
    _, table = apply(params, batch_of_two())
    assert [path for path in params if "token" in path] == ["embeddings/token"]
    np.testing.assert_array_equal(table, params["embeddings/token"]["w"])


MASK = 9
MASKED = EmbeddingsConfig(
    vocabulary_size=11, width=6, positions=None, mask_dropout=TokenDropoutConfig(MASK)
)


def test_masks_embed_to_zero_and_the_rest_is_scaled_sequence_by_sequence() -> None:
    sequences = [[5, MASK, 8, 2], [1, 10], [MASK, 7, MASK], [MASK, MASK]]
    rows = [[0, 1], [2, 3]]
    batch = packed(sequences, rows, tokens=7, slots=3)
    params, x = embedded(MASKED, batch)
    table = params["embeddings/token"]["w"]
    wanted = np.zeros((2, 7, 6))
    for row, slots in enumerate(rows):
        for slot, index in enumerate(slots):
            for place, token in enumerate(sequences[index]):
                if token != MASK:
                    share = sequences[index].count(MASK) / len(sequences[index])
                    where = batch.starts[row, slot] + place
                    wanted[row, where] = table[token] * (1 - 0.15 * 0.8) / (1 - share)
    real = batch.segment_ids > 0
    assert_close(x[real], wanted[real])
    assert np.isfinite(x).all()


def test_the_share_of_masks_is_of_the_sequence_and_not_of_the_row() -> None:
    alone = packed([[5, MASK]], [[0]], tokens=7, slots=3)
    beside = packed([[5, MASK], [1, 2, 3], [MASK, MASK]], [[0, 1, 2]], tokens=7, slots=3)
    _, first = embedded(MASKED, alone)
    _, second = embedded(MASKED, beside)
    np.testing.assert_array_equal(first[0, :2], second[0, :2])
