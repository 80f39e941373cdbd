"""Optimizer: AdamW with warm-up, decay and clipping, from Optax."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from encodax.options.training import Adam as Adam
from encodax.options.training import Schedule as Schedule
from encodax.types.batches import Params


def learning_rate_schedule(
    peak: float, steps: int, *, warmup: float, schedule: Schedule
) -> optax.Schedule:
    """Return a schedule: linear warm-up, then decay to 0 at the step after the last, or constant.

    `inverse_sqrt` decays with 1 / sqrt(step) (Vaswani et al. 2017, section 5.3): it does not depend
    on
    the number of steps.

    Args:
        peak: the highest learning rate.
        steps: number of steps of the whole run.
        warmup: share of the steps that warm up; above 1, their number.
        schedule: `cosine` (Loshchilov & Hutter 2017, arXiv:1608.03983), `linear`, `constant` or
            `inverse_sqrt`.
    """
    rising = warmup if warmup > 1 else warmup * steps
    warmup_steps = max(1, round(rising))  # one step is no warm-up: it starts at the peak
    rest = max(1, steps - warmup_steps + 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
        "inverse_sqrt": lambda step: peak * jnp.sqrt(warmup_steps / (step + warmup_steps)),
    }[schedule]
    up = optax.linear_schedule(0.0, peak, warmup_steps)
    # Counted from 1, so that the first step of a warm-up does not have a rate of 0.
    joined = optax.join_schedules([up, after], [warmup_steps])
    return lambda step: joined(step + 1)


DECAYING = ("w", "lora_a", "lora_b")


def decay_mask(params: Params) -> dict[str, dict[str, bool]]:
    """Mark the leaves with weight decay: weights, but no biases, and no alpha or beta of norms."""
    return {
        module: {leaf: leaf in DECAYING for leaf in leaves} for module, leaves in params.items()
    }


LAYER = re.compile(r"encoder/layer_(\d+)/")


def rate_factors(params: Params, decay: float, layers: int) -> dict[str, dict[str, float]]:
    """Return the factor of each parameter's learning rate, smaller the nearer it is to the text.

    factor = decay^d,  d = 0 for the head, L - l for layer l of 0 .. L - 1, L + 1 for embeddings

    From each part to the one below, the rate falls by the same factor (Howard & Ruder 2018,
    arXiv:1801.06146, section 3.1; Clark et al. 2020, arXiv:2003.10555, appendix B). ELECTRA's
    published
    code leaves out a step between the head and the last layer. Parameters shared by the scores of
    all
    layers (relative positions) count as embeddings, because the first layer uses them; a final norm
    counts as the last layer.

    Args:
        params: parameters, or any tree of their structure; adapters count as their layer.
        decay: the factor, in 0 .. 1.
        layers: L, the number of layers with their own parameters.
    """
    return {
        path: dict.fromkeys(leaves, decay ** _depth(path, layers))
        for path, leaves in params.items()
    }


def _depth(path: str, layers: int) -> int:
    """Return the number of steps from the head down to a module."""
    if not path.startswith("encoder/"):
        return 0
    if found := LAYER.match(path):
        return layers - int(found[1])
    return 1 if path.startswith("encoder/final_norm") else layers + 1


def scale_by_depth(decay: float, layers: int) -> optax.GradientTransformation:
    """Multiply updates by `rate_factors`; after AdamW this scales the rate and the weight decay."""

    def update(updates: Params, params: Params | None) -> Any:
        return jax.tree.map(lambda u, f: f * u, updates, rate_factors(updates, decay, layers))

    return optax.stateless(update)


@dataclass(frozen=True)
class Optimizer:
    """Optimizer like one of Optax, whose `update` takes more arguments than a gradient.

    It is a separate type, so that no optimizer is used that would ignore these arguments.
    """

    init: Callable[[Params], optax.OptState]
    update: Callable[..., tuple[Params, optax.OptState]]
    """(gradient, state, params, share, norm, is_finite) -> (updates, state).

    - `share`: s, a factor that the gradient is multiplied by first; 1 by default;
    - `norm`: |s g|, if it is known;
    - `is_finite`: if False, the state stays the same and the updates are 0.
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
    """Return AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) after clipping by the global norm.

    g' = s g min(1, c / |s g|),  m = b1 m + (1 - b1) g',  v = b2 v + (1 - b2) g'^2

    with c the largest norm. If the gradient is not finite, g' = 0 and b1 = b2 = 1: m and v stay the
    same. All this is expressed by numbers, so that XLA reads and writes each parameter and its
    moments
    once, in place; selecting between old and new arrays afterwards takes four times as long on CPU.

    Args:
        schedule: the learning rate of each step.
        weight_decay: decay of weights (`decay_mask`).
        clip_norm: largest global norm of the gradient.
        adam: constants of Adam.
        layer_decay: factor of the rate from each layer to the one below (`rate_factors`).
        layers: L, the number of layers with their own parameters.
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
        new = jax.tree.map(  # in the state, only step counts need a selection
            lambda n, o: jnp.where(is_finite, n, o) if n.ndim == 0 else n, new, state
        )
        return updates, new

    return Optimizer(adamw(adam.b1, adam.b2).init, update)
