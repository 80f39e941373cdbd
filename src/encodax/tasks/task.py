"""Tasks: from records to targets, from logits to a loss and to answers."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from encodax.config import HeadKind, Problem
from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.model_files import hub
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel, is_seq2seq
from encodax.options.loss import LossOptions as LossOptions
from encodax.options.loss import SimilarityLoss as SimilarityLoss
from encodax.storage import reading
from encodax.tasks.labels import in_order, index_of_label
from encodax.text.tokenizer import EncodedPair, Encoding, Text, check_unicode
from encodax.types.batches import AnyArray, AnyBatch, ModelOutput

logger = logging.getLogger(__name__)

SOME_NAMES = 50
"""Maximum number of labels to mend that an error or a log message lists."""
SOME_KNOWN = 20
"""Maximum number of a model's labels that an error lists."""
LONGEST_SHOWN = 80
"""Maximum number of characters of a value that an error shows."""

AnyModel = Model | Seq2SeqModel
"""Model that a task trains: an encoder with a head, or an encoder with a decoder."""
ModelInput = Encoding | EncodedPair
"""Input of such a model."""


def load_any(
    path_or_id: Path | str, *, revision: str | None = None, token: str | None = None
) -> AnyModel:
    """Read a model of either kind, reading its directory once.

    Raises:
        EncodaxError: as in `Model.load` and `Seq2SeqModel.load`.
    """
    directory = hub.directory_of(path_or_id, revision=revision, token=token)

    def read() -> AnyModel:
        if is_seq2seq(directory):
            return Seq2SeqModel.load(directory)
        return Model.load(directory, token=token)

    return reading.read_consistently(directory, read)


@dataclass(frozen=True)
class Example:
    """Record that a task has parsed."""

    text: Text
    target: Any
    """Right answer, in the form that the task's `decode` returns; None if there is no label."""
    where: str
    """Source of the record, for error messages."""
    others: tuple[str, ...] = ()
    """Further texts that are encoded separately: the positive and the negatives (embedding)."""
    words: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Character offsets of the words in the text, if the record has words (token
    classification)."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The text, or both texts of a pair, as a tuple."""
        return (self.text,) if isinstance(self.text, str) else self.text

    def characters(self) -> int:
        """Return the number of characters of all texts."""
        return sum(map(len, (*self.parts, *self.others)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """Targets of a loss and their weights, one for each slot or token.

    For one sequence the places are () or (tokens,); in a batch (B, N) or (B, T).
    """

    values: Int[AnyArray, "*places"] | Float[AnyArray, "*places"]
    """Class indices, or quantities; several for one place are on an additional axis."""
    weights: Float[AnyArray, "*places"]
    example_numbers: Int[AnyArray, "B N"] | None = None
    """Number, from 1, of the example of each slot; 0 for an empty slot. Only in batches of a
    `COMPARES_EXAMPLES` task."""
    sequence_indices: Int[AnyArray, "B N"] | None = None
    """Index, from 0, of each slot's sequence among those of its example. Only in such batches."""
    text_hashes: Int[AnyArray, "B N"] | None = None
    """Number that equal sequences share, in such batches; None if no two are known to be equal."""
    tokens: Int[AnyArray, "B M"] | None = None
    """Row indices of the only tokens that are scored, if these are few: values and weights are then
    (B, M). None for all tokens."""
    teacher: ModelOutput | None = None
    """Teacher's output for the same batch, in distillation."""


SMALLER_IS_BETTER = frozenset({"loss", "perplexity", "mse"})
"""Metrics for which a smaller value is better."""


@runtime_checkable
class Task(Protocol):
    """Task: the names that every file of this folder defines."""

    NAME: str
    """Name of the task for users."""
    PROBLEM: Problem
    """Problem type of a `sequence` head."""
    FIELDS: tuple[str, str]
    """Names of the field with the text, and of that with the second text of a pair."""
    METRIC: str
    """Default metric for choosing the best model."""
    METRICS: tuple[str, ...]
    """Names of all metrics of an evaluation, besides the loss."""
    OPTIONS: frozenset[str]
    """Fields of `LossOptions` that the loss uses."""
    COMPARES_EXAMPLES: bool
    """Whether the loss compares examples with each other, so that it needs the outputs of a whole
    batch at once, and all sequences of an example in one batch."""
    RECORDED_STAGES: frozenset[str]
    """Stages of the encoder that the loss needs, as named in `Encoder`."""

    @property
    def HEAD(self) -> HeadKind | None:
        """Kind of head.

        There is one target for each slot (sequence, embedding) or for each token. None for
        sequence-to-sequence models, which score each token of a target.
        """

    def parse(self, record: Record, *, labelled: bool) -> Example:
        """Parse a record.

        Raises:
            EncodaxError: the record is not one of this task.
        """

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Return the classes of these examples, in order."""

    def targets(self, example: Example, encoding: Any, labels: tuple[str, ...]) -> Targets:
        """Return values and weights for one token sequence: of shape (), or (tokens,)."""

    def corrupt(
        self,
        batch: Any,
        targets: Targets,
        model: Any,
        objective: LossOptions,
        random: np.random.Generator,
    ) -> tuple[Any, Targets]:
        """Change a batch at random, on the host, each time that it is seen (masking)."""

    def encode(
        self, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Any]], int]:
        """Return the token sequences of each example, and the number of truncated examples."""

    def loss(
        self, output: ModelOutput, targets: Targets, batch: Any, objective: LossOptions
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Compute the loss as (weighted sum, weight).

        For a `COMPARES_EXAMPLES` task, the leaves of the first three arguments have an additional
        first axis, of micro-batches.
        """

    def merge(self, example: Example, answers: Sequence[Any]) -> Any:
        """Merge the answers of an example's token sequences into one."""

    def decode(
        self, scores: Float[np.ndarray, "*places C"], encoding: Any, labels: tuple[str, ...]
    ) -> Any:
        """Decode the head's output for one token sequence, (C,) or (tokens, C), to an answer."""

    def metrics(self, answers: Iterable[Any], examples: Iterable[Example]) -> dict[str, float]:
        """Compute the metrics; both arguments are iterated once, in parallel, so none is kept."""

    def to_json(self, answer: Any) -> dict[str, Any]:
        """Return an answer as the fields of a JSON object."""


@dataclass(frozen=True)
class Decoding:
    """Decoding of scores to answers, with its options as fields; most tasks have none."""

    def check(self, model: Model) -> None:
        """Refuse options that this model cannot fulfil.

        Raises:
            EncodaxError: there is such an option; the error names it, and the limit.
        """

    def measured(self, task: Task, records: Any, labels: tuple[str, ...]) -> Task:
        """Return the task for evaluating a model with these labels on these records."""
        return task

    def encode(
        self, task: Task, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Any]], int]:
        """Return the token sequences of each example, and the number of truncated examples."""
        return task.encode(model, examples, truncate=truncate)

    def answer(
        self,
        task: Task,
        example: Example,
        sequences: Sequence[Any],
        scores: Sequence[Float[np.ndarray, "... C"]],
        labels: tuple[str, ...],
    ) -> Any:
        """Return the answer to an example, from the scores of all its token sequences."""
        pairs = zip(scores, sequences, strict=True)
        return task.merge(example, [task.decode(own, encoding, labels) for own, encoding in pairs])


