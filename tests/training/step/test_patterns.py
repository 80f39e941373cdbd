"""Names choose parameters, and a tree that was parted is whole again."""

from __future__ import annotations

import jax
import pytest
from directories import refusal

from encodax.models.encoder_model import Model
from encodax.training.step.patterns import combine, matching, partition

NAME = "encoder/layer_1/attention/query/w"


def chosen(model: Model, pattern: str) -> set[str]:
    flags = matching(model.params, pattern)
    return {
        f"{path}/{leaf}"
        for path, leaves in flags.items()
        for leaf, is_in in leaves.items()
        if is_in
    }


def test_a_pattern_is_found_anywhere_in_the_name(tiny_model: Model) -> None:
    assert chosen(tiny_model, "layer_1/attention/query/w") == {NAME}
    assert chosen(tiny_model, "^encoder/layer_1/.*query/w$") == {NAME}
    everything = chosen(tiny_model, "")
    assert len(everything) == len(jax.tree.leaves(tiny_model.params))
    assert chosen(tiny_model, "^encoder/") == everything - chosen(tiny_model, "^head/")


def test_a_pattern_that_is_found_nowhere_is_named_beside_what_there_is(tiny_model: Model) -> None:
    message = refusal(lambda: matching(tiny_model.params, "layer_7/"))
    assert "'layer_7/'" in message
    shown = message.split("there are: ")[1].split(", ")
    assert len(shown) == 3
    assert set(shown) < chosen(tiny_model, "")


def test_what_is_no_pattern_is_refused(tiny_model: Model) -> None:
    assert "'layer_('" in refusal(lambda: matching(tiny_model.params, "layer_("))


@pytest.mark.parametrize("pattern", ["", "/w$", "layer_0", "embeddings|head"])
def test_join_is_the_inverse_of_split(tiny_model: Model, pattern: str) -> None:
    trained, frozen = partition(tiny_model.params, matching(tiny_model.params, pattern))
    names = {f"{path}/{leaf}" for path, leaves in trained.items() for leaf in leaves}
    assert names == chosen(tiny_model, pattern)
    assert all(trained.values()) and all(frozen.values())
    joined = combine(trained, frozen)
    assert list(joined) == sorted(tiny_model.params)
    assert joined.keys() == tiny_model.params.keys()
    for path, leaves in joined.items():
        assert list(leaves) == sorted(leaves)
        assert leaves.keys() == tiny_model.params[path].keys()
        assert all(array is tiny_model.params[path][leaf] for leaf, array in leaves.items())
