"""What a task is: from records to targets, from logits to a loss and to answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from encodax.config import HeadKind
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.model import Model
from encodax.tokenizer import Encoding, Text, check_unicode
from encodax.types import AnyArray, PackedBatch


@dataclass(frozen=True)
class Example:
    """A record that a task has understood."""

    text: Text
    target: Any
    """The right answer, in the form that the task's `decode` gives; None where none was asked."""
    where: str
    """Where it came from, for errors."""

    def characters(self) -> int:
        """How long its text is, or both of a pair."""
        return sum(map(len, (self.text,) if isinstance(self.text, str) else self.text))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """Class indices, and how much each counts in the loss: one a slot or one a token."""

    classes: Int[AnyArray, "*places"]
    weights: Float[AnyArray, "*places"]


@runtime_checkable
class Task(Protocol):
    """One file of this folder."""

    NAME: str
    """As users write it."""
    HEAD: HeadKind
    """Kind of head."""
    FIELDS: tuple[str, str]
    """What a record calls the text, and the second of a pair."""
    METRIC: str
    """The metric that says which model is best; larger is better."""

    def parse(self, record: Record, *, labelled: bool) -> Example:
        """Understand a record; EncodaxError where it is not one of this task."""

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The classes that these examples teach, in order."""

    def targets(self, example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
        """Classes and weights of one example: of shape (), or (tokens,)."""

    def encode(
        self, model: Model, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """The token sequences that answer each example, and how many examples were cut."""

    def loss(
        self,
        logits: Float[Array, "B _ C"],
        targets: Targets,
        batch: PackedBatch,
        label_smoothing: float = 0.0,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The loss as (weighted sum, weight)."""

    def merge(self, example: Example, answers: Sequence[Any]) -> Any:
        """One answer of those of an example's token sequences."""

    def decode(
        self, scores: Float[np.ndarray, "*places C"], encoding: Encoding, labels: tuple[str, ...]
    ) -> Any:
        """What the head says of one token sequence, (C,) or (tokens, C), to its answer."""

    def metrics(self, answers: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """How right the answers are."""

    def to_json(self, answer: Any) -> dict[str, Any]:
        """An answer as the fields of a JSON object."""


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


def the_one(example: Example, answers: Sequence[Any]) -> Any:
    """The answer of an example that is one token sequence."""
    (answer,) = answers
    return answer


def cross_entropy(
    logits: Float[Array, "*places C"],
    targets: Targets,
    batch: PackedBatch | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy as (weighted sum, weight): divide once, over all that is added up.

    With smoothing e the target is (1 - e) at the right class plus e / C everywhere (Szegedy et
    al. 2016, arXiv:1512.00567, section 7).
    """
    import optax  # here: whoever only predicts should not wait for it

    one_hot = jax.nn.one_hot(targets.classes, logits.shape[-1])
    wanted = optax.smooth_labels(one_hot, label_smoothing)
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), wanted)  # (*places)
    return jnp.sum(losses * targets.weights), jnp.sum(targets.weights)


def text_of(record: Record, names: tuple[str, str] = ("text", "text_pair")) -> Text:
    """The text, or pair of texts, of a record, in the fields of these names.

    Raises:
        EncodaxError: there is none, or it is not a string, or one of no text.
    """
    fields = record.fields
    first, second = names
    if first not in fields:
        known = ", ".join(map(str, fields)) or "nothing"
        raise EncodaxError(f"{record.where}: no field {first!r} (found: {known})")
    texts = [fields[first]] + ([fields[second]] if second in fields else [])
    for text in texts:
        if not isinstance(text, str):
            raise EncodaxError(f"{record.where}: a text is a string, not {text!r}")
        if not text.strip():
            raise EncodaxError(f"{record.where}: the text is empty")
        check_unicode(text, record.where)
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def checked_labels(seen: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The classes among (label, where) pairs, numbers in numeric order, else by name.

    Raises:
        EncodaxError: there is none, or one is seen once: nothing can be learned of it and checked.
    """
    counts = Counter(label for label, _ in seen)
    for label, where in seen:
        if counts[label] == 1:
            raise EncodaxError(
                f"{where}: the label {label!r} is seen once; give it a second example, or leave "
                "it out"
            )
    if not counts:
        raise EncodaxError("the training data has no label")
    by_number = all(label.removeprefix("-").isdecimal() for label in counts)
    return tuple(sorted(counts, key=(lambda label: int(label)) if by_number else None))


def index_of(label: str, labels: tuple[str, ...], where: str) -> int:
    """The class of a label.

    Raises:
        EncodaxError: the model does not know it.
    """
    if label not in labels:
        known = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise EncodaxError(f"{where}: unknown label {label!r}; the model knows: {known}")
    return labels.index(label)