def apply_options(task: Task, targets: Targets) -> dict[str, Any]:
    """Return the arguments of the model's `apply` that request what the loss needs."""
    if task.HEAD is None:
        return {"record": task.RECORDED_STAGES}
    return {"record": task.RECORDED_STAGES, "tokens": targets.tokens, "head_only": True}


def check_objective(task: Task, objective: LossOptions) -> None:
    """Refuse options that the task's loss does not have.

    Raises:
        EncodaxError: there is such an option; the error names it, and those of the task.
    """
    for option in fields(LossOptions):
        is_given = getattr(objective, option.name) != option.default
        if is_given and option.name not in task.OPTIONS:
            known = ", ".join(sorted(task.OPTIONS)) or "none"
            raise EncodaxError(f"{option.name} is not for {task.NAME}; its options: {known}")


def side_by_side(
    pairs: Iterable[tuple[Any, Example]],
) -> tuple[Iterator[Any], Iterator[Example]]:
    """Split a stream of pairs into answers and examples, as `metrics` takes them."""
    first, second = itertools.tee(pairs)
    return (answer for answer, _ in first), (example for _, example in second)


def number_of_text(text: str) -> int:
    """Return a 64-bit hash of a text, to compare texts without keeping them."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def unlabelled(texts: Iterable[Text]) -> Iterator[Example]:
    """Return texts as examples, which are named by their index in errors."""
    return (Example(text, None, f"text {index}") for index, text in enumerate(texts))


def encode_whole(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Encode every example as one token sequence; one that is too long is refused or truncated."""
    encodings, cut = model.encode(
        [example.text for example in examples],
        truncate=truncate,
        names=[example.where for example in examples],
    )
    return [[encoding] for encoding in encodings], cut


def single_answer(example: Example, answers: Sequence[Any]) -> Any:
    """Return the answer of an example with one token sequence."""
    (answer,) = answers
    return answer


def no_corruption(
    batch: Any,
    targets: Targets,
    model: AnyModel,
    objective: LossOptions,
    random: np.random.Generator,
) -> tuple[Any, Targets]:
    """Return the batch unchanged: `corrupt` of tasks without random corruption."""
    return batch, targets


