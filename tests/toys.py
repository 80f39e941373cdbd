"""Toy data that a tiny encoder learns in a few steps, and runs over them, each made once."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from blocks import drawn

import encodax
from encodax import Model, Seq2SeqModel
from encodax.config import Placement, Seq2SeqConfig
from encodax.models.seq2seq_model import parameter_shapes
from encodax.options.presets import TransformerSize, transformer_config
from encodax.text.tokenizer import Kind, Tokenizer
from encodax.training import TrainResult
from encodax.types.batches import Params

PHRASES = (
    "{0}", "{0} thing", "{0}, thing", "a {0} thing", "{0} thing number 0", "one {0} text",
    "{0} {0} {0}", "the text was {0} and long",
)  # fmt: skip
SENTIMENT = [
    {"text": phrase.format(word), "label": label}
    for phrase in PHRASES
    for word, label in (("good", "yes"), ("bad", "no"))
]
PAIRS = [
    {"text": f"what of {index}?", "text_pair": f"{word} thing", "label": label}
    for index in range(8)
    for word, label in (("good", "yes"), ("bad", "no"))
]
DAYS = [
    {
        "text": f"on {day} {who} met",
        "spans": [
            {"start": 3, "end": 3 + len(day), "label": "day"},
            {"start": 4 + len(day), "end": 4 + len(day) + len(who), "label": "who"},
        ],
    }
    for day in ("Monday", "Friday", "Sunday")
    for who in ("we", "they", "all")
]
TRAITS = [
    {"text": text.format(" ".join(labels)), "labels": list(labels)}
    for text in ("a {} film", "the film was {}", "one {} text number 0")
    for labels in ((), ("funny",), ("short",), ("funny", "short"))
]
STARS = [
    {"text": phrase.format(word), "score": stars}
    for phrase in PHRASES[:4]
    for stars, word in enumerate(("awful", "dull", "fair", "good", "superb"), 1)
]
MATCHES = [
    {"query": f"what is {asked}?", "text": f"the {thing} is {told}", "label": int(asked == told)}
    for asked in ("red", "green", "blue")
    for thing, told in (("apple", "red"), ("leaf", "green"), ("sea", "blue"))
]
REVERSALS = [
    {"source": word, "target": word[::-1].upper()}
    for count in (1, 2, 3)
    for word in map("".join, itertools.product("abcd", repeat=count))
]

SHAPE: dict[str, Any] = {
    "layers": 1,
    "width": 16,
    "heads": 2,
    "ffn": 32,
    "max_positions": 32,
    "dropout_rate": 0.0,
}
"""The smallest new model."""
QUICK: dict[str, Any] = {"batch_size": 6, "learning_rate": 1e-2}


@functools.cache
def classifier() -> TrainResult:
    """A classifier of `SENTIMENT`."""
    return encodax.train(
        "classification", train=SENTIMENT, eval=SENTIMENT, steps=30, **SHAPE, **QUICK
    )


@functools.cache
def pair_classifier() -> TrainResult:
    """A classifier of `PAIRS`, over bytes."""
    choices = {"tokenizer": "bpe", "steps": 40, **SHAPE, **QUICK}
    return encodax.train("classification", train=PAIRS, eval=PAIRS, **choices)


@functools.cache
def tagger() -> TrainResult:
    """A token classifier of `DAYS`, over characters."""
    choices = {
        "tokenizer": "char",
        "steps": 80,
        **SHAPE,
        "batch_tokens": 256,
        "learning_rate": 1e-2,
    }
    return encodax.train("token-classification", train=DAYS, eval=DAYS, **choices)


@functools.cache
def labeller() -> TrainResult:
    """A classifier of `TRAITS`, any of which a text may have."""
    return encodax.train("multi-label", train=TRAITS, eval=TRAITS, steps=90, **SHAPE, **QUICK)


@functools.cache
def scorer() -> TrainResult:
    """A regression of `STARS`."""
    return encodax.train("regression", train=STARS, eval=STARS, steps=80, **SHAPE, **QUICK)


@functools.cache
def ranker() -> TrainResult:
    """A cross-encoder of `MATCHES`."""
    choices = {**SHAPE, "width": 32, "ffn": 64, **QUICK, "batch_size": len(MATCHES), "steps": 60}
    return encodax.train("reranking", train=MATCHES, eval=MATCHES, **choices)


@functools.cache
def reverser() -> TrainResult:
    """A sequence-to-sequence model of `REVERSALS`, over characters."""
    shape = {"layers": 1, "width": 32, "heads": 2, "ffn": 64, "max_positions": 32}
    rates = {"dropout_rate": 0.0, "label_smoothing": 0.0, "learning_rate": 1e-2, "warmup": 0.2}
    batches = {"batch_tokens": 512, "steps": 100, "evaluate_every": 100}
    choices = {"tokenizer": "char", **shape, **rates, **batches}
    return encodax.train("translation", train=REVERSALS, eval=REVERSALS, **choices)


def with_end(score: float) -> Seq2SeqModel:
    """`reverser()`, but that it ends at once, or never, as this is the score of ending."""
    model = reverser().model
    assert isinstance(model, Seq2SeqModel)
    bias = model.params["output"]["b"].at[model.config.eos_id].set(score)
    return dataclasses.replace(model, params={**model.params, "output": {"b": bias}})


@functools.cache
def writer(placement: Placement = "post", kind: Kind = "char") -> Seq2SeqModel:
    """A sequence-to-sequence model of two layers that has learned nothing, as `drawn` has it."""
    texts = [record[side] for record in REVERSALS for side in ("source", "target")]
    tokenizer = Tokenizer.train(texts, kind, begins=False)
    assert tokenizer.eos_id is not None
    config = Seq2SeqConfig(
        transformer_config(
            TransformerSize(2, 16, 2, 24, dropout_rate=0.1),
            tokenizer.vocabulary_size,
            placement=placement,
            positions="sinusoidal_halves",
            max_positions=32,
            output_bias=True,
        ),
        decoder_start_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        suppressed_ids=(tokenizer.pad_id,),
    )
    return Seq2SeqModel(config, drawn(parameter_shapes(config)), tokenizer)


def contextless(model: Model, positions: int) -> Model:
    """The same model, but that a token's scores depend on it alone, and it takes so many tokens."""
    embeddings = dataclasses.replace(model.config.encoder.embeddings, max_positions=positions)
    encoder = dataclasses.replace(model.config.encoder, embeddings=embeddings)
    table = {"w": np.zeros((positions, embeddings.width), np.float32)}
    nothing = {
        path: jax.tree.map(np.zeros_like, own)
        for path, own in model.params.items()
        if path.endswith("attention/output")
    }
    params = {**model.params, **nothing, "encoder/embeddings/position": table}
    config = dataclasses.replace(model.config, encoder=encoder)
    return dataclasses.replace(model, config=config, params=params)


def spans_of(record: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(span["start"], span["end"], span["label"]) for span in record["spans"]]


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def same(first: Params, second: Params) -> bool:
    """Whether two parameter trees are equal, bit by bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """What a directory holds: the bytes of each file, and None for a folder."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }
