"""Family of block combinations that no published family has; only Encodax loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from encodax.config import EncoderConfig, HeadConfig, HeadKind, ModelConfig, Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.families import ignored_keys
from encodax.families.labels import labels_of
from encodax.families.published import output_width, plain_head
from encodax.families.spec import shape_of
from encodax.families.tensors import Tensor
from encodax.storage import json_files
from encodax.storage.json_files import FileKeys, Settings

MODEL_TYPE = "encodax"
tensor_aliases: Mapping[str, str] = {}

AnyConfig = ModelConfig | Seq2SeqConfig


def tensor(config: AnyConfig, path: str, leaf: str) -> Tensor:
    """Return the tensor of a parameter: named by its path, in its own layout."""
    return Tensor(f"{path}/{leaf}")


def canonical(stored: str) -> str:
    """Return the name as it is: it has one form only."""
    return stored


def stored_name(config: AnyConfig, name: str) -> str:
    """Return the name as it is: it has one form only."""
    return name


def is_ignored(config: AnyConfig, name: str) -> bool:
    """Return False: the file may hold no other tensors."""
    return False


def has(kind: HeadKind | None) -> bool:
    """Return True: every kind of head has its own name in files."""
    return True


def new_head(config: ModelConfig, kind: HeadKind, classes: int) -> HeadConfig:
    """Return BERT's head of this kind."""
    shape = shape_of(config)
    return plain_head(kind, output_width(kind, classes, shape), shape, shape.dropout_rate)


def write_config(config: ModelConfig) -> dict[str, Any]:
    """Return the configuration field by field."""
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
        EncodaxError: a key is unknown.
    """
    return settings.settle({**ignored_keys.ANY, "dtype": "each tensor has a type of its own"})


def read_config(published: Mapping[str, Any], *, encoder_only: bool = False) -> ModelConfig:
    """Read the configuration that `write_config` wrote; with `encoder_only`, without the head.

    Raises:
        EncodaxError: a key is missing or unknown, or has a value of another type; the message
            names it.
    """
    where = "config.json"
    for key in ("encoder", "head", "pad_token_id"):
        if key not in published:
            raise EncodaxError(f"{where}: {key} is missing")
    head, pad_id = published["head"], published["pad_token_id"]
    if type(pad_id) is not int or pad_id < 0:
        raise EncodaxError(f"{where}: pad_token_id = {json_files.shown(pad_id)} is not a token id")
    bare = encoder_only or head is None
    return ModelConfig(
        json_files.from_json(EncoderConfig, published["encoder"], where, "encoder"),
        None if bare else json_files.from_json(HeadConfig, head, where, "head"),
        labels=() if encoder_only else labels_of({"id2label": published.get("id2label", {})}),
        pad_id=pad_id,
        family=MODEL_TYPE,
    )


def read_head(values: Mapping[str, Any], where: str) -> HeadConfig:
    """Read a head, as `dataclasses.asdict` writes it.

    Raises:
        EncodaxError: a key is missing or unknown, or has a value of another type; the message
            names it.
    """
    own = {name: value for name, value in values.items() if name != "id2label"}
    return json_files.from_json(HeadConfig, own, where)
