"""The optimizer: AdamW with warm-up, decay and clipping, from Optax."""

from __future__ import annotations

from typing import Literal

import optax

from encodax.types import Params

Schedule = Literal["cosine", "linear", "constant"]


def learning_rate_schedule(
    peak: float, steps: int, *, warmup: float, schedule: Schedule
) -> optax.Schedule:
    """Linear warm-up to the peak, then down to 0 at the step after the last, or constant.

    Args:
        peak: the highest learning rate.
        steps: of the whole run.
        warmup: share of the steps that warm up.
        schedule: `cosine` (Loshchilov & Hutter 2017, arXiv:1608.03983), `linear` or `constant`.
    """
    warmup_steps = max(1, round(warmup * steps))  # one step of it begins at the peak: none
    rest = max(1, steps - warmup_steps + 1)
    after = {
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "constant": optax.constant_schedule(peak),
    }[schedule]
    up = optax.linear_schedule(0.0, peak, warmup_steps)
    # Counted from 1, so that the first step of a warm-up is not one with a rate of 0.
    joined = optax.join_schedules([up, after], [warmup_steps])
    return lambda step: joined(step + 1)


def decay_mask(params: Params) -> dict[str, dict[str, bool]]:
    """Which leaves decay: weights, but no bias and neither alpha nor beta of a layer norm."""
    return {module: {leaf: leaf == "w" for leaf in leaves} for module, leaves in params.items()}


def make_optimizer(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    layer_decay: float = 1.0,
    layers: int = 0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) behind clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(schedule, weight_decay=weight_decay, mask=decay_mask),
    )
