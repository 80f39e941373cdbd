"""Rotary positions as published configurations state them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encodax.config import (
    RotaryConfig,
)
from encodax.errors import EncodaxError
from encodax.families.config_reader import ConfigReader
from encodax.families.spec import BaseSpec


def rotary(
    shape: BaseSpec, published: ConfigReader, stated: Mapping[str, Any] | None, base: Any
) -> RotaryConfig:
    """Return rotary positions for heads of this shape.

    Args:
        shape: shape of the model.
        published: the configuration.
        stated: `rope_parameters`, or its part for one kind of layer; None where there is none.
        base: base where `stated` has none.

    Raises:
        EncodaxError: positions are scaled, or only a part of each head is rotated; or the width
            of heads is odd, so that features do not form pairs.
    """
    stated = rope_parameters({} if stated is None else stated)
    for key, plain in PLAIN_ROPE.items():
        if stated.get(key) not in plain:
            raise EncodaxError(
                f"config.json: rope_parameters: {key} {stated[key]!r} is not supported"
            )
    for key, value in stated.items():
        if key not in (*PLAIN_ROPE, "rope_theta") and value is not None:
            raise EncodaxError(f"config.json: rope_parameters: {key} = {value!r} is not supported")
    known = ConfigReader({"rope_theta": stated.get("rope_theta", base)}, {}).number("rope_theta")
    width = shape.width // shape.heads
    if published.get("head_dim") not in (None, width):
        raise EncodaxError(
            f"config.json: head_dim = {published['head_dim']!r} is not supported: heads are "
            f"hidden_size / num_attention_heads wide, {width}"
        )
    if width % 2 or known == 0:
        raise EncodaxError(
            "config.json: rotary positions need heads of even width and a rope_theta above 0, not "
            f"{width} and {known}"
        )
    return RotaryConfig(known)


PLAIN_ROPE: dict[str, tuple[Any, ...]] = {
    "rope_type": (None, "default"),
    "type": (None, "default"),
    "partial_rotary_factor": (None, 1.0),
}
"""Keys of `rope_parameters` -> values for which whole heads are rotated and nothing is scaled."""


def rope_parameters(stated: Any) -> Mapping[str, Any]:
    """Return rotary parameters, checked to be an object.

    Raises:
        EncodaxError: they are not an object.
    """
    if not isinstance(stated, Mapping):
        raise EncodaxError(f"config.json: rope_parameters = {stated!r} is not supported")
    return stated
