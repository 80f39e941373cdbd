"""Parts shared by published families: reading and writing `config.json`, and naming tensors.

A family is a `PublishedFamily`: key names, options, tables. `BaseSpec` holds the fields that nearly
all published configurations have, under one name or another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from encodax.config import (
    EncoderConfig,
    HeadConfig,
    HeadKind,
    ModelConfig,
    Problem,
)
from encodax.errors import EncodaxError
from encodax.families import ignored_keys
from encodax.families.config_reader import (
    COMMON_DEFAULTS,
    PROBLEMS,
    ConfigReader,
    Names,
    architectures_of,
    check_dtype,
    check_fixed,
    published_name,
    with_aliases_resolved,
)
from encodax.families.labels import count_of_labels, labels_of
from encodax.families.spec import KEYS, BaseSpec, shape_of
from encodax.families.tensors import Table, Tensor, look_up
from encodax.storage.json_files import FileKeys, Settings


def output_width(kind: HeadKind, classes: int, shape: BaseSpec) -> int:
    """Return the number of scores of a head: `classes`, or the fixed number of its kind."""
    return {"span": 2, "vocabulary": shape.vocabulary_size}.get(kind, classes)


def plain_head(kind: HeadKind, classes: int, shape: BaseSpec, dropout_rate: float) -> HeadConfig:
    """Return BERT's heads, which most families have.

    A sequence's first token goes through a dense layer and tanh; a token has only an output layer;
    the vocabulary head has a dense layer, an activation and a norm, and is tied.
    """
    if kind == "sequence":
        return HeadConfig(kind, classes, "cls", dense_width=shape.width, dropout_rate=dropout_rate)
    if kind == "vocabulary":
        return HeadConfig(
            kind,
            classes,
            dense_width=shape.width,
            activation=shape.activation,
            norm=shape.norm,
            tied=True,
        )
    return HeadConfig(kind, classes, dropout_rate=0.0 if kind == "span" else dropout_rate)


def dropout_of_head(key: str, config: ModelConfig) -> dict[str, Any]:
    """Return the dropout of a sequence or token head under its published key."""
    head = config.head
    return {key: head.dropout_rate} if head and head.kind in ("sequence", "token") else {}


@dataclass(frozen=True)
class PublishedFamily:
    """Published family: conversion of its `config.json` and its tensors; it has no layers."""

    MODEL_TYPE: str
    """`model_type` in `config.json`."""
    prefix: str
    """Prefix of the encoder's tensors in a file of a model with a head."""
    classes: Mapping[HeadKind | None, str]
    """Kind of head -> the published class; None for the bare encoder."""
    encoder: Callable[[BaseSpec, ConfigReader], EncoderConfig]
    """Function that returns the encoder from the shape and the configuration."""
    head: Callable[[HeadKind, int, BaseSpec, ConfigReader], HeadConfig]
    """Function that returns a head of a kind."""
    tables: Mapping[str, Table]
    """Names in the file of the parameters of the `encoder`, and of each kind of head."""
    options: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    """Function that returns published keys that `BaseSpec` lacks or expresses differently."""
    keys: Names = field(default_factory=lambda: KEYS)
    """Field of `BaseSpec` -> published key."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the published class for missing keys."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Options for which only one value is supported: any other value is refused."""
    ignored_keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of this family that change no answer -> the reason."""
    other_architectures: Mapping[str, HeadKind | None] = field(default_factory=dict)
    """Published classes with more than one head -> the kind of head that is read."""
    ignored_tensors: tuple[str, ...] = ()
    """Tensors that published files hold and the model does not compute with; kept as they are."""
    tensor_aliases: Names = field(default_factory=dict)
    """Tensors that repeat another where files store both -> that other one."""
    renames: tuple[tuple[str, str], ...] = ()
    """Other names in files, as regular expressions -> the names of `tables`."""
    translate: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda published: published
    """Function that converts an older configuration to the present keys."""
    aliases: Names = field(default_factory=dict)
    """Other names that the published class has for a key -> that key."""

    def read_config(
        self, published: Mapping[str, Any], *, encoder_only: bool = False
    ) -> ModelConfig:
        """Convert a published configuration.

        Args:
            published: the configuration.
            encoder_only: drop the head, whatever it is.

        Raises:
            EncodaxError: a key is missing, or has a value that Encodax does not support.
        """
        try:
            named = with_aliases_resolved(self.translate(published), self.aliases)
            return self._read(named, encoder_only=encoder_only)
        except EncodaxError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"config.json: not a configuration of {self.MODEL_TYPE}: {error}"
            raise EncodaxError(message) from error

    def _read(self, values: Mapping[str, Any], *, encoder_only: bool) -> ModelConfig:
        published = ConfigReader(values, {**COMMON_DEFAULTS, **self.defaults})
        check_fixed(published, {key: (value,) for key, value in self.fixed.items()})
        check_fixed(published, ignored_keys.FIXED_OF_ENCODERS)
        check_dtype(published)
        shape = published.shape(self.keys)
        kind = None if encoder_only else self._kind(published)
        labels = labels_of(values) if kind in ("sequence", "token") else ()
        if kind == "span" and (count := count_of_labels(values)) != 2:
            raise EncodaxError(
                "config.json: a span has 2 scores, for its start and its end, and id2label or "
                f"num_labels says {count}"
            )
        head = self._head(kind, labels, shape, published) if kind else None
        return ModelConfig(
            self.encoder(shape, published), head, labels, shape.pad_id, family=self.MODEL_TYPE
        )

    def account(self, settings: Settings) -> FileKeys:
        """Account for the keys of a configuration, once `read_config` has read it.

        Raises:
            EncodaxError: a key is unknown and may change the answers.
        """
        of_family = {
            *COMMON_DEFAULTS,
            *self.defaults,
            *self.keys.values(),
            "id2label",
            "num_labels",
        }
        return ignored_keys.account(
            settings,
            ignored_keys={**ignored_keys.ENCODERS, **self.ignored_keys},
            of_family=of_family,
        )

    def _kind(self, published: ConfigReader) -> HeadKind | None:
        named = architectures_of(published)
        kinds = {name: kind for kind, name in self.classes.items()} | dict(self.other_architectures)
        if unknown := [name for name in named if name not in kinds]:
            raise EncodaxError(
                f"config.json: the architecture {unknown[0]!r} is not supported; known: "
                f"{', '.join(kinds)}; to load only its encoder: `encodax embed`, or "
                "encodax.load(..., encoder_only=True)"
            )
        found = list(dict.fromkeys(kinds[name] for name in named))
        if len(found) > 1:
            raise EncodaxError(
                f"config.json: the architectures {', '.join(named)} are more than one kind of "
                "model: keep the one that fits the weights; to load only the encoder: `encodax "
                "embed`, or encodax.load(..., encoder_only=True)"
            )
        return found[0] if found else None

    def _head(
        self, kind: HeadKind, labels: tuple[str, ...], shape: BaseSpec, published: ConfigReader
    ) -> HeadConfig:
        head = self.head(kind, output_width(kind, len(labels), shape), shape, published)
        if head.tied and not published.flag("tie_word_embeddings"):
            head = replace(head, tied=False)
        if kind == "sequence":
            usual: Problem = "regression" if head.classes == 1 else "single_label"
            named = published["problem_type"]
            head = replace(
                head, problem=usual if named is None else published.one_of("problem_type", PROBLEMS)
            )
        return head

    def has(self, kind: HeadKind | None) -> bool:
        """Return True if the family has a class with such a head."""
        return kind in self.classes

    def new_head(self, config: ModelConfig, kind: HeadKind, classes: int) -> HeadConfig:
        """Return the head that this family has by default on such an encoder."""
        bare = self.write_config(replace(config, head=None, labels=()))
        published = ConfigReader(bare, {**COMMON_DEFAULTS, **self.defaults})
        shape = shape_of(config)
        return self.head(kind, output_width(kind, classes, shape), shape, published)

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """Convert a configuration to the published keys, as closely as the family can.

        Raises:
            EncodaxError: the family has no such head or activation.
        """
        shape, head = shape_of(config), config.head
        kind = head.kind if head else None
        if not self.has(kind):
            raise EncodaxError(f"{self.MODEL_TYPE} has no head of the kind {kind}")
        published = {key: getattr(shape, name) for name, key in self.keys.items()}
        if (key := self.keys.get("activation")) is not None:
            published[key] = published_name(shape.activation)
        labels = {str(index): label for index, label in enumerate(config.labels)}
        by_name = {problem: name for name, problem in PROBLEMS.items()}
        return {
            "model_type": self.MODEL_TYPE,
            "architectures": [self.classes[kind]],
            **published,
            **({"id2label": labels} if labels else {}),
            **({"label2id": {label: int(i) for i, label in labels.items()}} if labels else {}),
            **({"problem_type": by_name[head.problem]} if head and kind == "sequence" else {}),
            **({"tie_word_embeddings": head.tied} if head and kind == "vocabulary" else {}),
            **self.fixed,
            **self.options(config),
        }

    def tensor(self, config: ModelConfig, path: str, leaf: str) -> Tensor:
        """Return the tensor of a parameter in the weights file, with the family's prefix."""
        table = "encoder" if path.startswith("encoder/") or not config.head else config.head.kind
        return look_up(self.tables[table], path, leaf)

    def canonical(self, stored: str) -> str:
        """Return a tensor's name as in `tables`: old names replaced, and the prefix added."""
        name = re.sub(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight", stored)
        name = re.sub(r"(LayerNorm|layer_norm)\.beta$", r"\1.bias", name)
        for old, new in self.renames:
            name = re.sub(old, new, name)
        if name.startswith(self.prefix) or any(re.match(own, name) for own in self._of_heads):
            return name
        return self.prefix + name

    def stored_name(self, config: ModelConfig, name: str) -> str:
        """Return a name of `tables` as in this model's file: a bare encoder has no prefix there."""
        return name if config.head else name.removeprefix(self.prefix)

    @functools.cached_property
    def _of_heads(self) -> tuple[str, ...]:
        """Expressions for tensors without the prefix, because they belong to heads."""
        modules = {name for table in self.tables.values() for name, _ in table.values()}
        modules |= {
            tensor.name.removeprefix("=")
            for table in self.tables.values()
            for _, leaves in table.values()
            for tensor in leaves.values()
            if tensor.name.startswith("=")
        }
        prefix = re.escape(self.prefix)
        found = [re.escape(name) for name in modules] + list(self.ignored_tensors)
        return tuple(own for own in found if not own.startswith(prefix))

    def is_ignored(self, config: ModelConfig, name: str) -> bool:
        """Return True if such a model's file may hold this tensor in addition to its own.

        With a bare encoder, from which embedders are made, that may be any head of the family.
        """
        of_head = config.head is None and any(re.match(own, name) for own in self._of_heads)
        return of_head or any(re.fullmatch(pattern, name) for pattern in self.ignored_tensors)
