"""Published model families: conversion of their configurations and tensors.

A family is a value of `PublishedFamily`, or of `Seq2SeqFamily` where there is a decoder; to add
one, add a file here and a line to `ENCODERS` or `SEQ2SEQ`. No family has layers of its
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
from encodax.families.registry import Registry
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


ENCODERS: Registry[Family, ModelConfig] = Registry(
    (
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
    ),
    native,
    lambda config: replace(config, max_length=None, usage=InferenceConfig()),
)
"""Families of encoders."""
SEQ2SEQ: Registry[FamilyOfSeq2Seq, Seq2SeqConfig] = Registry(
    (marian.FAMILY, bart.FAMILY, mbart.FAMILY, pegasus.FAMILY, t5.FAMILY, t5.MT5),
    native_seq2seq,
    lambda config: replace(config, max_length=None),
)
"""Families of sequence-to-sequence models."""


def family_named(model_type: object, architectures: object = None) -> Family:
    """Return the family of encoders with this `model_type`.

    Args:
        model_type: `model_type` of `config.json`.
        architectures: `architectures` of `config.json`, for error messages.

    Raises:
        EncodaxError: it is unknown, or a family of sequence-to-sequence models.
    """
    if other := SEQ2SEQ.get(model_type):
        _check_whole(other, architectures)
        raise EncodaxError(
            f"model_type {model_type!r} is a sequence-to-sequence model: use `encodax translate` "
            "(encodax.Translator), or read it with encodax.Seq2SeqModel.load"
        )
    family = ENCODERS.get(model_type)
    if family is None:
        known = ", ".join(ENCODERS.by_name)
        raise EncodaxError(
            f"model_type {model_type!r} is not supported; supported: {known}; code that comes with "
            "a model is not run"
        )
    return family


def _check_whole(family: FamilyOfSeq2Seq, architectures: object) -> None:
    """Refuse parts of a sequence-to-sequence model, or one with a head, like T5EncoderModel."""
    known = getattr(family, "architecture", None), *getattr(family, "other_architectures", ())
    named = architectures if isinstance(architectures, list) else []
    for name in named:
        if isinstance(name, str) and known[0] is not None and name not in known:
            encoders = ", ".join(ENCODERS.by_name)
            raise EncodaxError(
                f"config.json: the architecture {name!r} is not supported: of model_type "
                f"{family.MODEL_TYPE!r} only whole models that generate are supported "
                f"({', '.join(known)}); for `encodax predict` and `encodax embed` choose a model "
                f"of: {encoders}"
            )


def seq2seq_family_named(model_type: object, architectures: object = None) -> FamilyOfSeq2Seq:
    """Return the family of sequence-to-sequence models with this `model_type`.

    Args:
        model_type: `model_type` of `config.json`.
        architectures: `architectures` of `config.json`, for error messages.

    Raises:
        EncodaxError: it is unknown or of encoders; or the architecture is not a whole model.
    """
    family = SEQ2SEQ.get(model_type)
    if family is not None:
        _check_whole(family, architectures)
        return family
    if ENCODERS.get(model_type) is not None:
        raise EncodaxError(
            f"model_type {model_type!r} is an encoder, which writes no text: use `encodax predict` "
            "or `encodax embed`, or read it with encodax.Model.load"
        )
    known = ", ".join(SEQ2SEQ.by_name)
    raise EncodaxError(
        f"model_type {model_type!r} is not supported; sequence-to-sequence models that are "
        f"supported: {known}"
    )
