"""The optimizer: AdamW with warm-up, decay and clipping, from Optax."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from encodax.types.batches import Params

Schedule = Literal["cosine", "linear", "constant", "inverse_sqrt"]


def learning_rate_schedule(
    peak: float, steps: int, *, warmup: float, schedule: Schedule
) -> optax.Schedule:
    """Linear warm-up to the peak, then down to 0 at the step after the last, or constant.

    `inverse_sqrt` goes down with 1 / sqrt(step) (Vaswani et al. 2017, section 5.3): it does not
    depend on how long the run is.

    Args:
        peak: the highest learning rate.
        steps: of the whole run.
        warmup: share of the steps that warm up; above 1, their number.
        schedule: `cosine` (Loshchilov & Hutter 2017, arXiv:1608.03983), `linear`, `constant` or
            `inverse_sqrt`.
    """
    rising = warmup if warmup > 1 else warmup * steps
    warmup_steps = max(1, round(rising))  # one step of it begins at the peak: none
    rest = max(1, steps - warmup_steps + 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
        "inverse_sqrt": lambda step: peak * jnp.sqrt(warmup_steps / (step + warmup_steps)),
    }[schedule]
    up = optax.linear_schedule(0.0, peak, warmup_steps)
    # Counted from 1, so that the first step of a warm-up is not one with a rate of 0.
    joined = optax.join_schedules([up, after], [warmup_steps])
    return lambda step: joined(step + 1)


@dataclass(frozen=True)
class Adam:
    """How Adam averages (Kingma & Ba 2015, arXiv:1412.6980, section 2)."""

    b1: float = 0.9
    """How much of the mean of gradients stays from step to step, ..."""
    b2: float = 0.999
    """... and of the mean of their squares."""
    eps: float = 1e-8
    """Added to the root of that."""


DECAYING = ("w", "lora_a", "lora_b")


def decay_mask(params: Params) -> dict[str, dict[str, bool]]:
    """Which leaves decay: weights, but no bias and neither alpha nor beta of a layer norm."""
    return {
        module: {leaf: leaf in DECAYING for leaf in leaves} for module, leaves in params.items()
    }


LAYER = re.compile(r"encoder/layer_(\d+)/")


def rate_factors(params: Params, decay: float, layers: int) -> dict[str, dict[str, float]]:
    """What each parameter's learning rate is multiplied with: less, the nearer to the text.

    factor = decay^d,  d = 0 for the head, L - l for layer l of 0 .. L - 1, L + 1 for embeddings

    so that from each part to the one below it the rate falls by the same factor (Howard & Ruder
    2018, arXiv:1801.06146, section 3.1; Clark et al. 2020, arXiv:2003.10555, appendix B). The code
    that was published with ELECTRA leaves out a step between the head and the last layer. What
    every layer's scores share (relative positions) goes with the embeddings, as it is used from the
    first layer on, and a final norm with the last layer.

    Args:
        params: parameters, or anything of their structure; adapters go as their layer does.
        decay: the factor, in 0 .. 1.
        layers: L, the layers that have parameters of their own.
    """
    return {
        path: dict.fromkeys(leaves, decay ** _depth(path, layers))
        for path, leaves in params.items()
    }


def _depth(path: str, layers: int) -> int:
    """Steps from the head down to a module."""
    if not path.startswith("encoder/"):
        return 0
    if found := LAYER.match(path):
        return layers - int(found[1])
    return 1 if path.startswith("encoder/final_norm") else layers + 1


def scale_by_depth(decay: float, layers: int) -> optax.GradientTransformation:
    """Multiply updates with `rate_factors`; after AdamW this scales the rate, and so its decay."""

    def update(updates: Params, params: Params | None) -> Any:
        return jax.tree.map(lambda u, f: f * u, updates, rate_factors(updates, decay, layers))

    return optax.stateless(update)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of Optax that is told more than a gradient.

    So that nobody takes one that would pass over what it is told, it is a type of its own.
    """

    init: Callable[[Params], optax.OptState]
    update: Callable[..., tuple[Params, optax.OptState]]
    """(gradient, state, params, share, norm, is_finite) -> (updates, state).

    - `share`: s, a number that the gradient is multiplied with first; 1 otherwise;
    - `norm`: |s g|, where it is known;
    - `is_finite`: where it is False, the state stays and the updates are 0.
    """


def make_optimizer(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    adam: Adam = Adam(),
    layer_decay: float = 1.0,
    layers: int = 0,
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) behind clipping by the global norm.

    g' = s g min(1, c / |s g|),  m = b1 m + (1 - b1) g',  v = b2 v + (1 - b2) g'^2

    with c the largest norm. Where the gradient is not finite, g' = 0 and b1 = b2 = 1: m and v stay.
    All that is told by numbers, so that XLA reads and writes each parameter and its moments once,
    in place; to choose afterwards between old and new arrays takes four times as long on CPU.

    Args:
        schedule: the learning rate of each step.
        weight_decay: of weights (`decay_mask`).
        clip_norm: largest norm of the whole gradient.
        adam: how gradients are averaged.
        layer_decay: factor of the rate from each layer to the one below it (`rate_factors`).
        layers: L, the layers that have parameters of their own.
    """

    def adamw(b1: Any, b2: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.adamw(schedule, b1, b2, adam.eps, weight_decay=weight_decay, mask=decay_mask),
            *([] if layer_decay == 1 else [scale_by_depth(layer_decay, layers)]),
        )

    def update(
        gradient: Params,
        state: optax.OptState,
        params: Params,
        *,
        share: Any = 1.0,
        norm: Any = None,
        is_finite: Any = True,
    ) -> tuple[Params, optax.OptState]:
        norm = share * optax.tree.norm(gradient) if norm is None else norm
        factor = share * jnp.minimum(1, clip_norm / norm)
        clipped = jax.tree.map(lambda g: jnp.where(is_finite, g * factor, 0), gradient)
        b1, b2 = (jnp.where(is_finite, b, 1) for b in (adam.b1, adam.b2))
        updates, new = adamw(b1, b2).update(clipped, state, params)
        updates = jax.tree.map(lambda u: jnp.where(is_finite, u, 0), updates)
        new = jax.tree.map(  # of the state, only numbers of steps are left to choose
            lambda n, o: jnp.where(is_finite, n, o) if n.ndim == 0 else n, new, state
        )
        return updates, new

    return Optimizer(adamw(adam.b1, adam.b2).init, update)
