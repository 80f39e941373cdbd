"""Published model families: conversion of their configurations and tensors.

A family is a value of `PublishedFamily`, or of `Seq2SeqFamily` where there is a decoder; to add
one, add a file here and a line to `FAMILIES` or `SEQ2SEQ_FAMILIES`. No family has layers of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from encodax.config import HeadConfig, HeadKind, InferenceConfig, ModelConfig, Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.families import (
    albert,
    bart,
    bert,
    deberta_v2,
    distilbert,
    electra,
    esm,
    marian,
    mbart,
    modernbert,
    mpnet,
    native,
    native_seq2seq,
    nomic_bert,
    pegasus,
    roberta,
    t5,
)
from encodax.families.tensors import TensorNames
from encodax.storage.json_files import FileKeys, Settings


@runtime_checkable
class Family(TensorNames, Protocol):
    """Interface of a family of encoders."""

    @property
    def MODEL_TYPE(self) -> str:
        """`model_type` in `config.json`."""

    def read_config(
        self, published: Mapping[str, Any], *, encoder_only: bool = False
    ) -> ModelConfig:
        """Convert a published configuration; refuse what Encodax would compute differently.

        With `encoder_only`, convert only the encoder, whatever head the model has.
        """

    def account(self, settings: Settings) -> FileKeys:
        """Account for the keys of a configuration that has been read; refuse unknown ones."""

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """Convert a configuration to the published keys, as closely as the family can."""

    def has(self, kind: HeadKind | None) -> bool:
        """Return True if the family has a head of this kind; None is the bare encoder."""

    def new_head(self, config: ModelConfig, kind: HeadKind, classes: int) -> HeadConfig:
        """Return the head of this kind that the family puts on such an encoder."""


@runtime_checkable
class FamilyOfSeq2Seq(TensorNames, Protocol):
    """Interface of a family of sequence-to-sequence models."""

    @property
    def MODEL_TYPE(self) -> str:
        """`model_type` in `config.json`."""

    def read_config(self, published: Mapping[str, Any]) -> Seq2SeqConfig:
        """Convert a published configuration; refuse what Encodax would compute differently."""

    def account(self, settings: Settings) -> FileKeys:
        """Account for the keys of a configuration that has been read; refuse unknown ones."""

    def write_config(self, config: Seq2SeqConfig) -> dict[str, Any]:
        """Convert a configuration to the published keys, as closely as the family can."""


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
"""Families of encoders by `model_type`."""
_ALL_SEQ2SEQ: tuple[FamilyOfSeq2Seq, ...] = (
    marian.FAMILY,
    bart.FAMILY,
    mbart.FAMILY,
    pegasus.FAMILY,
    t5.FAMILY,
    t5.MT5,
    native_seq2seq,
)
SEQ2SEQ_FAMILIES = {family.MODEL_TYPE: family for family in _ALL_SEQ2SEQ}
"""Families of sequence-to-sequence models by `model_type`."""


def family_named(model_type: object, architectures: object = None) -> Family:
    """Return the family of encoders with this `model_type`.

    Args:
        model_type: `model_type` of `config.json`.
        architectures: `architectures` of `config.json`, for error messages.

    Raises:
        EncodaxError: it is unknown, or a family of sequence-to-sequence models.
    """
    if isinstance(model_type, str) and model_type in SEQ2SEQ_FAMILIES:
        _check_whole(model_type, architectures)
        raise EncodaxError(
            f"model_type {model_type!r} is a sequence-to-sequence model: use `encodax translate` "
            "(encodax.Translator), or read it with encodax.Seq2SeqModel.load"
        )
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise EncodaxError(
            f"model_type {model_type!r} is not supported; supported: {known}; code that comes with "
            "a model is not run"
        )
    return FAMILIES[model_type]


def family_for(config: ModelConfig) -> Family:
    """Return the family that can hold this configuration exactly; `native` where none can.

    The family it was read from is tried first.
    """
    first = [FAMILIES[config.family]] if config.family in FAMILIES else []
    for family in [*first, *FAMILIES.values()]:
        if family.MODEL_TYPE != native.MODEL_TYPE and _round_trips(family, config):
            return family
    return native


def _check_whole(model_type: str, architectures: object) -> None:
    """Refuse parts of a sequence-to-sequence model, or one with a head, like T5EncoderModel."""
    family = SEQ2SEQ_FAMILIES[model_type]
    known = getattr(family, "architecture", None), *getattr(family, "other_architectures", ())
    named = architectures if isinstance(architectures, list) else []
    for name in named:
        if isinstance(name, str) and known[0] is not None and name not in known:
            encoders = ", ".join(FAMILIES)
            raise EncodaxError(
                f"config.json: the architecture {name!r} is not supported: of model_type "
                f"{model_type!r} whole models that generate are read ({', '.join(known)}); for "
                f"`encodax predict` and `encodax embed` choose a model of: {encoders}"
            )


def seq2seq_family_named(model_type: object, architectures: object = None) -> FamilyOfSeq2Seq:
    """Return the family of sequence-to-sequence models with this `model_type`.

    Args:
        model_type: `model_type` of `config.json`.
        architectures: `architectures` of `config.json`, for error messages.

    Raises:
        EncodaxError: it is unknown or of encoders; or the architecture is not a whole model.
    """
    if isinstance(model_type, str) and model_type in SEQ2SEQ_FAMILIES:
        _check_whole(model_type, architectures)
    if isinstance(model_type, str) and model_type in FAMILIES:
        raise EncodaxError(
            f"model_type {model_type!r} is an encoder, which writes no text: use `encodax predict` "
            "or `encodax embed`, or read it with encodax.Model.load"
        )
    if not isinstance(model_type, str) or model_type not in SEQ2SEQ_FAMILIES:
        known = ", ".join(SEQ2SEQ_FAMILIES)
        raise EncodaxError(
            f"model_type {model_type!r} is not supported; sequence-to-sequence models that are "
            f"supported: {known}"
        )
    return SEQ2SEQ_FAMILIES[model_type]


def seq2seq_family_for(config: Seq2SeqConfig) -> FamilyOfSeq2Seq:
    """Return the family that can hold this configuration exactly; the native one if none can.

    The family it was read from is tried first.
    """
    first = [SEQ2SEQ_FAMILIES[config.family]] if config.family in SEQ2SEQ_FAMILIES else []
    for family in [*first, *SEQ2SEQ_FAMILIES.values()]:
        if family.MODEL_TYPE == native_seq2seq.MODEL_TYPE:
            continue
        try:
            read = family.read_config(family.write_config(config))
        except EncodaxError:
            continue
        if read == replace(config, family=family.MODEL_TYPE, max_length=None):
            return family
    return native_seq2seq


def _round_trips(family: Family, config: ModelConfig) -> bool:
    try:
        read = family.read_config(family.write_config(config))
    except EncodaxError:
        return False
    return read == replace(
        config, family=family.MODEL_TYPE, max_length=None, usage=InferenceConfig()
    )
