"""Reference implementation of the blocks in plain NumPy and float64, for tests to compare with.

Written from the papers' formulas, with loops and einsums, without any part of `encodax`.
"""

from __future__ import annotations

import cmath
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


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def selu(x: Array) -> Array:
    """Klambauer et al. 2017, equation 2: the two numbers are from its appendix."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))


ACTIVATIONS = {
    **GELU,
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": selu,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": silu,
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
}


def layer_norm(x: Array, leaves: Leaves, eps: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return leaves["alpha"] * (x - mean) / np.sqrt(variance + eps) + leaves.get("beta", 0.0)


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


def rotate(x: Array, positions: Array, base: float) -> Array:
    """Rotary positions of (B, T, H, K), pair by pair: each is turned as a complex number."""
    turned, half = np.empty_like(x), x.shape[-1] // 2
    for b, t, h, i in np.ndindex(*x.shape[:3], half):
        angle = positions[b, t] / base ** (2 * i / x.shape[-1])
        pair = complex(x[b, t, h, i], x[b, t, h, i + half]) * cmath.exp(1j * angle)
        turned[b, t, h, i], turned[b, t, h, i + half] = pair.real, pair.imag
    return turned


def multi_head_attention(
    x: Array,
    y: Array,
    params: Mapping[str, Leaves],
    mask: Array,
    *,
    rotary: tuple[Array, float] | None = None,
    bias: Array | float = 0.0,
    **options: Any,
) -> Array:
    """Head by head, as in section 3.2.2; `params` are those below the module.

    `rotary` has the positions and the base, `bias` is (B, H, T, S) or one number.
    """
    heads = []
    for h in range(params["query"]["w"].shape[1]):
        q, k, v = (
            linear(source, {name: leaf[..., h, :] for name, leaf in params[part].items()})
            for part, source in (("query", x), ("key", y), ("value", y))
        )
        q, k, v = q[:, :, None], k[:, :, None], v[:, :, None]
        if rotary is not None:
            q, k = (rotate(z, *rotary) for z in (q, k))
        added = bias[:, h : h + 1] if isinstance(bias, np.ndarray) else bias
        one = attention(q, k, v, mask, bias=added, **options)
        heads.append(one[:, :, 0])
    return linear(np.concatenate(heads, -1), params["output"])


def feed_forward(x: Array, params: Mapping[str, Leaves], activation: str = "gelu_erf") -> Array:
    """Gated where there is a gate."""
    inner = linear(x, params["up"])
    if "gate" in params:
        inner = ACTIVATIONS[activation](linear(x, params["gate"])) * inner
    else:
        inner = ACTIVATIONS[activation](inner)
    return linear(inner, params["down"])


def encoder_layer(
    x: Array,
    params: Mapping[str, Leaves],
    mask: Array,
    *,
    placement: str,
    eps: float,
    **options: Any,
) -> Array:
    """`params` are those below the layer, `options` those of attention; without a norm, none."""

    def attend(z: Array) -> Array:
        return multi_head_attention(z, z, below(params, "attention"), mask, **options)

    def transform(z: Array) -> Array:
        return feed_forward(z, below(params, "feed_forward"))

    for name, sublayer in (("attention", attend), ("feed_forward", transform)):
        leaves = params.get(f"{name}_norm")

        def norm(z: Array, leaves: Leaves | None = leaves) -> Array:
            return z if leaves is None else layer_norm(z, leaves, eps)

        x = norm(x + sublayer(x)) if placement == "post" else x + sublayer(norm(x))
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
