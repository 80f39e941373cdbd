import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encodax.types import batches as types
from encodax.types.batches import EncoderOutput, ModelOutput, PackedBatch, Span

IDS = np.array([[5, 3, 8], [1, 9, 9]], np.int32)


def lists(batch: PackedBatch) -> dict[str, list]:
    return {
        field.name: np.asarray(getattr(batch, field.name)).tolist()
        for field in dataclasses.fields(batch)
    }


def test_rows_without_lengths_are_full() -> None:
    assert lists(PackedBatch.from_rows(IDS)) == {
        "token_ids": [[5, 3, 8], [1, 9, 9]],
        "position_ids": [[0, 1, 2], [0, 1, 2]],
        "segment_ids": [[1, 1, 1], [1, 1, 1]],
        "type_ids": [[0, 0, 0], [0, 0, 0]],
        "starts": [[0], [0]],
        "lengths": [[3], [3]],
    }


def test_what_is_beyond_a_length_is_padding() -> None:
    assert lists(PackedBatch.from_rows(IDS, np.array([3, 1]))) == {
        "token_ids": [[5, 3, 8], [1, 0, 0]],
        "position_ids": [[0, 1, 2], [0, 0, 0]],
        "segment_ids": [[1, 1, 1], [1, 0, 0]],
        "type_ids": [[0, 0, 0], [0, 0, 0]],
        "starts": [[0], [0]],
        "lengths": [[3], [1]],
    }


def test_types_are_kept() -> None:
    types = np.array([[0, 1, 1], [0, 0, 1]], np.int32)
    assert lists(PackedBatch.from_rows(IDS, type_ids=types))["type_ids"] == types.tolist()


@pytest.mark.parametrize("module", [np, jnp])
def test_everything_is_of_int32(module: object) -> None:
    ids = module.asarray(IDS)  # type: ignore[attr-defined]
    batch = PackedBatch.from_rows(ids, module.asarray([3, 1]))  # type: ignore[attr-defined]
    assert {str(array.dtype) for array in jax.tree.leaves(batch)} == {"int32"}
    assert all(isinstance(array, jax.Array) for array in jax.tree.leaves(batch))


def test_rows_can_be_made_under_jit() -> None:
    made = jax.jit(PackedBatch.from_rows)(jnp.asarray(IDS), jnp.array([3, 1]))
    assert lists(made) == lists(PackedBatch.from_rows(IDS, np.array([3, 1])))


def test_the_values_that_travel_are_pytrees() -> None:
    batch = PackedBatch.from_rows(IDS)
    hidden = jnp.ones((2, 3, 4))
    for value in (
        batch,
        EncoderOutput(hidden, {"hidden": (hidden,)}),
        ModelOutput(hidden, None),
        ModelOutput(hidden, jnp.ones((2, 1, 3)), {}),
    ):
        doubled = jax.jit(lambda tree: jax.tree.map(lambda leaf: 2 * leaf, tree))(value)
        assert type(doubled) is type(value)
        assert jax.tree.structure(doubled) == jax.tree.structure(value)
        np.testing.assert_array_equal(jax.tree.leaves(doubled)[0], 2 * jax.tree.leaves(value)[0])
    assert len(jax.tree.leaves(batch)) == 6


def test_a_batch_has_an_abstract_form() -> None:
    shapes = jax.eval_shape(PackedBatch.from_rows, jnp.asarray(IDS))
    assert isinstance(shapes, PackedBatch)
    assert shapes.token_ids.shape == (2, 3)
    assert shapes.lengths.shape == (2, 1)


def test_values_are_frozen() -> None:
    span = Span(0, 3, "day")
    assert span.score == 1
    for value, field in ((span, "label"), (PackedBatch.from_rows(IDS), "token_ids")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, "other")


def test_the_glossary_has_every_letter_of_a_shape() -> None:
    glossary = set(re.findall(r"\b([A-Z])  \w", types.__doc__ or ""))
    source = "".join(path.read_text() for path in Path(types.__file__).parent.rglob("*.py"))
    shapes = re.findall(r"\b(?:Bool|Float|Int|Int8|Shaped|UInt32)\[[^\]\"]*\"([^\"]*)\"", source)
    used = {name for shape in shapes for name in re.findall(r"[A-Z]", shape)}
    assert {"B", "D", "T"} < used <= glossary
