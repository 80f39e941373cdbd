"""The blocks once more, in plain NumPy and float64: what tests compare with.

Written from the papers' formulas, with loops and einsums, and nothing of `encodax` in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Leaves = Mapping[str, Any]


def float64(tree: Any) -> Any:
    """The same tree of dictionaries with float64 arrays for leaves."""
    if isinstance(tree, Mapping):
        return {name: float64(branch) for name, branch in tree.items()}
    return np.asarray(tree, np.float64)


def below(params: Mapping[str, Leaves], path: str) -> dict[str, Leaves]:
    """The modules under a path, by the rest of their path."""
    return {
        name.removeprefix(path + "/"): leaves
        for name, leaves in params.items()
        if name.startswith(path + "/")
    }


def sinusoid(position: int, column: int, width: int) -> float:
    """Vaswani et al. 2017, section 3.5, one value."""
    angle = position / 10_000 ** (2 * (column // 2) / width)
    return math.sin(angle) if column % 2 == 0 else math.cos(angle)


def gelu_erf(x: Array) -> Array:
    return np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


GELU = {"gelu_erf": gelu_erf, "gelu_tanh": gelu_tanh}


def layer_norm(x: Array, leaves: Leaves, eps: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return leaves["alpha"] * (x - mean) / np.sqrt(variance + eps) + leaves["beta"]


def linear(x: Array, leaves: Leaves) -> Array:
    return x @ leaves["w"] + leaves.get("b", 0.0)


def attention_weights(
    q: Array, k: Array, mask: Array, bias: Array | float = 0.0, scale: float | None = None
) -> Array:
    """(B, H, T, S) from (B, T, H, K) and (B, S, H, K); mask (B, T, S)."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.einsum("bthk,bshk->bhts", q, k) * scale + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * mask[:, None]
    total = weights.sum(-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def attention(
    q: Array, k: Array, v: Array, mask: Array, bias: Array | float = 0.0, scale: float | None = None
) -> Array:
    return np.einsum("bhts,bshk->bthk", attention_weights(q, k, mask, bias, scale), v)


def multi_head_attention(
    x: Array, y: Array, params: Mapping[str, Leaves], mask: Array, **options: Any
) -> Array:
    """Head by head, as in section 3.2.2; `params` are those below the module."""
    heads = []
    for h in range(params["query"]["w"].shape[1]):
        q, k, v = (
            linear(source, {name: leaf[..., h, :] for name, leaf in params[part].items()})
            for part, source in (("query", x), ("key", y), ("value", y))
        )
        one = attention(q[:, :, None], k[:, :, None], v[:, :, None], mask, **options)
        heads.append(one[:, :, 0])
    return linear(np.concatenate(heads, -1), params["output"])


def feed_forward(x: Array, params: Mapping[str, Leaves], activation: str = "gelu_erf") -> Array:
    return linear(GELU[activation](linear(x, params["up"])), params["down"])


def encoder_layer(
    x: Array, params: Mapping[str, Leaves], mask: Array, *, placement: str, eps: float
) -> Array:
    """`params` are those below the layer."""

    def attend(z: Array) -> Array:
        return multi_head_attention(z, z, below(params, "attention"), mask)

    def transform(z: Array) -> Array:
        return feed_forward(z, below(params, "feed_forward"))

    for name, sublayer in (("attention", attend), ("feed_forward", transform)):
        norm = params[f"{name}_norm"]
        if placement == "post":
            x = layer_norm(x + sublayer(x), norm, eps)
        else:
            x = x + sublayer(layer_norm(x, norm, eps))
    return x


def segment_mask(
    queries: Array, keys: Array, *, causal: bool = False, window: int | None = None
) -> Array:
    """(B, T, S): the rule of `PackedBatch`, cell by cell."""
    rows, asking, asked = *queries.shape, keys.shape[1]
    mask = np.zeros((rows, asking, asked), bool)
    for b, t, s in np.ndindex(mask.shape):
        allowed = queries[b, t] == keys[b, s] != 0
        allowed &= not causal or s <= t
        allowed &= window is None or abs(t - s) <= window
        mask[b, t, s] = allowed
    return mask
