"""Parts shared by published families: reading and writing `config.json`, and naming tensors.

A family is a `PublishedFamily`: key names, options, tables. `BaseSpec` holds the fields that nearly
all published configurations have, under one name or another.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    HeadKind,
    LayerConfig,
    ModelConfig,
    NormConfig,
    Problem,
    RotaryConfig,
)
from encodax.errors import EncodaxError
from encodax.families import harmless
from encodax.families.tensors import Table, Tensor, look_up
from encodax.storage.json_files import FileKeys, Settings, shown

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

KEYS = {
    "vocabulary_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner_width": "intermediate_size",
    "activation": "hidden_act",
    "max_positions": "max_position_embeddings",
    "type_vocabulary_size": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "pad_id": "pad_token_id",
}
"""Field of `BaseSpec` -> its key in BERT's configuration and most others."""


@dataclass(frozen=True)
class BaseSpec:
    """Fields that the configurations of nearly all families have."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    inner_width: int
    activation: str = "gelu_erf"
    max_positions: int = 512
    type_vocabulary_size: int = 0
    norm_eps: float = 1e-12
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0
    pad_id: int = 0

    @property
    def norm(self) -> NormConfig:
        """Layer norm in the family's usual places."""
        return NormConfig(self.norm_eps)

    def encoder(
        self,
        *,
        embeddings: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        feed_forward: Mapping[str, Any] | None = None,
        layer: Mapping[str, Any] | None = None,
        **stack: Any,
    ) -> EncoderConfig:
        """Return BERT's encoder of this shape, with other values for the given fields of blocks."""
        each = {
            "attention": AttentionConfig(
                self.heads,
                self.width // self.heads,
                dropout_rate=self.attention_dropout_rate,
                **(attention or {}),
            ),
            "feed_forward": FeedForwardConfig(
                self.inner_width, self.activation, **(feed_forward or {})
            ),
            "norm": self.norm,
            "dropout_rate": self.dropout_rate,
        }
        embedded = {
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
            "max_positions": self.max_positions,
            "type_vocabulary_size": self.type_vocabulary_size,
            "norm": self.norm,
            "dropout_rate": self.dropout_rate,
        }
        return EncoderConfig(
            EmbeddingsConfig(**{**embedded, **(embeddings or {})}),
            (LayerConfig(**{**each, **(layer or {})}),) * self.layers,
            **stack,
        )


