"""Published model families: how their configurations and tensors map to ours.

A family is a value of `PublishedFamily`; adding one is adding a file here and a line to
`FAMILIES`. None has layers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from encodax.config import HeadConfig, HeadKind, ModelConfig, Usage
from encodax.errors import EncodaxError
from encodax.families import (
    albert,
    bert,
    deberta_v2,
    distilbert,
    electra,
    esm,
    modernbert,
    mpnet,
    native,
    nomic_bert,
    roberta,
)
from encodax.families.tensors import Tensor


@runtime_checkable
class Family(Protocol):
    """What each family offers."""

    @property
    def MODEL_TYPE(self) -> str:
        """`model_type` in `config.json`."""

    @property
    def copies(self) -> Mapping[str, str]:
        """Tensors that repeat another where files store both -> that other one."""

    def read_config(self, published: Mapping[str, Any]) -> ModelConfig:
        """The published configuration as ours; refuses what our blocks would not compute alike."""

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """Ours as the published one, as near as the family comes."""

    def has(self, kind: HeadKind | None) -> bool:
        """Whether the family has such a head; None is the bare encoder."""

    def new_head(self, config: ModelConfig, kind: HeadKind, classes: int) -> HeadConfig:
        """The head of that kind that the family puts on such an encoder."""

    def tensor(self, config: ModelConfig, path: str, leaf: str) -> Tensor:
        """Where a parameter stands, under its canonical name."""

    def canonical(self, stored: str) -> str:
        """The one form of a tensor's name, of those that files have."""

    def file_name(self, config: ModelConfig, name: str) -> str:
        """A canonical name as the model's file has it."""

    def is_stray(self, config: ModelConfig, name: str) -> bool:
        """Whether the file of such a model may carry this tensor beside those of the model."""


_ALL: tuple[Family, ...] = (
    bert.FAMILY,
    roberta.ROBERTA,
    roberta.XLM_ROBERTA,
    roberta.CAMEMBERT,
    distilbert.FAMILY,
    mpnet.FAMILY,
    electra.FAMILY,
    albert.FAMILY,
    modernbert.FAMILY,
    nomic_bert.FAMILY,
    esm.FAMILY,
    deberta_v2.FAMILY,
    native,
)
FAMILIES: dict[str, Family] = {family.MODEL_TYPE: family for family in _ALL}
"""Families by `model_type`."""


def family_named(model_type: object) -> Family:
    """The family of that `model_type`.

    Raises:
        EncodaxError: it is not known.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise EncodaxError(
            f"model_type {model_type!r} is not supported; supported: {known}; code that comes with "
            "a model is not run"
        )
    return FAMILIES[model_type]


def family_for(config: ModelConfig) -> Family:
    """The family that can hold this configuration exactly: `native` where no published one can.

    That is the one it was read from, while nothing has changed that it cannot hold.
    """
    first = [FAMILIES[config.family]] if config.family in FAMILIES else []
    for family in [*first, *FAMILIES.values()]:
        if family.MODEL_TYPE != native.MODEL_TYPE and _round_trips(family, config):
            return family
    return native


def _round_trips(family: Family, config: ModelConfig) -> bool:
    try:
        read = family.read_config(family.write_config(config))
    except EncodaxError:
        return False
    return read == replace(config, family=family.MODEL_TYPE, max_length=None, usage=Usage())
