"""Tasks: from records to targets, from logits to a loss and to answers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from encodax.config import HeadKind, Problem
from encodax.errors import EncodaxError
from encodax.model_files import hub
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel, is_seq2seq
from encodax.options.loss import LossOptions as LossOptions
from encodax.options.loss import SimilarityLoss as SimilarityLoss
from encodax.storage import reading
from encodax.text.tokenizer import EncodedPair, Encoding, Text
from encodax.types.batches import AnyArray, ModelOutput

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
    task that compares examples."""
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


def no_labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return no labels: `labels` of tasks without classes."""
    return ()


def labels_of_data(labels: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels of the examples: `labels_for` of tasks whose labels have one form."""
    return labels


def encode_whole(
    model: Any, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Any]], int]:
    """Encode every example as one token sequence; one that is too long is refused or truncated."""
    encodings, cut = model.encode(
        [example.text for example in examples],
        truncate=truncate,
        names=[example.where for example in examples],
    )
    return [[encoding] for encoding in encodings], cut


def all_have_tokens(
    example: Example, encodings: Sequence[Any]
) -> tuple[Example | None, tuple[str, ...]]:
    """Return the example as it is: `with_tokens` of tasks without targets inside a text."""
    return example, ()


def single_answer(example: Example, answers: Sequence[Any]) -> Any:
    """Return the answer of an example with one token sequence."""
    (answer,) = answers
    return answer


def no_corruption(
    batch: Any,
    targets: Targets,
    model: AnyModel,
    options: LossOptions,
    random: np.random.Generator,
) -> tuple[Any, Targets]:
    """Return the batch unchanged: `corrupt` of tasks without random corruption."""
    return batch, targets


def no_metrics(answers: Iterable[Any], examples: Iterable[Example]) -> dict[str, float]:
    """Return no metrics: `metrics` of tasks that are measured by `batch_metrics`."""
    return {}


def linear_if_named(activation: str | None) -> str | None:
    """Return the activation of scores that are not a probability of one label."""
    return None if activation is None else "linear"


def same_options(
    options: LossOptions, examples: Sequence[Example], model: AnyModel, batch_size: int | None
) -> LossOptions:
    """Return the options unchanged: `loss_options_for` of tasks whose loss is fixed."""
    return options


def accept(examples: Iterable[Example]) -> None:
    """Accept any evaluation data."""


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


LabelledItems = Set[tuple[Any, str]]
"""Labels of one example, (position, label), either the right or the predicted ones."""


