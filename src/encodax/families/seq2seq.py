"""Sequence-to-sequence families: conversion of published configurations and tensors.

A family is a value of `Seq2SeqFamily` in its own file; to add one, add that file and a line to
`SEQ2SEQ`. No family has layers of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from encodax.config import Seq2SeqConfig, TransformerConfig
from encodax.errors import EncodaxError
from encodax.families import ignored_keys
from encodax.families.config_reader import (
    COMMON_DEFAULTS,
    ConfigReader,
    architectures_of,
    check_dtype,
    check_fixed,
    with_aliases_resolved,
)
from encodax.families.tensors import Leaves, Table, Tensor, look_up
from encodax.storage.json_files import FileKeys, Settings

FORCED_BOS, OLD_FIRST = "forced_bos_token_id", "force_bos_token_to_be_generated"
"""Keys of the first token of every target: its id, and the older flag that it is
`bos_token_id`."""
BAD_WORDS = "bad_words_ids"
"""Key of sequences that are never generated; only those of one token are supported."""


@dataclass(frozen=True)
class Seq2SeqFamily:
    """Sequence-to-sequence family: conversion of its `config.json` and tensors, without layers."""

    MODEL_TYPE: str
    """`model_type` in `config.json`."""
    architecture: str
    """Name of the published class."""
    transformer: Callable[[ConfigReader], TransformerConfig]
    """Function that converts a published configuration to that of the stacks."""
    published: Callable[[TransformerConfig], dict[str, Any]]
    """Function that converts a configuration of the stacks to published keys."""
    table: Callable[[TransformerConfig], Table]
    """Function that returns the names in the file of the stacks' parameters."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the published class for missing keys."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Options for which only one value is supported: any other value is refused."""
    refused: Mapping[str, Any] = field(default_factory=dict)
    """Values of old options that nothing computes any more: refused, and not written."""
    ignored_keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of this family that change no answer -> the reason."""
    other_architectures: tuple[str, ...] = ()
    """Other names of the published class."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names that the published class has for a key -> that key."""
    prefix: str = ""
    """Prefix of the names of a stack's tensors, except in files of a bare model: one whose output
    has no bias."""
    tensor_aliases: Mapping[str, str] = field(default_factory=dict)
    """Tensors that repeat another where files store both -> that other one."""
    ignored_tensors: tuple[str, ...] = ()
    """Tensors that files may hold and the model does not compute with."""
    position_tables: tuple[str, ...] = ()
    """Tensors of computed positions that the published class expects in a file."""
    untied_output: tuple[str, str] | None = None
    """Tensor of an untied output, and the tensor that it would repeat if tied: the output is untied
    where the file has the first and they differ, whatever `tie_word_embeddings` says."""
    suppressed_ids_by_pad: Callable[[int], tuple[int, ...]] = lambda pad_id: ()
    """Function from the padding id to the token ids that are never generated."""

    def read_config(self, published: Mapping[str, Any]) -> Seq2SeqConfig:
        """Convert a published configuration.

        Raises:
            EncodaxError: a key is missing, or has a value that Encodax does not support.
        """
        try:
            return self._read(published)
        except EncodaxError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"config.json: not a configuration of {self.MODEL_TYPE}: {error}"
            raise EncodaxError(message) from error

    def _read(self, values: Mapping[str, Any]) -> Seq2SeqConfig:
        for key, value in self.refused.items():
            if values.get(key) == value:
                raise EncodaxError(f"config.json: {key} = {value!r} is not supported")
        values = with_aliases_resolved(values, self.aliases)
        published = ConfigReader(values, {**COMMON_DEFAULTS, **self.defaults})
        check_fixed(published, {key: (value,) for key, value in self.fixed.items()})
        check_fixed(published, ignored_keys.FIXED_OF_SEQ2SEQ)
        check_dtype(published)
        known = (self.architecture, *self.other_architectures)
        for named in architectures_of(published):
            if named not in known:
                raise EncodaxError(
                    f"config.json: the architecture {named!r} is not supported; "
                    f"known: {', '.join(known)}"
                )
        pad_id = published.integer("pad_token_id")
        return Seq2SeqConfig(
            self.transformer(published),
            decoder_start_id=published.integer("decoder_start_token_id"),
            eos_id=_end_id(published),
            pad_id=pad_id,
            suppressed_ids=_never_ids(values, self.suppressed_ids_by_pad(pad_id)),
            forced_bos_id=_first_id(values),
            family=self.MODEL_TYPE,
        )

    def account(self, settings: Settings) -> FileKeys:
        """Account for the keys of a configuration, once `read_config` has read it.

        Raises:
            EncodaxError: a key is unknown and may change the answers.
        """
        return ignored_keys.account(
            settings,
            ignored_keys={**ignored_keys.ANY, **self.ignored_keys},
            of_family={*COMMON_DEFAULTS, *self.defaults},
        )

    def write_config(self, config: Seq2SeqConfig) -> dict[str, Any]:
        """Convert a configuration to the published keys, as closely as the family can."""
        never = config.suppressed_ids
        return {
            "model_type": self.MODEL_TYPE,
            "architectures": [self.architecture],
            "is_encoder_decoder": True,
            **self.fixed,
            **self.published(config.transformer),
            "decoder_start_token_id": config.decoder_start_id,
            "eos_token_id": config.eos_id,
            "pad_token_id": config.pad_id,
            **({} if config.forced_bos_id is None else {FORCED_BOS: config.forced_bos_id}),
            **(
                {BAD_WORDS: [[i] for i in never]}
                if never != self.suppressed_ids_by_pad(config.pad_id)
                else {}
            ),
        }

    def tensor(self, config: Seq2SeqConfig, path: str, leaf: str) -> Tensor:
        """Return the tensor of a parameter in the weights file."""
        return look_up(self.table(config.transformer), path, leaf)

    def canonical(self, stored: str) -> str:
        """Return the name with its prefix."""
        is_bare = stored.startswith(("shared.", "encoder.", "decoder."))
        return self.prefix + stored if is_bare else stored

    def stored_name(self, config: Seq2SeqConfig, name: str) -> str:
        """Return the name as files of such a model have it."""
        return name if config.transformer.output_bias else name.removeprefix(self.prefix)

    def is_ignored(self, config: Seq2SeqConfig, name: str) -> bool:
        """Return True if such a model's file may hold this tensor in addition to its own."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored_tensors)


def _end_id(published: ConfigReader) -> int:
    """Return the id of the token that ends a training target: the first of a list."""
    value = published["eos_token_id"]
    if isinstance(value, list) and value:
        return ConfigReader({"eos_token_id": value[0]}, {}).integer("eos_token_id")
    return published.integer("eos_token_id")


def _first_id(values: Mapping[str, Any]) -> int | None:
    if values.get(FORCED_BOS) is not None:
        return ConfigReader(values, {}).integer(FORCED_BOS)
    if values.get(OLD_FIRST) is True:
        if values.get("bos_token_id", 0) is None:
            raise EncodaxError(f"config.json: {OLD_FIRST} = true needs a bos_token_id")
        return ConfigReader(values, {"bos_token_id": 0}).integer("bos_token_id")
    return None


def _never_ids(values: Mapping[str, Any], otherwise: tuple[int, ...]) -> tuple[int, ...]:
    words = values.get(BAD_WORDS)
    if words is None:
        return otherwise
    if not isinstance(words, list) or not all(isinstance(word, list) for word in words):
        raise EncodaxError(
            f"config.json: {BAD_WORDS} = {words!r} is not a list of lists of token ids"
        )
    return tuple(
        ConfigReader({BAD_WORDS: word[0]}, {}).integer(BAD_WORDS)
        for word in words
        if len(word) == 1
    )


def stack_under(side: str, place: str, modules: Mapping[str, tuple[str, Leaves]]) -> Table:
    """Return the names in the file of the layers of one stack.

    Args:
        side: `encoder` or `decoder`.
        place: name of a layer in the file, `{}` for its number.
        modules: path in a layer -> (name in the file's layer, its leaves).
    """
    return {
        f"{side}/layer_{{}}/{path}": (f"{place}.{name}", leaves)
        for path, (name, leaves) in modules.items()
    }
