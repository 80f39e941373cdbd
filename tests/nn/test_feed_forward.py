import pytest
import reference
from blocks import assert_close, built, normal

from encodax.nn import FeedForward


@pytest.mark.parametrize("activation", ["gelu_erf", "gelu_tanh"])
def test_it_is_activation_between_two_linear_layers(activation: str) -> None:
    x = normal(2, 5, 6)
    params, apply = built(lambda x: FeedForward(8, activation)(x), x)
    shapes = {path: {k: v.shape for k, v in leaves.items()} for path, leaves in params.items()}
    assert shapes == {
        "feed_forward/up": {"w": (6, 8), "b": (8,)},
        "feed_forward/down": {"w": (8, 6), "b": (6,)},
    }
    leaves = reference.below(reference.float64(params), "feed_forward")
    assert_close(apply(params, x), reference.feed_forward(reference.float64(x), leaves, activation))


def test_the_default_is_the_gelu_of_bert() -> None:
    x = 3 * normal(2, 5, 6)
    params, apply = built(lambda x: FeedForward(8)(x), x)
    leaves = reference.below(reference.float64(params), "feed_forward")
    x = reference.float64(x)
    assert_close(apply(params, x.astype("float32")), reference.feed_forward(x, leaves, "gelu_erf"))


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(ValueError, match="activation 'swish' is not known"):
        built(lambda x: FeedForward(8, "swish")(x), normal(2, 6))


@pytest.mark.parametrize("activation", sorted(reference.ACTIVATIONS))
def test_a_gate_is_activated_and_multiplies_the_other_projection(activation: str) -> None:
    x = normal(2, 5, 6)
    params, apply = built(lambda x: FeedForward(8, activation, gated=True)(x), x)
    shapes = {path: {k: v.shape for k, v in leaves.items()} for path, leaves in params.items()}
    assert shapes == {
        "feed_forward/up": {"w": (6, 8), "b": (8,)},
        "feed_forward/gate": {"w": (6, 8), "b": (8,)},
        "feed_forward/down": {"w": (8, 6), "b": (6,)},
    }
    leaves = reference.below(reference.float64(params), "feed_forward")
    assert_close(apply(params, x), reference.feed_forward(reference.float64(x), leaves, activation))


@pytest.mark.parametrize("gated", [False, True])
def test_without_biases_there_are_none(gated: bool) -> None:
    x = normal(2, 5, 6)
    params, apply = built(lambda x: FeedForward(8, gated=gated, biases=False)(x), x)
    assert {leaf for leaves in params.values() for leaf in leaves} == {"w"}
    assert len(params) == (3 if gated else 2)
    leaves = reference.below(reference.float64(params), "feed_forward")
    assert_close(apply(params, x), reference.feed_forward(reference.float64(x), leaves))