def classes_loss(
    output: ModelOutput, targets: Targets, batch: AnyBatch, objective: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross entropy of the head's scores."""
    assert output.logits is not None
    return cross_entropy(
        output.logits, targets, objective.label_smoothing, weights_of(objective.class_weights)
    )


def weights_of(weights: Any) -> Float[np.ndarray, " C"] | None:
    """Return the weight of each class, as computed by `class_weights.objective_for`."""
    return None if weights is None else np.asarray([*weights.values()], np.float32)


def cross_entropy(
    logits: Float[Array, "*places C"],
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Float[np.ndarray, " C"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute cross entropy as (weighted sum, weight): sum both over all batches, then divide.

    log sum_c exp(z_c) - (1 - e) z_right - (e / C) sum_c z_c

    With smoothing e the target is (1 - e) at the right class plus e / C everywhere (Szegedy et
    al. 2016, arXiv:1512.00567, section 7). With class weights a place has the weight of its right
    class.
    """
    scores = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(scores, axis=-1)  # (*places)
    right = jnp.take_along_axis(scores, jnp.asarray(targets.values)[..., None], axis=-1)[..., 0]
    if label_smoothing:  # for all classes without an array of smoothed targets
        right = (1 - label_smoothing) * right + label_smoothing * jnp.mean(scores, axis=-1)
    weights = jnp.asarray(targets.weights)  # (*places)
    if class_weights is not None:
        weights = weights * jnp.asarray(class_weights)[jnp.asarray(targets.values)]
    return jnp.sum((total - right) * weights), jnp.sum(weights)


def text_of(record: Record, names: tuple[str, str] = ("text", "text_pair")) -> Text:
    """Return the text, or pair of texts, of a record, from the fields with these names.

    Raises:
        EncodaxError: there is no text, or it is not a string, or is empty.
    """
    first, second = names
    text = string_of(record, first)
    return (text, string_of(record, second)) if second in record.fields else text


def string_of(record: Record, name: str) -> str:
    """Return the text in the field `name` of a record.

    Raises:
        EncodaxError: there is no text, or it is not a string, or is empty.
    """
    if name not in record.fields:
        raise EncodaxError(f"{record.where}: no field {name!r}{instead_of(record, name)}")
    text = record.fields[name]
    if not isinstance(text, str):
        kind = EncodaxError if text is not None else EmptyText
        what = f" (a {type(text).__name__}, in the field {name!r}): make it a string"
        column = what if text is not None else ""
        raise kind(f"{record.where}: a text is a string, not {_shortened(repr(text))}{column}")
    if not text.strip():
        raise EmptyText.of(record.where)
    check_unicode(text, record.where)
    return text


def instead_of(record: Record, name: str) -> str:
    """Return the end of an error about a missing field or a wrong value: what the record has."""
    if name in record.fields:
        return f", not {_shortened(repr(record.fields[name]))}"
    known = ", ".join(map(str, record.fields)) or "nothing"
    return f" (found: {known}); if it has another name: --columns {name}=NAME"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def checked_labels(seen: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the classes in (label, where) pairs, in numeric order or by name.

    Labels that occur once are logged: little can be learned about them.

    Raises:
        EncodaxError: there are no labels.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for label, where in seen:
        counts[label] += 1
        first.setdefault(label, where)
    if not counts:
        raise EncodaxError("the training data has no label")
    rare = [f"{label!r} ({where})" for label, where in first.items() if counts[label] == 1]
    if rare:
        logger.warning(
            "%s seen once, so that little can be learned of %s: %s",
            "a label is" if len(rare) == 1 else f"{len(rare)} labels are",
            "it" if len(rare) == 1 else "them",
            _first_of(rare),
        )
    return in_order(counts)


class UnknownLabels(EncodaxError):
    """Labels that a model does not know."""

    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, where: str, counts: Mapping[str, int], known: Sequence[str]) -> UnknownLabels:
        """Create the error that lists the labels, with their numbers of records if above 1.

        Args:
            where: source of the first label.
            counts: number of records of each label.
            known: labels of the model.
        """
        named = [
            repr(label) + (f" ({count:,} records)" if count > 1 else "")
            for label, count in counts.items()
        ]
        what = "unknown label" + "s" * (len(named) > 1)
        listed = ", ".join(known[:SOME_KNOWN]) + (", ..." if len(known) > SOME_KNOWN else "")
        error = cls(f"{where}: {what} {_first_of(named)}; the model knows: {listed}")
        error.labels = tuple(counts)
        return error


def _first_of(names: Sequence[str]) -> str:
    """Return names for an error; only the first ones if there are many."""
    left = len(names) - SOME_NAMES
    return ", ".join(names[:SOME_NAMES]) + (f", ... ({left:,} more)" if left > 0 else "")


def check_known(wanted: Iterable[str], labels: tuple[str, ...], where: str) -> None:
    """Refuse labels that a model does not know, all those of a record at once.

    Raises:
        UnknownLabels: there are such labels; the error names them.
    """
    unknown = {label: 1 for label in wanted if index_of_label(label, labels) is None}
    if unknown:
        raise UnknownLabels.of(where, unknown, labels)


def index_of(label: str, labels: tuple[str, ...], where: str) -> int:
    """Return the class of a label.

    Raises:
        UnknownLabels: the model does not know the label.
    """
    place = index_of_label(label, labels)
    if place is None:
        raise UnknownLabels.of(where, {label: 1}, labels)
    return place
