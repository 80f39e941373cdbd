"""Start of a run: a new model, or a trained one with the task's head."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from encodax.config import HeadConfig, ModelConfig, Seq2SeqConfig
from encodax.families import bert
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.options.training import NewModel
from encodax.tasks.labels import normalised_label, quoted
from encodax.tasks.task import AnyModel, Example, Task
from encodax.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def new_model(
    task: Task,
    examples: Sequence[Example],
    labels: tuple[str, ...],
    shape: NewModel,
    seed: int,
) -> AnyModel:
    """Create a new model, with a tokenizer trained on the examples' texts."""
    tokenizer = Tokenizer.train(
        _Texts(examples),
        shape.tokenizer,
        vocabulary_size=shape.vocabulary_size,
        lowercase=shape.lowercase,
        begins=task.head is not None,
    )
    if task.head is None:
        return new_seq2seq_model(tokenizer, shape, seed)
    config = ModelConfig(
        shape.encoder(tokenizer.vocabulary_size),
        labels=labels,
        pad_id=tokenizer.pad_id,
    )
    if task.head == "embedding":
        head = HeadConfig("embedding", pooling="mean")
    else:
        head = bert.FAMILY.new_head(config, task.head, len(labels))
    config = replace(config, head=replace(head, problem=task.problem))
    return scoring(Model.create(config, tokenizer, seed=seed), task)


class _Texts:
    """Iterable over the texts of examples, any number of times; they are not held in memory."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples

    def __iter__(self) -> Iterator[str]:
        for example in self._examples:
            yield from (*example.parts, *example.others)


def new_seq2seq_model(tokenizer: Tokenizer, shape: NewModel, seed: int) -> Seq2SeqModel:
    """Create a Transformer with one vocabulary for both sides; decoders start with padding.

    This is as in Marian.
    """
    assert tokenizer.eos_id is not None
    config = Seq2SeqConfig(
        shape.transformer(tokenizer.vocabulary_size),
        decoder_start_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        suppressed_ids=(tokenizer.pad_id,),
    )
    return Seq2SeqModel.create(config, tokenizer, seed=seed)


def with_head(model: Model, task: Task, labels: tuple[str, ...], seed: int) -> Model:
    """Return the model itself if its head has these labels, else its encoder with a new head."""
    return scoring(_with_head(model, task, labels, seed), task)


def scoring(model: Model, task: Task) -> Model:
    """Set the activation of the model's scores, here and in sentence-transformers.

    The loss of reranking assumes the sigmoid, and other activations do not change the order; the
    losses of the other tasks are on the scores as they are.
    """
    activation = task.activation_for(model.config.usage.activation)
    if activation == model.config.usage.activation:
        return model
    usage = replace(model.config.usage, activation=activation)
    return replace(model, config=replace(model.config, usage=usage))


def _with_head(model: Model, task: Task, labels: tuple[str, ...], seed: int) -> Model:
    assert task.head is not None
    head, known = model.config.head, model.config.labels
    has_no_labels = task.head in ("embedding", "vocabulary", "span")
    if has_no_labels and head is not None and head.kind == task.head:
        return model
    if task.head == "embedding":
        return model.with_embeddings("mean")
    if head is not None and (head.kind, head.problem) == (task.head, task.problem):
        is_one_score = task.problem == "regression"  # published models name this label LABEL_0
        if len(known) == 1 if is_one_score else set(labels) <= set(known):
            return model
        if not is_one_score and (names := as_named(known, labels)) is not None:
            logger.warning(
                "the model's labels %s are taken as the data's %s, in this order",
                quoted(known), quoted(names),
            )  # fmt: skip
            return replace(model, config=replace(model.config, labels=names))
        logger.warning(
            "the head is new, and starts at random: the model's labels are %s, and the data's %s; "
            "to keep the model's head, name the data's labels as the model does",
            quoted(known), quoted(labels),
        )  # fmt: skip
    return model.with_head(task.head, labels=labels, problem=task.problem, seed=seed)


def as_named(known: Sequence[str], labels: Sequence[str]) -> tuple[str, ...] | None:
    """Return the labels of a head as the data name them; None if the matching is ambiguous.

    It is clear if the names are the same except for case and space, or if one side has numbers and
    the other `LABEL_0`, `LABEL_1`, ..., the default names of a head.
    """
    for form in (_folded, _number):
        places = {form(name): index for index, name in enumerate(known)}
        named = {form(label): label for label in labels}
        is_plain = len(places) == len(known) and len(named) == len(labels)
        if is_plain and None not in places and named.keys() <= places.keys():
            return tuple(named.get(form(name), name) for name in known)
    return None


def _folded(name: str) -> str | None:
    return normalised_label(" ".join(name.split())).casefold()


def _number(name: str) -> str | None:
    """Return `3` for `3` and for `LABEL_3`; None for any other name."""
    digits = _folded(name.strip().removeprefix("LABEL_").removeprefix("label_"))
    return str(int(digits)) if digits and digits.isascii() and digits.isdigit() else None


def half_of(teacher: Model) -> list[int]:
    """Return the layers for a student: every other one, from the first to the last."""
    layers = len(teacher.config.encoder.layers)
    return sorted({round(place) for place in np.linspace(0, layers - 1, max(1, layers // 2))})
