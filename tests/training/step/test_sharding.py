"""Meshes, and which device holds which part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.training.step import sharding
from encodax.training.step.optimizer import make_optimizer
from encodax.training.step.step import initial_state

ADAMW = make_optimizer(lambda step: 1e-3, weight_decay=1e-4, clip_norm=1.0)


def test_a_mesh_is_named_by_its_axes() -> None:
    assert sharding.parse_mesh("data=4,fsdp=2") == {"data": 4, "fsdp": 2}
    assert sharding.parse_mesh("fsdp=8") == {"data": 1, "fsdp": 8}
    assert sharding.make_mesh().axis_names == sharding.AXES


@pytest.mark.parametrize("text", ["data", "data=0", "data=-1", "rows=2", "data=2,", "data=two"])
def test_what_is_no_mesh_is_named(text: str) -> None:
    with pytest.raises(EncodaxError, match=rf"mesh '{text}': .* is not one of data=N, fsdp=N"):
        sharding.parse_mesh(text)


def test_a_mesh_of_other_devices_is_refused() -> None:
    with pytest.raises(EncodaxError, match="mesh data=64: needs 64 devices, and there are"):
        sharding.make_mesh("data=64")


def specs(model: Model, sizes: tuple[int, int]) -> dict[str, P]:
    mesh = AbstractMesh(sizes, sharding.AXES)
    found = sharding.shardings_of(model.params, mesh)
    return {
        f"{path}/{leaf}": own.spec for path, leaves in found.items() for leaf, own in leaves.items()
    }


def test_weights_are_cut_along_the_width_and_no_bias_is(tiny_model: Model) -> None:
    found = specs(tiny_model, (4, 2))
    assert found["encoder/layer_0/attention/query/w"] == P("fsdp")
    assert found["encoder/layer_0/feed_forward/up/w"] == P("fsdp")
    assert found["encoder/embeddings/token/w"] == P(None, "fsdp")
    assert {spec for name, spec in found.items() if not name.endswith("/w")} <= {
        P(),
        P(None),
        P(None, None),
    }


def test_what_does_not_divide_stays_whole(tiny_model: Model) -> None:
    assert not any("fsdp" in tuple(spec) for spec in specs(tiny_model, (1, 7)).values())


def test_a_rule_of_ones_own_comes_first(tiny_model: Model) -> None:
    mesh = AbstractMesh((1, 2), sharding.AXES)
    rules = ((r".*/query/w", P(None, "fsdp")), *sharding.RULES)
    found = sharding.shardings_of(tiny_model.params, mesh, rules)
    assert found["encoder/layer_0/attention/query"]["w"].spec == P(None, "fsdp")
    assert found["encoder/layer_0/attention/key"]["w"].spec == P("fsdp")


def test_the_optimizer_lies_as_its_parameters(tiny_model: Model) -> None:
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    own = sharding.shardings_of(tiny_model.params, mesh)
    found = sharding.shardings_of_optimizer(ADAMW, tiny_model.params, own, mesh)
    moments = found[0][0]
    assert moments.mu == moments.nu == own
    assert moments.count == sharding.replicated(mesh)


def test_a_copy_is_given_not_the_thing() -> None:
    params = {"a": {"w": jnp.arange(4.0)}}
    state = initial_state(params, ADAMW, seed=0)
    copy = sharding.gathered(state.params, sharding.make_mesh(devices=jax.devices()[:1]))
    jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)(state.params)
    np.testing.assert_array_equal(copy["a"]["w"], np.arange(4.0))
    np.testing.assert_array_equal(params["a"]["w"], np.arange(4.0))
