"""Combinations of blocks that no published family has; only Encodax loads them."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from encodax.config import HeadConfig, HeadKind, ModelConfig, Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.families import harmless
from encodax.families.published import labels_of, plain_head, scores_of, shape_of
from encodax.families.tensors import Tensor
from encodax.json_files import FileKeys, Settings

MODEL_TYPE = "encodax"
copies: Mapping[str, str] = {}

AnyConfig = ModelConfig | Seq2SeqConfig


def tensor(config: AnyConfig, path: str, leaf: str) -> Tensor:
    """A parameter stands under its own path, in its own layout."""
    return Tensor(f"{path}/{leaf}")


def canonical(stored: str) -> str:
    """A name has one form."""
    return stored


def file_name(config: AnyConfig, name: str) -> str:
    """A name has one form."""
    return name


def is_stray(config: AnyConfig, name: str) -> bool:
    """Nothing else may be in the file."""
    return False


def has(kind: HeadKind | None) -> bool:
    """Every head stands under its own name."""
    return True


def new_head(config: ModelConfig, kind: HeadKind, classes: int) -> HeadConfig:
    """BERT's head of that kind."""
    shape = shape_of(config)
    return plain_head(kind, scores_of(kind, classes, shape), shape, shape.dropout_rate)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Our specs as they are, field by field."""
    return {
        "model_type": MODEL_TYPE,
        "encoder": asdict(config.encoder),
        "head": asdict(config.head) if config.head else None,
        "pad_token_id": config.pad_id,
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
    }


def account(settings: Settings) -> FileKeys:
    """Account for the keys of a configuration, once `read_config` has read it.

    Raises:
        EncodaxError: one is not known.
    """
    return settings.settle({**harmless.ANY, "dtype": "each tensor has a type of its own"})


def read_config(published: Mapping[str, Any], *, encoder_only: bool = False) -> ModelConfig:
    """The specs that `write_config` wrote; with `encoder_only`, those of the encoder.

    Raises:
        EncodaxError: a field is missing or is not one of ours.
    """
    try:
        specs = {name: published[name] for name in ("encoder", "head")}
        if encoder_only:
            specs["head"] = None
        return ModelConfig(
            **fields_of(ModelConfig, specs),
            labels=() if encoder_only else labels_of({"id2label": published.get("id2label", {})}),
            pad_id=int(published["pad_token_id"]),
            family=MODEL_TYPE,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodaxError(f"config.json: not a configuration of Encodax: {error}") from error


def read_head(values: Mapping[str, Any], where: str) -> HeadConfig:
    """A head alone, as `dataclasses.asdict` writes it.

    Raises:
        EncodaxError: a field is missing or is not one of ours.
    """
    fields = {name: value for name, value in values.items() if name != "id2label"}
    try:
        return HeadConfig(**fields_of(HeadConfig, fields))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodaxError(f"{where} is not a head of Encodax: {error}") from error


def fields_of(spec: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a spec, from what `dataclasses.asdict` made of one.

    Raises:
        KeyError: the spec has no such field.
    """
    hints = typing.get_type_hints(spec)
    return {name: _built(hints[name], value) for name, value in values.items()}


def _built(hint: Any, value: Any) -> Any:
    """A value of JSON as the type says: specs from objects, tuples from lists."""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint(**fields_of(hint, value))
    if isinstance(hint, types.UnionType):
        specs = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None:
            return None
        if isinstance(value, Mapping):  # the one spec that has these fields
            specs = [spec for spec in specs if {field.name for field in fields(spec)} == set(value)]
            if not specs:
                raise ValueError(f"no spec has the fields {', '.join(value)}")
        return _built(specs[0], value) if specs else value
    if typing.get_origin(hint) is tuple:
        return tuple(_built(typing.get_args(hint)[0], item) for item in value)
    return value
