"""What a step trains: the adapter and the head, or all that is not frozen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from directories import refusal
from toys import same

from encodax.model_files.peft import SCALE, A, B, merge
from encodax.models.encoder_model import Model
from encodax.training.step.lora import LoraConfig, initial_adapter
from encodax.training.step.partition import merged_params, trainable
from encodax.types.batches import Params

KEY = jax.random.key(3)
LORA = LoraConfig(rank=3, alpha=6.0)
QUERY = "encoder/layer_1/attention/query"


def names(params: Params) -> set[str]:
    return {f"{path}/{leaf}" for path, leaves in params.items() for leaf in leaves}


def redrawn(params: Params) -> Params:
    """Every leaf at random, so that no B is 0."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    drawn = [0.3 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def test_all_is_trained_unless_something_is_said(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY)
    assert frozen == {}
    assert same(merged_params(trained, frozen), tiny_model.params)


def test_what_is_frozen_is_not_trained(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY, freeze="embeddings|layer_0/")
    assert names(trained).isdisjoint(names(frozen))
    assert names(trained) | names(frozen) == names(tiny_model.params)
    assert {name.split("/")[1] for name in names(frozen)} == {"embeddings", "layer_0"}
    assert same(merged_params(trained, frozen), tiny_model.params)


def test_freezing_everything_is_refused(tiny_model: Model) -> None:
    assert "nothing to train" in refusal(lambda: trainable(tiny_model.params, key=KEY, freeze=""))


def test_adapters_and_the_head_alone_are_trained(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY, lora=LORA)
    adapted = {
        f"encoder/layer_{layer}/attention/{name}/{leaf}"
        for layer in (0, 1)
        for name in ("query", "value")
        for leaf in (A, B)
    }
    of_head = {name for name in names(tiny_model.params) if name.startswith("head/")}
    assert names(trained) == adapted | of_head
    assert trained[QUERY][A].shape == (16, 3)
    assert trained[QUERY][B].shape == (3, 2, 8)
    assert {SCALE, "w", "b"} == frozen[QUERY].keys()


def test_an_adapter_begins_by_changing_nothing(tiny_model: Model) -> None:
    parts = trainable(tiny_model.params, key=KEY, lora=LORA)
    assert same(merged_params(*parts), tiny_model.params)
    a = np.asarray(parts[0][QUERY][A])
    assert np.abs(a).max() <= 1 / 4  # 1 / sqrt(D)
    assert np.unique(a).size == a.size
    assert not np.array_equal(a, parts[0]["encoder/layer_0/attention/query"][A])


def test_equal_keys_give_equal_adapters(tiny_model: Model) -> None:
    first, second = (initial_adapter(tiny_model.params, LORA, KEY) for _ in range(2))
    assert same(first, second)
    assert not same(first, initial_adapter(tiny_model.params, LORA, jax.random.key(4)))


@pytest.mark.parametrize("target", ["query", "output"])
def test_the_merged_weight_is_the_sum(tiny_model: Model, target: str) -> None:
    lora = LoraConfig(rank=3, alpha=6.0, targets=f"attention/{target}$")
    trained, frozen = trainable(tiny_model.params, key=KEY, lora=lora)
    trained = redrawn(trained)
    path = f"encoder/layer_1/attention/{target}"
    a, b = (np.asarray(trained[path][leaf], np.float64) for leaf in (A, B))
    w = np.asarray(tiny_model.params[path]["w"], np.float64)
    wanted = w + 2.0 * np.einsum("dr,r...->d...", a, b)
    merged = jax.jit(merged_params)(trained, frozen)
    np.testing.assert_allclose(merged[path]["w"], wanted, rtol=1e-5, atol=1e-6)
    assert merged.keys() == tiny_model.params.keys()
    assert names(merged) == names(tiny_model.params)
    untouched = "encoder/layer_1/attention/key"
    assert same({untouched: merged[untouched]}, {untouched: tiny_model.params[untouched]})


def test_gradients_reach_both_factors_by_the_chain_rule(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY, lora=LORA)
    trained, batch = redrawn(trained), tiny_model.batch(["the cat", "a dog ran"])

    def loss(params: Params) -> Any:
        return jnp.sum(tiny_model.apply(params, batch).logits ** 2)

    gradient = jax.jit(jax.grad(lambda trained: loss(merged_params(trained, frozen))))(trained)
    assert names(gradient) == names(trained)
    whole = jax.jit(jax.grad(loss))(merged_params(trained, frozen))
    of_w = LORA.scale * np.asarray(whole[QUERY]["w"], np.float64)  # (D, H, K)
    a, b = (np.asarray(trained[QUERY][leaf], np.float64) for leaf in (A, B))
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(of_w).max()}
    np.testing.assert_allclose(gradient[QUERY][A], np.einsum("dhk,rhk->dr", of_w, b), **tolerance)
    np.testing.assert_allclose(gradient[QUERY][B], np.einsum("dr,dhk->rhk", a, of_w), **tolerance)
    assert np.abs(of_w).max() > 0


def test_what_has_no_adapter_stays_the_very_array(tiny_model: Model) -> None:
    merged = merge(tiny_model.params)
    assert all(merged[path] is leaves for path, leaves in tiny_model.params.items())


def test_freezing_reaches_adapters_and_the_head(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY, lora=LORA, freeze="layer_0/|^head/")
    assert {path.split("/")[1] for path in trained} == {"layer_1"}
    assert same(merged_params(trained, frozen), tiny_model.params)


def test_targets_that_match_no_linear_layer_are_named(tiny_model: Model) -> None:
    for targets in ("embeddings/token", "head/output", "attention/qeury"):
        lora = LoraConfig(targets=targets)
        message = refusal(lambda lora=lora: trainable(tiny_model.params, key=KEY, lora=lora))
        assert repr(targets) in message
        assert "encoder/layer_0/attention/" in message


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"rank": 0}, "lora_rank = 0"),
        ({"alpha": -1.0}, "lora_alpha = -1.0"),
        ({"alpha": float("nan")}, "lora_alpha = nan"),
        ({"targets": "("}, "'('"),
    ],
)
def test_a_choice_that_cannot_be_is_named(choices: dict[str, Any], named: str) -> None:
    assert named in refusal(lambda: LoraConfig(**choices))


def test_adapters_learn(tiny_model: Model) -> None:
    trained, frozen = trainable(tiny_model.params, key=KEY, lora=LORA)
    batch, wanted = tiny_model.batch(["the cat", "a dog ran"]), jnp.asarray([0, 2])
    optimizer = optax.adam(1e-2)

    def loss(trained: Params) -> Any:
        logits = tiny_model.apply(merged_params(trained, frozen), batch).logits[:, 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

    @jax.jit
    def step(trained: Params, state: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(trained)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(trained, updates), state, value

    state, before = optimizer.init(trained), loss(trained)
    for _ in range(20):
        trained, state, value = step(trained, state)
    assert value < before / 2
    assert np.abs(trained[QUERY][B]).max() > 0
