"""What a task is: from records to targets, from logits to a loss and to answers."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

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
from encodax.storage import reading
from encodax.tasks.labels import in_order, place_of
from encodax.tasks.tag_schemes import SchemeName
from encodax.text.tokenizer import EncodedPair, Encoding, Text, check_unicode
from encodax.types.batches import AnyArray, AnyBatch, ModelOutput

logger = logging.getLogger(__name__)

SOME_NAMES = 50
"""Labels that an error or a note lists, as they are to be mended."""
SOME_KNOWN = 20
"""Labels of a model that an error lists."""
LONGEST_SHOWN = 80
"""Characters of a value that an error shows."""

AnyModel = Model | Seq2SeqModel
"""What a task trains: an encoder with a head, or an encoder with a decoder."""
Sequence_ = Encoding | EncodedPair
"""What such a model is run on."""


def load_any(
    path_or_id: Path | str, *, revision: str | None = None, token: str | None = None
) -> AnyModel:
    """Read a model of either kind, all of it in one reading of its directory.

    Raises:
        EncodaxError: as `Model.load` and `Seq2SeqModel.load`.
    """
    directory = hub.directory_of(path_or_id, revision=revision, token=token)

    def read() -> AnyModel:
        if is_seq2seq(directory):
            return Seq2SeqModel.load(directory)
        return Model.load(directory, token=token)

    return reading.whole(directory, read)


@dataclass(frozen=True)
class Example:
    """A record that a task has understood."""

    text: Text
    target: Any
    """The right answer, in the form that the task's `decode` gives; None where none was asked."""
    where: str
    """Where it came from, for errors."""
    others: tuple[str, ...] = ()
    """Texts beside it that are read apart: what is similar to it, and what is not (embedding)."""
    words: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Where its words stand in the text, of a record that has words (token classification)."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Its text, or both of a pair."""
        return (self.text,) if isinstance(self.text, str) else self.text

    def characters(self) -> int:
        """How long its texts are."""
        return sum(map(len, (*self.parts, *self.others)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """What a loss wants, and how much each counts in it: one a slot or one a token.

    Of one sequence the places are () or (tokens,); in a batch (B, N) or (B, T).
    """

    values: Int[AnyArray, "*places"] | Float[AnyArray, "*places"]
    """Indices of classes, or quantities; where several are wanted of a place, on an axis more."""
    weights: Float[AnyArray, "*places"]
    example_numbers: Int[AnyArray, "B N"] | None = None
    """In batches of a `COMPARES_EXAMPLES` task: the number, from 1, of the example that a slot's
    sequence is of; 0 for an empty slot."""
    text_numbers: Int[AnyArray, "B N"] | None = None
    """The same: which of its example's sequences it is, from 0."""
    texts: Int[AnyArray, "B N"] | None = None
    """The same: a number that equal sequences share. None where no two are known to be equal."""
    tokens: Int[AnyArray, "B M"] | None = None
    """Row indices of the tokens that alone are scored, where these are few: then values and weights
    are (B, M). None for all."""
    teacher: ModelOutput | None = None
    """What another model says of the same batch, in distillation."""


SimilarityLoss = Literal["ranking", "cosent", "cosine"]


@dataclass(frozen=True)
class LossOptions:
    """What a loss can be told; each task takes the few that its `OPTIONS` name."""

    label_smoothing: float = 0.0
    """Share of the probability that is spread over all classes (of texts, of tokens)."""
    class_weights: str | Mapping[str, int | float] | Sequence[int | float] | None = None
    """How much each label counts (classification, multi-label): `balanced`, which is n / (C n_c) as
    in scikit-learn; a number for each label, 1 for others; or a list in the order of the labels."""
    tag_scheme: SchemeName | None = None
    """How tags say where a span ends (token-classification); None for what they say together."""
    mask_rate: float = 0.15
    """Share of tokens that are hidden (masked-lm): 0.15 in BERT, 0.3 in later work (Wettig et al.
    2023, arXiv:2202.08005)."""
    whole_words: bool = False
    """Hide all tokens of a word or none (masked-lm)."""
    similarity_loss: SimilarityLoss | None = None
    """How vectors are compared (embedding); None for `cosent` where pairs are scored, else
    `ranking`."""
    similarity_scale: float = 20.0
    """Factor of the cosines, the inverse of a temperature (embedding)."""
    widths: tuple[int, ...] = ()
    """Leading features that are to be vectors of their own, beside the whole (embedding;
    Matryoshka, Kusupati et al. 2022, arXiv:2205.13147)."""
    temperature: float = 2.0
    """Softens both models' probabilities (distillation; Hinton et al. 2015, arXiv:1503.02531)."""
    hidden_weight: float = 1.0
    """How much the states of layers count beside the answers (distillation)."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise EncodaxError(f"label_smoothing = {self.label_smoothing} is not in 0..1")
        if not 0 < self.mask_rate < 1:
            raise EncodaxError(f"mask_rate = {self.mask_rate} is not in 0..1")
        for name in ("similarity_scale", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise EncodaxError(f"{name} = {getattr(self, name)} is not above 0")
        if not 0 <= self.hidden_weight < math.inf:
            raise EncodaxError(f"hidden_weight = {self.hidden_weight} is below 0, or not finite")
        known = get_args(SimilarityLoss)
        if self.similarity_loss not in (None, *known):
            told = f"similarity_loss {self.similarity_loss!r} is not one of: {', '.join(known)}"
            raise EncodaxError(told)


SMALLER_IS_BETTER = frozenset({"loss", "perplexity", "mse"})
"""Metrics of which the smaller value is the better one."""


@runtime_checkable
class Task(Protocol):
    """One file of this folder."""

    NAME: str
    """As users write it."""
    PROBLEM: Problem
    """What the scores of a `sequence` head mean."""
    FIELDS: tuple[str, str]
    """What a record calls the text, and the second of a pair."""
    METRIC: str
    """The metric that says which model is best, unless another is chosen."""
    METRICS: tuple[str, ...]
    """All that an evaluation gives, beside the loss."""
    OPTIONS: frozenset[str]
    """Fields of `LossOptions` that the loss takes."""
    COMPARES_EXAMPLES: bool
    """Whether the loss compares examples with each other, so that it wants the outputs of a whole
    batch at once, and all sequences of an example in one batch."""
    RECORDED_STAGES: frozenset[str]
    """Stages of the encoder that the loss looks at, as `Encoder` says."""

    @property
    def HEAD(self) -> HeadKind | None:
        """Kind of head; the level of the targets follows: a slot (sequence, embedding) or a token.

        None for sequence-to-sequence models, which score each token of a target.
        """

    def parse(self, record: Record, *, labelled: bool) -> Example:
        """Understand a record; EncodaxError where it is not one of this task."""

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The classes that these examples teach, in order."""

    def targets(self, example: Example, encoding: Any, labels: tuple[str, ...]) -> Targets:
        """Values and weights of one token sequence: of shape (), or (tokens,)."""

    def corrupt(
        self,
        batch: Any,
        targets: Targets,
        model: Any,
        objective: LossOptions,
        random: np.random.Generator,
    ) -> tuple[Any, Targets]:
        """What is changed at random, on the host, each time that a batch is seen (masks)."""

    def encode(
        self, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Any]], int]:
        """The token sequences that answer each example, and how many examples were cut."""

    def loss(
        self, output: ModelOutput, targets: Targets, batch: Any, objective: LossOptions
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The loss as (weighted sum, weight).

        Of a `COMPARES_EXAMPLES` task, the leaves of all three have an axis of micro-batches before
        theirs.
        """

    def merge(self, example: Example, answers: Sequence[Any]) -> Any:
        """One answer of those of an example's token sequences."""

    def decode(
        self, scores: Float[np.ndarray, "*places C"], encoding: Any, labels: tuple[str, ...]
    ) -> Any:
        """What the head says of one token sequence, (C,) or (tokens, C), to its answer."""

    def metrics(self, answers: Iterable[Any], examples: Iterable[Example]) -> dict[str, float]:
        """How right the answers are; gone through once, side by side, so that none is held."""

    def to_json(self, answer: Any) -> dict[str, Any]:
        """An answer as the fields of a JSON object."""


@dataclass(frozen=True)
class Decoding:
    """How answers are made of scores: its fields are a task's options, and most tasks have none."""

    def check(self, model: Model) -> None:
        """Refuse what cannot be had of this model.

        Raises:
            EncodaxError: names the option, and the limit.
        """

    def measured(self, task: Task, records: Any, labels: tuple[str, ...]) -> Task:
        """The task as these records, and a model of these labels, are measured by it."""
        return task

    def encode(
        self, task: Task, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Any]], int]:
        """The token sequences that answer each example, and how many examples were cut."""
        return task.encode(model, examples, truncate=truncate)

    def answer(
        self,
        task: Task,
        example: Example,
        sequences: Sequence[Any],
        scores: Sequence[Float[np.ndarray, "... C"]],
        labels: tuple[str, ...],
    ) -> Any:
        """The answer to an example, of the scores of all its token sequences."""
        pairs = zip(scores, sequences, strict=True)
        return task.merge(example, [task.decode(own, encoding, labels) for own, encoding in pairs])


