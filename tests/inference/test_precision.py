"""Parameters in fewer bits: which, how exactly, and what a product makes of them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import normal

from encodax import Classifier, Embedder, FillMask
from encodax.errors import EncodaxError
from encodax.inference.precision import cast, default_precision, quantize
from encodax.models.encoder_model import Model
from encodax.nn import functional
from encodax.types.batches import Int8Weight


def test_float32_is_the_default_on_cpu_and_changes_nothing(tiny_model: Model) -> None:
    assert default_precision() == "float32"
    assert Embedder(tiny_model).precision == "float32"
    assert cast(tiny_model.params, "float32") is tiny_model.params


def test_bfloat16_is_of_dense_weights_alone(tiny_model: Model) -> None:
    for path, leaves in cast(tiny_model.params, "bfloat16").items():
        is_table = path.split("/")[-1] in ("token", "position", "type")
        for leaf, array in leaves.items():
            narrow = leaf == "w" and not is_table
            assert array.dtype == (jnp.bfloat16 if narrow else jnp.float32), (path, leaf)


def test_int8_is_of_the_products_of_layers_but_not_of_values(tiny_model: Model) -> None:
    found = cast(tiny_model.params, "int8")
    integer = {path for path, leaves in found.items() if isinstance(leaves.get("w"), Int8Weight)}
    layer = ("attention/query", "attention/key", "attention/output", "feed_forward/up")
    layer = (*layer, "feed_forward/down")
    assert integer == {f"encoder/layer_{i}/{name}" for i in range(2) for name in layer}
    assert found["encoder/layer_0/attention/value"]["w"].dtype == jnp.bfloat16
    assert found["head/output"]["w"].dtype == jnp.bfloat16
    again = cast(found, "int8")
    assert jax.tree.structure(again) == jax.tree.structure(found)


def test_an_unknown_precision_is_refused(tiny_model: Model, unchecked_types: None) -> None:
    with pytest.raises(EncodaxError, match="'float16' is not one of: float32, bfloat16, int8"):
        Embedder(tiny_model, precision="float16")


@pytest.mark.parametrize("shape", [(7, 5), (7, 3, 4)])
def test_a_weight_is_rounded_to_steps_of_its_channel(shape: tuple[int, ...]) -> None:
    w = normal(*shape, seed=1) * jnp.arange(1, shape[-1] + 1)
    weight = quantize(w)
    assert (weight.shape, weight.size) == (shape, np.prod(shape))
    assert weight.values.dtype == jnp.int8 and np.abs(weight.values).max() == 127
    assert weight.nbytes == w.size + 2 * 4 * weight.scale.size
    error = np.abs(weight.values * weight.scale - w)
    assert (error <= weight.scale / 2 * (1 + 1e-5)).all()
    np.testing.assert_array_equal(weight.total, np.asarray(weight.values, int).sum(0))
    assert (quantize(jnp.zeros((3, 2))).values == 0).all()


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("shape", [(16, 5), (16, 3, 4)])
def test_an_integer_product_is_that_of_the_rounded_operands(
    shape: tuple[int, ...], offset: float
) -> None:
    x, w = np.asarray(normal(2, 6, 16)) + offset, quantize(normal(*shape, seed=1))
    least, greatest = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    step, middle = (greatest - least) / 254, (greatest + least) / 2
    rounded = np.round((x - middle) / step) * step + middle  # (2, 6, 16)
    assert np.abs(rounded - x).max() <= step.max() / 2 * (1 + 1e-5)
    wanted = np.tensordot(rounded, np.asarray(w.values) * np.asarray(w.scale), 1)
    found = functional.linear(jnp.asarray(x), {"w": w, "b": jnp.ones(shape[1:])})
    np.testing.assert_allclose(found, wanted + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, np.tensordot(x, w.values * w.scale, 1) + 1, atol=0.2)


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_rows_of_equal_values_stay_exact_in_integers(value: float) -> None:
    found = functional.linear(jnp.full((2, 4), value), {"w": quantize(jnp.ones((4, 3)))})
    np.testing.assert_allclose(found, np.full((2, 3), 4 * value), rtol=1e-6)


def test_a_bfloat16_product_is_added_up_in_float32() -> None:
    x, w = jnp.ones((1, 1000)), jnp.full((1000, 1), 1.0, jnp.bfloat16)
    found = functional.linear(x, {"w": w})
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[1000]])
    np.testing.assert_array_equal(functional.linear(x[:, :999], {"w": w[:999]}), [[999]])


@pytest.mark.parametrize(("precision", "cosine"), [("bfloat16", 0.9995), ("int8", 0.99)])
def test_vectors_of_a_published_model_stay_near(
    minilm: Path, precision: str, cosine: float
) -> None:
    texts = ["a cat purrs", "shares fell sharply in early trading", "how do I sort a list?", "no"]
    model = Model.load(minilm)
    exact = Embedder(model).encode(texts)
    near = Embedder(model, precision=precision).encode(texts)
    assert near.dtype == np.float32
    assert cosine <= np.sum(exact * near, axis=1).min() < 1 - 1e-7


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_every_predictor_takes_a_precision(tiny_model: Model, precision: str) -> None:
    (exact,), (near,) = (
        Classifier(tiny_model, precision=p).predict(["a dog ran"]) for p in ("float32", precision)
    )
    for label, score in exact.scores.items():
        assert near.scores[label] == pytest.approx(score, abs=0.05)
    masked = tiny_model.with_head("vocabulary", classes=tiny_model.tokenizer.vocabulary_size)
    ((guesses,),) = FillMask(masked, precision=precision).predict(["a [MASK] ran"])
    assert len(guesses) == 5
