"""Published model families: how their configurations and tensors map to ours.

A family is a module with `MODEL_TYPE`, `read_config`, `write_config` and `tensor`; adding one is
adding a file here and a line to `FAMILIES`. None has layers of its own.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from encodax.config import ModelConfig
from encodax.errors import EncodaxError
from encodax.families import bert, native
from encodax.families.tensors import Tensor


@runtime_checkable
class Family(Protocol):
    """What each file of this folder offers."""

    MODEL_TYPE: str
    """`model_type` in `config.json`."""

    def read_config(self, published: dict[str, Any]) -> ModelConfig:
        """The published configuration as ours; refuses what our blocks would not compute alike."""

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """Ours as the published one, as near as the family comes."""

    def tensor(self, config: ModelConfig, path: str, leaf: str) -> Tensor:
        """Where a parameter stands in the weights file."""


FAMILIES: dict[str, Family] = {bert.MODEL_TYPE: bert, native.MODEL_TYPE: native}
"""Families by `model_type`."""


def family_named(model_type: str) -> Family:
    """The family of that `model_type`.

    Raises:
        EncodaxError: it is not known.
    """
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise EncodaxError(f"model_type {model_type!r} is not supported; supported: {known}")
    return FAMILIES[model_type]


def family_for(config: ModelConfig) -> Family:
    """The family that can hold this configuration exactly: `native` where no published one can."""
    for family in FAMILIES.values():
        if family.MODEL_TYPE != native.MODEL_TYPE and _round_trips(family, config):
            return family
    return native


def _round_trips(family: Family, config: ModelConfig) -> bool:
    try:
        return family.read_config(family.write_config(config)) == config
    except EncodaxError:
        return False