def apply_options(task: Task, targets: Targets) -> dict[str, Any]:
    """What a task's loss looks at in an output, as `apply` of its model is told it."""
    if task.HEAD is None:
        return {"record": task.RECORDED_STAGES}
    return {"record": task.RECORDED_STAGES, "tokens": targets.tokens, "head_only": True}


def check_objective(task: Task, objective: LossOptions) -> None:
    """Refuse what a task's loss cannot be told.

    Raises:
        EncodaxError: names the option, and the ones that the task takes.
    """
    for option in fields(LossOptions):
        is_given = getattr(objective, option.name) != option.default
        if is_given and option.name not in task.OPTIONS:
            known = ", ".join(sorted(task.OPTIONS)) or "none"
            raise EncodaxError(f"{option.name} is not for {task.NAME}; its options: {known}")


def side_by_side(
    pairs: Iterable[tuple[Any, Example]],
) -> tuple[Iterator[Any], Iterator[Example]]:
    """Answers and examples, each apart, as `metrics` takes them: of a stream of pairs."""
    first, second = itertools.tee(pairs)
    return (answer for answer, _ in first), (example for _, example in second)


def number_of_text(text: str) -> int:
    """A whole number of 64 bits that stands for a text where texts are told apart, not kept."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def unlabelled(texts: Iterable[Text]) -> Iterator[Example]:
    """Texts as examples, called by their numbers in errors."""
    return (Example(text, None, f"text {index}") for index, text in enumerate(texts))


def encode_whole(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Every example as one token sequence, refused or cut where it is too long."""
    encodings, cut = model.encode(
        [example.text for example in examples],
        truncate=truncate,
        names=[example.where for example in examples],
    )
    return [[encoding] for encoding in encodings], cut