def shape_of(config: ModelConfig) -> BaseSpec:
    """Return the shape of a model.

    Raises:
        EncodaxError: the model has no layer.
    """
    encoder = config.encoder
    if not encoder.layers:
        raise EncodaxError("a published model has at least one layer")
    embeddings, layer = encoder.embeddings, encoder.layers[-1]
    return BaseSpec(
        vocabulary_size=embeddings.vocabulary_size,
        width=embeddings.model_width,
        layers=len(encoder.layers),
        heads=layer.attention.heads,
        inner_width=layer.feed_forward.width,
        activation=layer.feed_forward.activation,
        max_positions=embeddings.max_positions or 0,
        type_vocabulary_size=embeddings.type_vocabulary_size,
        norm_eps=layer.norm.eps,
        dropout_rate=layer.dropout_rate,
        attention_dropout_rate=layer.attention.dropout_rate,
        pad_id=config.pad_id,
    )


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

    def integer(self, key: str, least: int = 0, most: int = 2**31 - 1) -> int:
        """Return an integer from `least` to `most`: JAX counts in int32."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise EncodaxError(f"config.json: {key} = {value!r} is not a whole number >= {least}")
        if value > most:
            raise EncodaxError(f"config.json: {key} = {value} is more than {most}")
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
            "layers": lambda key: self.integer(key, least=1, most=1_000),
            "norm_eps": self.number,
            "dropout_rate": self.rate,
            "attention_dropout_rate": self.rate,
            "type_vocabulary_size": self.integer,
            "pad_id": lambda key: 0 if self[key] is None else self.integer(key),
        }

        def count(key: str) -> int:
            return self.integer(key, least=1)

        fields = {name: readers.get(name, count)(key) for name, key in keys.items()}
        shape = BaseSpec(**fields)
        if shape.width % shape.heads:
            raise EncodaxError(
                f"config.json: {keys['width']} {shape.width} is not a multiple of "
                f"{keys['heads']} {shape.heads}"
            )
        return shape


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
            f"config.json: rotary positions want heads of even width and a rope_theta above 0, not "
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


def scores_of(kind: HeadKind, classes: int, shape: BaseSpec) -> int:
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


Names = Mapping[str, str]


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
    harmless: Mapping[str, str] = field(default_factory=dict)
    """Keys of this family that change no answer -> the reason."""
    other_classes: Mapping[str, HeadKind | None] = field(default_factory=dict)
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
        check_fixed(published, harmless.FIXED_OF_ENCODERS)
        check_dtype(published)
        shape = published.shape(self.keys)
        kind = None if encoder_only else self._kind(published)
        labels = labels_of(values) if kind in ("sequence", "token") else ()
        if kind == "span" and (count := count_of_labels(values)) != 2:
            raise EncodaxError(
                f"config.json: a span has 2 scores, where it starts and ends, and id2label or "
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
        return harmless.account(
            settings,
            harmless={**harmless.ENCODERS, **self.harmless},
            of_family=of_family,
        )

    def _kind(self, published: ConfigReader) -> HeadKind | None:
        named = architectures_of(published)
        kinds = {name: kind for kind, name in self.classes.items()} | dict(self.other_classes)
        if unknown := [name for name in named if name not in kinds]:
            raise EncodaxError(
                f"config.json: the architecture {unknown[0]!r} is not supported; known: "
                f"{', '.join(kinds)}; its encoder alone is read by `encodax embed`, and with "
                "encodax.load(..., encoder_only=True)"
            )
        found = list(dict.fromkeys(kinds[name] for name in named))
        if len(found) > 1:
            raise EncodaxError(
                f"config.json: the architectures {', '.join(named)} are more than one kind of "
                "model: keep the one that the weights are of; the encoder alone is read by "
                "`encodax embed`, and with encodax.load(..., encoder_only=True)"
            )
        return found[0] if found else None

    def _head(
        self, kind: HeadKind, labels: tuple[str, ...], shape: BaseSpec, published: ConfigReader
    ) -> HeadConfig:
        head = self.head(kind, scores_of(kind, len(labels), shape), shape, published)
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
        return self.head(kind, scores_of(kind, classes, shape), shape, published)

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

    def file_name(self, config: ModelConfig, name: str) -> str:
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


COMMON_DEFAULTS: dict[str, Any] = {
    "architectures": None,
    "dtype": None,
    "problem_type": None,
    "rope_scaling": None,
    "tie_word_embeddings": True,
    "torch_dtype": None,
}
"""Defaults of every published class for missing keys."""


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
            f"config.json: architectures wants a list of names of classes, not {shown(named)}"
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
                "which it is another name of; keep the one that the weights are of"
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
    raise EncodaxError(f"published families have no activation {activation}")


def labels_of(published: Mapping[str, Any], where: str = "config.json") -> tuple[str, ...]:
    """Return the names of the classes, in order.

    Published configurations leave out the names of two classes, their default.

    Args:
        published: configuration with `id2label`, or `num_labels`, or neither.
        where: the file, for error messages.

    Raises:
        EncodaxError: numbers are not 0, 1, ...; a name is missing, not text, or repeated; or
            `label2id` contradicts `id2label`.
    """
    names = published.get("id2label")
    if names is None:
        count = published.get("num_labels", 2)
        if not isinstance(count, int) or not 0 < count < 1_000_000:
            raise EncodaxError(f"{where}: num_labels = {count!r} is not in 1..1000000")
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, Mapping):
        raise EncodaxError(f"{where}: id2label wants an object, not {shown(names)}")
    if published.get("num_labels") not in (None, len(names)):  # which the published class prefers
        raise EncodaxError(
            f"{where}: num_labels = {published['num_labels']!r} contradicts the {len(names)} names "
            "of id2label"
        )
    if {str(number) for number in names} != {str(index) for index in range(len(names))}:
        raise EncodaxError(
            f"{where}: id2label numbers its labels {', '.join(map(str, names))}, and not from 0 "
            "on, one by one"
        )
    labels = [names[number] for number in sorted(names, key=int)]
    places: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise EncodaxError(
                f"{where}: id2label names the class {index} {shown(label)}: give it a name"
            )
        if places.setdefault(label, index) != index:
            raise EncodaxError(
                f"{where}: id2label names two classes {label!r}, {places[label]} and {index}: "
                "give each a name of its own"
            )
    _check_numbers(published.get("label2id"), places, where)
    return tuple(labels)


def count_of_labels(published: Mapping[str, Any]) -> Any:
    """Return the number of classes in a configuration."""
    names = published.get("id2label")
    return len(names) if isinstance(names, Mapping) else published.get("num_labels", 2)


def _check_numbers(numbers: Any, places: Mapping[str, int], where: str) -> None:
    """Refuse a `label2id` that contradicts `id2label`; default names like LABEL_0 are ignored.

    Raises:
        EncodaxError: it is not an object, or has another number for a name.
    """
    if numbers is None:
        return
    if not isinstance(numbers, Mapping):
        raise EncodaxError(f"{where}: label2id wants an object, not {shown(numbers)}")
    for label, number in numbers.items():
        is_default = label not in places and label == f"LABEL_{number}"
        if not is_default and str(places.get(label)) != str(number):
            raise EncodaxError(
                f"{where}: label2id numbers {label!r} {shown(number)}, and id2label "
                f"{places.get(label, 'has no such name')}: keep the one that the model was trained "
                "with"
            )
