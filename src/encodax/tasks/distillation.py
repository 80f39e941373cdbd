"""Distillation: a small model learns the outputs of a large one on unlabelled texts.

The student has the teacher's kind of head: scores of classes (Hinton et al. 2015, arXiv:1503.02531,
section 2), or vectors. If it has the teacher's width, it also learns the hidden states of the
teacher's layers, each from the layer at the same relative depth (Jiao et al. 2020,
arXiv:1909.10351, section 3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.nn import functional, pooling
from encodax.tasks.record_fields import text_of
from encodax.tasks.task import BatchMetrics, Example, LossOptions, Targets, Task
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch


def student_of(teacher: Model, layers: Sequence[int]) -> Model:
    """Return a copy of the teacher with only some of its layers.

    Args:
        teacher: the teacher.
        layers: indices of its layers, from 0, in the order of the student's layers.

    Raises:
        EncodaxError: there is no such layer, or its layers share parameters.
    """
    encoder = teacher.config.encoder
    known = len(encoder.layers)
    if not layers or not all(0 <= layer < known for layer in layers):
        raise EncodaxError(f"layers {list(layers)}: choose from 0..{known - 1}")
    if encoder.parameter_groups is not None:
        raise EncodaxError("the layers of this teacher share parameters: none can be removed")
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
        EncodaxError: their tokens differ, or their outputs cannot be compared.
    """
    own, taught = student.config, teacher.config
    if taught.head is None or taught.head.kind not in ("sequence", "embedding"):
        raise EncodaxError("a teacher needs a head that gives each text scores or a vector")
    if taught.head.problem != "single_label":
        raise EncodaxError(
            f"a teacher whose head is for {taught.head.problem} is not supported; choose one for "
            "single_label"
        )
    if own.head is None or own.head.kind != taught.head.kind:
        raise EncodaxError(f"the student has no {taught.head.kind} head, as the teacher has")
    if own.labels != taught.labels:
        raise EncodaxError("the student and the teacher have different labels")
    if student.tokenizer.vocabulary() != teacher.tokenizer.vocabulary():
        raise EncodaxError("the student and the teacher have different vocabularies")
    widths = [model.vector_width for model in (student, teacher)]
    if own.head.kind == "embedding" and widths[0] != widths[1]:
        raise EncodaxError(
            f"the student's vectors have {widths[0]} features, and the teacher's {widths[1]}"
        )


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"text": ...}`, with `text_pair` for pairs; a label is ignored.

    Raises:
        EncodaxError: there is no text.
    """
    return Example(text_of(record), None, record.where)


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return a placeholder: the real targets are the teacher's outputs (`Targets.teacher`)."""
    return Targets(np.asarray(0, np.int32), np.asarray(1.0, np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the distance of the student's outputs and hidden states from the teacher's.

    For scores s and t with temperature c it is c^2 KL(softmax(t/c) || softmax(s/c)), for vectors 1
    minus their cosine; `hidden_weight` times the mean squared difference of hidden states is added.
    """
    teacher = targets.teacher
    assert teacher is not None
    losses = _answer_loss(output, teacher, loss_options.temperature)  # (B, N)
    if loss_options.hidden_weight and output.hidden.shape == teacher.hidden.shape:
        losses = losses + loss_options.hidden_weight * _hidden_loss(output, teacher, batch)
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
    """Return the mean square over features, tokens of each sequence, and hidden states."""
    own, taught = (each.records.get("hidden") or (each.hidden,) for each in (output, teacher))
    pairs = [
        (state, taught[place])
        for state, place in zip(own, _matching_layers(own, taught), strict=True)
    ]
    squares = [
        jnp.mean(jnp.square(mine.astype(jnp.float32) - yours.astype(jnp.float32)), axis=-1)
        for mine, yours in pairs
    ]
    of_tokens = sum(squares, jnp.zeros(())) / len(pairs)  # (B, T)
    return pooling.mean(of_tokens[..., None], batch)[..., 0]


def _matching_layers(own: Sequence[Array], taught: Sequence[Array]) -> list[int]:
    """Return, for each hidden state of the student, the teacher's at the same relative depth."""
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
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> dict[str, Float[Array, ""]]:
    """Return the quantities that an evaluation sums over batches."""
    assert targets.teacher is not None
    if output.vectors is not None:
        alike = _cosine(output, targets.teacher)  # (B, N)
    else:
        own, taught = (jnp.argmax(_scores(each), axis=-1) for each in (output, targets.teacher))
        alike = (own == taught).astype(jnp.float32)
    total, weight = loss(output, targets, batch, loss_options)
    return {"loss": total, "alike": jnp.sum(alike * targets.weights), "weight": weight}


def summary(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the mean cosine with the teacher's vectors, or the share of equal labels."""
    return {
        "similarity": sums["alike"] / sums["weight"],
        "loss": sums["loss"] / sums["weight"],
    }


def decode(scores: Float[np.ndarray, " C"], encoding: Encoding, labels: tuple[str, ...]) -> Any:
    """Return the scores or the vector unchanged: the head's own task decodes them."""
    return scores


def to_json(answer: Any) -> dict[str, Any]:
    """Return the JSON field `scores`."""
    return {"scores": np.asarray(answer).tolist()}


TASK = Task(
    name="distillation",
    head="embedding",  # one target a sequence; the student's own head is that of the teacher
    metric_names=("similarity",),
    options=frozenset({"temperature", "hidden_weight"}),
    takes_teacher=True,
    recorded_stages=frozenset({"hidden"}),
    parse=parse,
    targets=targets,
    loss=loss,
    batch_metrics=BatchMetrics(sums, summary),
    decode=decode,
    to_json=to_json,
)