@dataclass(frozen=True)
class BatchMetrics:
    """Metrics that need no answers, only sums over batches."""

    sums: Callable[[ModelOutput, Targets, Any, LossOptions], dict[str, Float[Array, ""]]]
    """Function that computes the sums of one batch, ..."""
    summary: Callable[[Mapping[str, float]], dict[str, float]]
    """... and function that computes the metrics from their totals."""


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """All that is known of a task; every other file of this folder defines one, as `TASK`.

    Functions are fields: a task is put together from its own functions and from those of others,
    and `dataclasses.replace` makes a variant of it.
    """

    name: str
    """Name of the task for users."""
    head: HeadKind | None
    """Kind of head. There is one target for each slot (sequence, embedding) or for each token.
    None for sequence-to-sequence models, which score each token of a target."""
    metric_names: tuple[str, ...]
    """Metrics of an evaluation, besides the loss; the first one chooses the best model."""
    parse: Callable[..., Example]
    """(record, *, labelled) -> example; raises EncodaxError for a record of another task."""
    targets: Callable[[Example, Any, tuple[str, ...]], Targets]
    """(example, one of its token sequences, labels) -> targets of that sequence."""
    loss: Callable[..., tuple[Float[Array, ""], Float[Array, ""]]]
    """(output, targets, batch, options) -> (weighted sum, weight). If the task compares examples,
    the leaves of the first three have an additional first axis, of micro-batches."""
    decode: Callable[..., Any]
    """(output of the head for one token sequence, (C,) or (tokens, C); the sequence; labels) -> its
    answer."""
    to_json: Callable[[Any], dict[str, Any]]
    """answer -> fields of a JSON object."""

    problem: Problem = "single_label"
    """Problem type of a `sequence` head."""
    text_fields: tuple[str, str] = ("text", "text_pair")
    """Fields of a record with the text, and with the second text of a pair."""
    options: frozenset[str] = frozenset()
    """Fields of `LossOptions` that the loss uses."""
    train_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults that differ from those of `TrainSettings`, `NewModel` and `LossOptions`."""
    takes_teacher: bool = False
    """Whether the targets are the output of another model."""
    compares_examples: bool = False
    """Whether the loss compares examples with each other, so that it needs the outputs of a whole
    batch at once, and all sequences of an example in one batch."""
    recorded_stages: frozenset[str] = frozenset()
    """Stages of the encoder that the loss needs, as named in `Encoder`."""
    is_cross_encoder: bool = False
    """Whether sentence-transformers runs its models with `CrossEncoder`."""
    has_known_shapes: bool = False
    """Whether the shapes of a batch's targets are known without data."""

    labels: Callable[[Sequence[Example]], tuple[str, ...]] = no_labels
    """examples -> classes, in order."""
    for_records: Callable[[Any, tuple[str, ...], LossOptions], Task] | None = None
    """(records, labels of the model, options of the loss) -> the task for them, if the meaning of a
    record depends on all of them."""
    labels_for: Callable[[tuple[str, ...], tuple[str, ...]], tuple[str, ...]] = labels_of_data
    """(labels of the examples, labels of a model) -> labels of that model after training."""
    activation_for: Callable[[str | None], str | None] = linear_if_named
    """activation of a model's scores, in sentence-transformers -> that after training."""
    loss_options_for: Callable[[LossOptions, Sequence[Example], Any, int | None], LossOptions] = (
        same_options
    )
    """(options as given, examples, model, batch size) -> options with what depends on the data."""
    encode: Callable[..., tuple[list[list[Any]], int]] = encode_whole
    """(model, examples, *, truncate) -> token sequences of each example, and the number of
    truncated examples."""
    with_tokens: Callable[[Example, Sequence[Any]], tuple[Example | None, tuple[str, ...]]] = (
        all_have_tokens
    )
    """(example, its token sequences) -> the part of it that has tokens, if any, and the parts of
    its target that have none."""
    corrupt: Callable[..., tuple[Any, Targets]] = no_corruption
    """(batch, targets, model, options, random) -> batch and targets, changed at random on the host
    each time that they are seen (masking)."""

    decoding: type[Decoding] = Decoding
    """Options of the answers."""
    merge: Callable[[Example, Sequence[Any]], Any] = single_answer
    """(example, answers of its token sequences) -> its answer."""
    no_answer: Mapping[str, None] = field(default_factory=dict)
    """JSON fields for an empty text whose place is kept."""
    metrics: Callable[[Iterable[Any], Iterable[Example]], dict[str, float]] = no_metrics
    """(answers, examples) -> metrics; both are iterated once, in parallel, so none is kept."""
    batch_metrics: BatchMetrics | None = None
    """Metrics of tasks without answers, in place of `metrics`."""
    labelled_items: Callable[[Any, Example], tuple[LabelledItems, LabelledItems]] | None = None
    """(answer, example) -> its right labels, and the predicted ones; None without classes."""
    metric_names_for: Callable[[Sequence[Example], LossOptions], tuple[str, ...]] | None = None
    """(examples, options) -> metrics of an evaluation on them, if they depend on the data."""
    check_evaluation: Callable[[Iterable[Example]], None] = accept
    """examples -> None; refuses those by which no model is better than another, and warns of those
    that say little."""

    def __repr__(self) -> str:
        return f"Task({self.name!r})"

    @property
    def metric(self) -> str:
        """Metric that chooses the best model by default."""
        return self.metric_names[0]

    @property
    def is_seq2seq(self) -> bool:
        """Whether its models have a decoder."""
        return self.head is None


def apply_options(task: Task, targets: Targets) -> dict[str, Any]:
    """Return the arguments of the model's `apply` that request what the loss needs."""
    if task.head is None:
        return {"record": task.recorded_stages}
    return {"record": task.recorded_stages, "tokens": targets.tokens, "head_only": True}


def check_loss_options(task: Task, loss_options: LossOptions) -> None:
    """Refuse options that the task's loss does not have.

    Raises:
        EncodaxError: there is such an option; the error names it, and those of the task.
    """
    for option in fields(LossOptions):
        is_given = getattr(loss_options, option.name) != option.default
        if is_given and option.name not in task.options:
            known = ", ".join(sorted(task.options)) or "none"
            raise EncodaxError(f"{option.name} is not for {task.name}; its options: {known}")


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