def single_answer(example: Example, answers: Sequence[Any]) -> Any:
    """The answer of an example that is one token sequence."""
    (answer,) = answers
    return answer


def no_corruption(
    batch: Any,
    targets: Targets,
    model: AnyModel,
    objective: LossOptions,
    random: np.random.Generator,
) -> tuple[Any, Targets]:
    """The `corrupt` of a task that changes nothing."""
    return batch, targets


def classes_loss(
    output: ModelOutput, targets: Targets, batch: AnyBatch, objective: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy of the head's scores."""
    assert output.logits is not None
    return cross_entropy(
        output.logits, targets, objective.label_smoothing, weights_of(objective.class_weights)
    )


def weights_of(weights: Any) -> Float[np.ndarray, " C"] | None:
    """The weight of each class, as `class_weights.objective_for` has found them."""
    return None if weights is None else np.asarray([*weights.values()], np.float32)


def cross_entropy(
    logits: Float[Array, "*places C"],
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Float[np.ndarray, " C"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy as (weighted sum, weight): divide once, over all that is added up.

    log sum_c exp(z_c) - (1 - e) z_right - (e / C) sum_c z_c

    With smoothing e the target is (1 - e) at the right class plus e / C everywhere (Szegedy et
    al. 2016, arXiv:1512.00567, section 7). With class weights a place counts as its right class.
    """
    scores = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(scores, axis=-1)  # (*places)
    right = jnp.take_along_axis(scores, jnp.asarray(targets.values)[..., None], axis=-1)[..., 0]
    if label_smoothing:  # over all classes without an array of what is wanted of each
        right = (1 - label_smoothing) * right + label_smoothing * jnp.mean(scores, axis=-1)
    weights = jnp.asarray(targets.weights)  # (*places)
    if class_weights is not None:
        weights = weights * jnp.asarray(class_weights)[jnp.asarray(targets.values)]
    return jnp.sum((total - right) * weights), jnp.sum(weights)


def text_of(record: Record, names: tuple[str, str] = ("text", "text_pair")) -> Text:
    """The text, or pair of texts, of a record, in the fields of these names.

    Raises:
        EncodaxError: there is none, or it is not a string, or one of no text.
    """
    first, second = names
    text = string_of(record, first)
    return (text, string_of(record, second)) if second in record.fields else text


def string_of(record: Record, name: str) -> str:
    """The text of a record in the field of this name.

    Raises:
        EncodaxError: there is none, or it is not a string, or one of no text.
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
    """What a record has instead of what a field of it should be, for the end of an error."""
    if name in record.fields:
        return f", not {_shortened(repr(record.fields[name]))}"
    known = ", ".join(map(str, record.fields)) or "nothing"
    return f" (found: {known}); if it has another name: --columns {name}=NAME"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def checked_labels(seen: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The classes among (label, where) pairs, numbers in numeric order, else by name.

    Those that are seen once are told: little can be learned of them.

    Raises:
        EncodaxError: there is none.
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
        """The error that names them, each with the number of its records where that is above 1.

        Args:
            where: the first of them stands.
            counts: the records of each.
            known: the labels of the model.
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
    """Names for an error: the first of many."""
    left = len(names) - SOME_NAMES
    return ", ".join(names[:SOME_NAMES]) + (f", ... ({left:,} more)" if left > 0 else "")


def check_known(wanted: Iterable[str], labels: tuple[str, ...], where: str) -> None:
    """Refuse labels that a model does not know, all that a record has at once.

    Raises:
        UnknownLabels: names them.
    """
    unknown = {label: 1 for label in wanted if place_of(label, labels) is None}
    if unknown:
        raise UnknownLabels.of(where, unknown, labels)


def index_of(label: str, labels: tuple[str, ...], where: str) -> int:
    """The class of a label.

    Raises:
        UnknownLabels: the model does not know it.
    """
    place = place_of(label, labels)
    if place is None:
        raise UnknownLabels.of(where, {label: 1}, labels)
    return place
