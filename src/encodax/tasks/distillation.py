"""Distillation: a small model learns what a large one says of texts that nobody has labelled.

The student has the teacher's kind of head: scores of classes (Hinton et al. 2015, arXiv:1503.02531,
section 2), or vectors. Where it is as wide as the teacher, it learns the states of the teacher's
layers too, each from the layer at the same share of the depth (Jiao et al. 2020, arXiv:1909.10351,
section 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.config import HeadKind, Problem
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.nn import functional, pooling
from encodax.tasks.task import (
    Example,
    LossOptions,
    Targets,
    encode_whole,
    no_corruption,
    single_answer,
    text_of,
)
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch

NAME = "distillation"
HEAD: HeadKind = "embedding"
"""Of slots, as the targets are; the head itself is as the teacher's."""
FIELDS = ("text", "text_pair")
METRIC = "similarity"
METRICS: tuple[str, ...] = ("similarity",)
PROBLEM: Problem = "single_label"
OPTIONS = frozenset({"temperature", "hidden_weight"})
COMPARES_EXAMPLES = False
RECORDED_STAGES = frozenset({"hidden"})

encode = encode_whole
merge = single_answer
corrupt = no_corruption


def student_of(teacher: Model, layers: Sequence[int]) -> Model:
    """A model of some of the teacher's layers, with their parameters, and all else of it.

    Args:
        teacher: the model.
        layers: which of its layers, from 0, in the order in which they are to stand.

    Raises:
        EncodaxError: there is no such layer, or its layers share parameters.
    """
    encoder = teacher.config.encoder
    known = len(encoder.layers)
    if not layers or not all(0 <= layer < known for layer in layers):
        raise EncodaxError(f"layers {list(layers)}: wants some of 0..{known - 1}")
    if encoder.parameter_groups is not None:
        raise EncodaxError("the layers of this teacher share parameters: none can be taken out")
    params = {}
    for path, leaves in teacher.params.items():
        found = re.match(r"encoder/layer_(\d+)/(.*)", path)
        if found is None:
            params[path] = leaves
            continue
        for place in np.flatnonzero(np.asarray(layers) == int(found[1])):
            params[f"encoder/layer_{place}/{found[2]}"] = leaves
    chosen = replace(encoder, layers=tuple(encoder.layers[layer] for layer in layers))
    return replace(teacher, config=replace(teacher.config, encoder=chosen), params=params)


def check_student(student: Model, teacher: Model) -> None:
    """Refuse a student that cannot learn from this teacher.

    Raises:
        EncodaxError: they read other tokens, or their answers cannot be compared.
    """
    own, taught = student.config, teacher.config
    if taught.head is None or taught.head.kind not in ("sequence", "embedding"):
        raise EncodaxError("a teacher wants a head that gives a text its scores or its vector")
    if taught.head.problem != "single_label":
        raise EncodaxError(f"a teacher with a head of the problem {taught.head.problem} is not one")
    if own.head is None or own.head.kind != taught.head.kind:
        raise EncodaxError(f"the student has no {taught.head.kind} head, as the teacher has")
    if own.labels != taught.labels:
        raise EncodaxError("the student and the teacher have other labels")
    if student.tokenizer.vocabulary() != teacher.tokenizer.vocabulary():
        raise EncodaxError("the student and the teacher have other vocabularies")
    widths = [model.vector_width for model in (student, teacher)]
    if own.head.kind == "embedding" and widths[0] != widths[1]:
        raise EncodaxError(
            f"the student's vectors have {widths[0]} features, and the teacher's {widths[1]}"
        )


