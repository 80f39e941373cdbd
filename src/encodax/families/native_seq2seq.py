"""Family of sequence-to-sequence models that no published family has; only Encodax loads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from encodax.config import Seq2SeqConfig
from encodax.families import ignored_keys
from encodax.families.native import canonical, is_ignored, stored_name, tensor, tensor_aliases
from encodax.storage import json_files
from encodax.storage.json_files import FileKeys, Settings

__all__ = [
    "MODEL_TYPE",
    "account",
    "canonical",
    "is_ignored",
    "read_config",
    "stored_name",
    "tensor",
    "tensor_aliases",
    "write_config",
]

MODEL_TYPE = "encodax-seq2seq"


def write_config(config: Seq2SeqConfig) -> dict[str, Any]:
    """Return the configuration field by field."""
    return {"model_type": MODEL_TYPE, "is_encoder_decoder": True, **asdict(config)}


def account(settings: Settings) -> FileKeys:
    """Account for the keys of a configuration, once `read_config` has read it.

    Raises:
        EncodaxError: a key is unknown.
    """
    return settings.settle(ignored_keys.ANY)


def read_config(published: Mapping[str, Any]) -> Seq2SeqConfig:
    """Read the configuration that `write_config` wrote.

    Raises:
        EncodaxError: a key is missing or unknown, or has a value of another type; the message
            names it.
    """
    others = ("model_type", "is_encoder_decoder", "dtype")
    specs = {name: value for name, value in published.items() if name not in others}
    config = json_files.from_json(Seq2SeqConfig, specs, "config.json")
    return replace(config, family=MODEL_TYPE)
