"""Reading of a published `config.json`: values with defaults, checked."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from encodax.config import (
    Problem,
)
from encodax.errors import EncodaxError
from encodax.families.spec import BaseSpec
from encodax.storage.json_files import shown

ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu_erf",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Published name of an activation -> name in Encodax."""
PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
"""`problem_type` -> name in Encodax."""
DTYPES = (None, "float32", "float16", "bfloat16")
"""Supported types of published weights; all are computed in float32."""
COMMON_DEFAULTS: dict[str, Any] = {
    "architectures": None,
    "dtype": None,
    "problem_type": None,
    "rope_scaling": None,
    "tie_word_embeddings": True,
    "torch_dtype": None,
}
"""Defaults of every published class for missing keys."""


class ConfigReader:
    """Published configuration, read with the defaults of its class and checked."""

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any]):
        """Set the values, and the published class's defaults for missing keys."""
        self._values = values
        self._defaults = defaults

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        """Return the value of a key, or None where it is missing and has no default."""
        return self._values.get(key, self._defaults.get(key))

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        if key not in self._defaults:
            raise EncodaxError(f"config.json: the key {key!r} is missing")
        return self._defaults[key]

    def integer(self, key: str, minimum: int = 0, maximum: int = 2**31 - 1) -> int:
        """Return an integer from `minimum` to `maximum`: JAX counts in int32."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise EncodaxError(f"config.json: {key} = {value!r} is not a whole number >= {minimum}")
        if value > maximum:
            raise EncodaxError(f"config.json: {key} = {value} is more than {maximum}")
        return value

    def number(self, key: str) -> float:
        """Return a finite number, not below 0."""
        value = self[key]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= sys.float_info.max
        ):
            raise EncodaxError(f"config.json: {key} = {value!r} is not a number")
        return float(value)

    def rate(self, key: str, otherwise: str | None = None) -> float:
        """Return a dropout rate; where it is null, that of the key `otherwise`."""
        if otherwise is not None and self[key] is None:
            return self.rate(otherwise)
        value = self.number(key)
        if not 0 <= value < 1:
            raise EncodaxError(f"config.json: {key} = {value!r} is not in 0..1")
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean."""
        value = self[key]
        if not isinstance(value, bool):
            raise EncodaxError(f"config.json: {key} = {value!r} is not true or false")
        return value

    def one_of(self, key: str, known: Mapping[str, Any]) -> Any:
        """Return the value that `known` has for the name at `key`."""
        value = self[key]
        if not isinstance(value, str) or value not in known:
            names = ", ".join(known)
            raise EncodaxError(f"config.json: {key} {value!r} is not supported; known: {names}")
        return known[value]

    def shape(self, keys: Mapping[str, str]) -> BaseSpec:
        """Return the shape; `keys` maps its fields to keys."""
        readers: dict[str, Callable[[str], Any]] = {
            "activation": lambda key: self.one_of(key, ACTIVATIONS),
            "layers": lambda key: self.integer(key, minimum=1, maximum=1_000),
            "norm_eps": self.number,
            "dropout_rate": self.rate,
            "attention_dropout_rate": self.rate,
            "type_vocabulary_size": self.integer,
            "pad_id": lambda key: 0 if self[key] is None else self.integer(key),
        }

        def count(key: str) -> int:
            return self.integer(key, minimum=1)

        fields = {name: readers.get(name, count)(key) for name, key in keys.items()}
        shape = BaseSpec(**fields)
        if shape.width % shape.heads:
            raise EncodaxError(
                f"config.json: {keys['width']} {shape.width} is not a multiple of "
                f"{keys['heads']} {shape.heads}"
            )
        return shape


def architectures_of(published: ConfigReader) -> list[str]:
    """Return the published classes that a configuration names, if any.

    Raises:
        EncodaxError: `architectures` is not a list of names.
    """
    named = published["architectures"]
    if named is None:
        return []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise EncodaxError(
            f"config.json: architectures must be a list of class names, not {shown(named)}"
        )
    return named


def with_aliases_resolved(values: Mapping[str, Any], aliases: Names) -> Mapping[str, Any]:
    """Return the configuration with every key that has an alias also under its main name.

    Raises:
        EncodaxError: a key and its alias have different values.
    """
    found: dict[str, Any] = {}
    for alias, key in aliases.items():
        if values.get(alias) is None:
            continue
        if values.get(key, values[alias]) != values[alias]:
            raise EncodaxError(
                f"config.json: {alias} = {values[alias]!r} contradicts {key} = {values[key]!r}, "
                "another name of it; keep the one that fits the weights"
            )
        found[key] = values[alias]
    return ChainMap(found, values) if found else values  # type: ignore[arg-type]


def check_fixed(published: ConfigReader, fixed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse unsupported values of options for which only some values are supported.

    Args:
        published: the configuration.
        fixed: key -> its supported values.

    Raises:
        EncodaxError: an option has another value; the message names the first one.
    """
    for key, allowed in fixed.items():
        if key in published or published.get(key) is not None:
            value = published[key]
            if value not in allowed:
                raise EncodaxError(f"config.json: {key} = {value!r} is not supported")


def check_dtype(published: ConfigReader) -> None:
    """Refuse weights of unsupported types, and scaled positions.

    Raises:
        EncodaxError: the configuration asks for one of these.
    """
    for key in ("dtype", "torch_dtype"):
        if published[key] not in DTYPES:
            raise EncodaxError(f"config.json: {key} {published[key]!r} is not supported")
    if published.get("quantization_config") is not None:
        raise EncodaxError("config.json: quantization_config: quantized weights are not supported")
    if published["rope_scaling"] is not None:
        raise EncodaxError("config.json: scaled rotary positions (rope_scaling) are not supported")


def published_name(activation: str) -> str:
    """Return the published name of an activation.

    Raises:
        EncodaxError: published families have no such activation.
    """
    for name, ours in ACTIVATIONS.items():
        if ours == activation:
            return name
    raise EncodaxError(f"activation {activation} is not supported by published families")


Names = Mapping[str, str]