def parse(record: Record, *, labelled: bool) -> Example:
    """`{"text": ...}`, with `text_pair` for pairs; a label is not looked at.

    Raises:
        EncodaxError: there is no text.
    """
    return Example(text_of(record), None, record.where)


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """None: the classes are the teacher's."""
    return ()


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """None but a place: what is learned is what the teacher says (`Targets.teacher`)."""
    return Targets(np.asarray(0, np.int32), np.asarray(1.0, np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, objective: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How far the student is from the teacher: of answers, and of states.

    Of scores s and t with temperature c it is c^2 KL(softmax(t/c) || softmax(s/c)), of vectors 1
    minus their cosine; to it comes `hidden_weight` times the mean square of what states differ by.
    """
    teacher = targets.teacher
    assert teacher is not None
    losses = _answer_loss(output, teacher, objective.temperature)  # (B, N)
    if objective.hidden_weight and output.hidden.shape == teacher.hidden.shape:
        losses = losses + objective.hidden_weight * _hidden_loss(output, teacher, batch)
    weights = jnp.asarray(targets.weights)
    return jnp.sum(losses * weights), jnp.sum(weights)


def _answer_loss(
    output: ModelOutput, teacher: ModelOutput, temperature: float
) -> Float[Array, "B N"]:
    if output.vectors is not None:
        return 1 - _cosine(output, teacher)
    own, taught = (_scores(each) / temperature for each in (output, teacher))  # (B, N, C)
    wanted = jax.nn.log_softmax(taught)
    differs = jnp.exp(wanted) * (wanted - jax.nn.log_softmax(own))
    return temperature**2 * jnp.sum(differs, axis=-1)


def _hidden_loss(
    output: ModelOutput, teacher: ModelOutput, batch: PackedBatch
) -> Float[Array, "B N"]:
    """Mean square over features, over the tokens of each sequence, and over the states."""
    own, taught = (each.records.get("hidden") or (each.hidden,) for each in (output, teacher))
    pairs = [(state, taught[place]) for state, place in zip(own, _beside(own, taught), strict=True)]
    squares = [
        jnp.mean(jnp.square(mine.astype(jnp.float32) - yours.astype(jnp.float32)), axis=-1)
        for mine, yours in pairs
    ]
    of_tokens = sum(squares, jnp.zeros(())) / len(pairs)  # (B, T)
    return pooling.mean(of_tokens[..., None], batch)[..., 0]


def _beside(own: Sequence[Array], taught: Sequence[Array]) -> list[int]:
    """For each of the student's states the teacher's at the same share of the depth."""
    share = (len(taught) - 1) / max(1, len(own) - 1)
    return [round(place * share) for place in range(len(own))]


def _cosine(output: ModelOutput, teacher: ModelOutput) -> Float[Array, "B N"]:
    own, taught = (
        functional.unit(each.vectors.astype(jnp.float32))
        for each in (output, teacher)
        if each.vectors is not None
    )
    return jnp.sum(own * taught, axis=-1)


def _scores(output: ModelOutput) -> Float[Array, "B N C"]:
    assert output.logits is not None
    return output.logits.astype(jnp.float32)


def sums(
    output: ModelOutput, targets: Targets, batch: PackedBatch, objective: LossOptions
) -> dict[str, Float[Array, ""]]:
    """What an evaluation adds up over batches."""
    assert targets.teacher is not None
    if output.vectors is not None:
        alike = _cosine(output, targets.teacher)  # (B, N)
    else:
        own, taught = (jnp.argmax(_scores(each), axis=-1) for each in (output, targets.teacher))
        alike = (own == taught).astype(jnp.float32)
    total, weight = loss(output, targets, batch, objective)
    return {"loss": total, "alike": jnp.sum(alike * targets.weights), "weight": weight}


def summary(sums: Mapping[str, float]) -> dict[str, float]:
    """The mean cosine with the teacher's vectors, or how often the label is the teacher's."""
    return {
        "similarity": sums["alike"] / sums["weight"],
        "loss": sums["loss"] / sums["weight"],
    }


def decode(scores: Float[np.ndarray, " C"], encoding: Encoding, labels: tuple[str, ...]) -> Any:
    """The scores or the vector as they are: the task of the head itself answers with them."""
    return scores


def metrics(answers: Iterable[Any], examples: Iterable[Example]) -> dict[str, float]:
    """None: it is measured beside the teacher (`summary`)."""
    return {}


def to_json(answer: Any) -> dict[str, Any]:
    """`scores`."""
    return {"scores": np.asarray(answer).tolist()}
