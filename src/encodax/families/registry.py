"""Registry of families: one by its name, or the one that can hold a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from encodax.config import ModelConfig, Seq2SeqConfig
from encodax.errors import EncodaxError

ConfigT = TypeVar("ConfigT", ModelConfig, Seq2SeqConfig)


@runtime_checkable
class ReadsAndWrites(Protocol[ConfigT]):
    """Interface that a registry needs of a family."""

    @property
    def MODEL_TYPE(self) -> str:
        """`model_type` in `config.json`."""

    def read_config(self, published: Mapping[str, Any]) -> ConfigT:
        """Convert a published configuration."""

    def write_config(self, config: ConfigT) -> dict[str, Any]:
        """Convert a configuration to the published keys."""


FamilyT = TypeVar("FamilyT", bound=ReadsAndWrites[Any])


@dataclass(frozen=True)
class Registry(Generic[FamilyT, ConfigT]):
    """Families of one kind, published and our own."""

    published: tuple[FamilyT, ...]
    native: FamilyT
    """Family of the combinations that no published family has."""
    bare: Callable[[ConfigT], ConfigT]
    """Function that removes the part of a configuration that no `config.json` holds."""

    @cached_property
    def by_name(self) -> dict[str, FamilyT]:
        """Families by `model_type`."""
        return {family.MODEL_TYPE: family for family in (*self.published, self.native)}

    def get(self, model_type: object) -> FamilyT | None:
        """Return the family with this `model_type`, or None."""
        return self.by_name.get(model_type) if isinstance(model_type, str) else None

    def holding(self, config: ConfigT) -> FamilyT:
        """Return the family that can hold a configuration exactly; `native` where none can.

        The family it was read from is tried first.
        """
        own: FamilyT | None = self.get(config.family)
        candidates: list[FamilyT] = [*([] if own is None else [own]), *self.published]
        holding = (each for each in candidates if each is not self.native)
        return next((each for each in holding if self._holds(each, config)), self.native)

    def _holds(self, family: FamilyT, config: ConfigT) -> bool:
        try:
            read = family.read_config(family.write_config(config))
        except EncodaxError:
            return False
        return bool(read == replace(self.bare(config), family=family.MODEL_TYPE))
