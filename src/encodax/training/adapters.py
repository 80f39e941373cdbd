"""What a step trains, and what it leaves."""

from __future__ import annotations

from encodax.types import Params


def effective(trained: Params, frozen: Params) -> Params:
    """The parameters of the model."""
    return {**frozen, **trained}
