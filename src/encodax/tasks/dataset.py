"""Labelled examples, tokenized and checked, for training or evaluation."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from encodax.data.batches import BatchShape, Units
from encodax.data.packing import Row, assemble, assemble_pairs, slots_of
from encodax.errors import EncodaxError
from encodax.tasks.empty import has_word, sequences_of
from encodax.tasks.labels import UnknownLabels
from encodax.tasks.record_fields import LONGEST_SHOWN
from encodax.tasks.task import (
    AnyModel,
    Example,
    LossOptions,
    ModelInput,
    Targets,
    Task,
    no_corruption,
)
from encodax.text.tokenizer import EncodedPair
from encodax.types.batches import AnyBatch, PackedBatch, PairBatch

logger = logging.getLogger(__name__)

READ_TOGETHER = 1024
"""Number of examples that are tokenized in one call."""
KEPT_BYTES = 32 << 20
"""Maximum bytes of sequences kept in memory; others are tokenized when needed."""
CHUNK_BYTES = 32 << 20
"""Maximum bytes of the sequences of a chunk of `Dataset.chunks`, if it has several examples."""
BYTES_OF_ONE = 1_500
"""Bytes of a sequence and its targets, as Python objects, ..."""
BYTES_OF_TOKEN = 50
"""... and bytes of each of its tokens."""

Sequences = list[tuple[ModelInput, Targets]]
"""Token sequences of one example, with their targets."""


@dataclass(frozen=True)
class Dataset:
    """Examples with their token sequences and targets.

    Length and example of every sequence are always known, so that a run can be planned. The tokens
    of a large data set are made again when a batch needs them: neither they nor `examples`, which
    are accessed by index, need to fit in memory.
    """

    task: Task
    model: AnyModel
    examples: Sequence[Example]
    lengths: Int[np.ndarray, "sequences *sides"]
    """Number of tokens of each sequence; for pairs (sequences, 2), of the source and the target."""
    example_of: Int[np.ndarray, " sequences"]
    """Index of the example of each sequence: a long text may have several sequences."""
    truncate: bool
    kept: dict[int, Sequences] = field(repr=False)
    """Sequences that are in memory, by the index of their example."""
    digest: str = ""
    """Hash of all tokens and targets: equal data sets have equal hashes."""

    @classmethod
    def prepare(
        cls, task: Task, model: AnyModel, examples: Sequence[Example], *, truncate: bool = False
    ) -> Dataset:
        """Tokenize all examples once, and compute their targets.

        Raises:
            EncodaxError: there is no example, a text is empty or too long, or a label is unknown.
        """
        if not len(examples):
            raise EncodaxError("the data set is empty: it has no example")
        empty = np.zeros(0, np.int32)
        data = cls(task, model, examples, empty, empty, truncate, {})
        lengths, owners = array("i"), array("i")
        room, cut, digest = KEPT_BYTES, 0, hashlib.sha256()
        losses = Losses(unknown=Counter())
        for start in range(0, len(examples), READ_TOGETHER):
            indices = range(start, min(start + READ_TOGETHER, len(examples)))
            found, cut_here = data._tokenized(indices, losses)
            cut += cut_here
            for index, sequences in zip(indices, found, strict=True):
                for encoding, targets in sequences:
                    for leaf in (*_ids_of(encoding), targets.values, targets.weights):
                        digest.update(np.ascontiguousarray(leaf).data)
                    own = _lengths_of(encoding)
                    lengths.extend(own)
                    owners.append(index)
                    room -= BYTES_OF_ONE + BYTES_OF_TOKEN * sum(own)
                if sequences and room >= 0:
                    data.kept[index] = sequences
        if losses.unknown:
            raise UnknownLabels.of(losses.where, losses.unknown, model.labels)
        losses.note()
        if not lengths:
            raise EncodaxError("the data set is empty: it has no text")
        model.log_cut(cut)
        sides = np.asarray(lengths, np.int32).reshape(len(owners), -1)  # (sequences, sides)
        return replace(
            data,
            lengths=sides if task.is_seq2seq else sides[:, 0],
            example_of=np.asarray(owners, np.int32),
            digest=digest.hexdigest(),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def encodings(self) -> list[Any]:
        """All token sequences."""
        return [encoding for encoding, _ in self._all()]

    @property
    def targets(self) -> list[Targets]:
        """Targets of all token sequences."""
        return [targets for _, targets in self._all()]

    @property
    def batch_units(self) -> Units:
        """Sequences that belong in one batch: all of an example if the loss compares examples."""
        if not self.task.compares_examples:
            return Units(np.arange(len(self)), len(self))
        return Units(np.flatnonzero(np.diff(self.example_of, prepend=-1)), len(self))

    def batch(self, rows: Sequence[Row], shape: BatchShape) -> tuple[AnyBatch, Targets]:
        """Return the batch with these rows of sequences, and its targets."""
        found = self._sequences([index for row in rows for index in row])
        members: list[list[Any]] = [[found[index][0] for index in row] for row in rows]
        batch = _assembled(members, shape)
        scored = batch.target if isinstance(batch, PairBatch) else batch
        of_slots = self.task.head in ("sequence", "embedding")
        width = shape.slots if of_slots else scored.token_ids.shape[1]
        _, example = next(iter((found or self._sequences([0])).values()))
        of_place = np.asarray(example.values).shape[0 if of_slots else 1 :]
        values = np.zeros((shape.row_count, width, *of_place), np.asarray(example.values).dtype)
        weights = np.zeros((shape.row_count, width), np.float32)
        for index, b, n, tokens in slots_of(rows, scored):
            place = n if of_slots else tokens
            values[b, place] = found[index][1].values
            weights[b, place] = found[index][1].weights
        if not self.task.compares_examples:
            return batch, Targets(values, weights)
        return batch, Targets(values, weights, *self._numbers(rows, shape, scored, found))

    def _numbers(
        self,
        rows: Sequence[Row],
        shape: BatchShape,
        scored: PackedBatch,
        found: Mapping[int, tuple[ModelInput, Targets]],
    ) -> Int[np.ndarray, "3 B N"]:
        """Return the example, the place in it, and the text of each slot, all as numbers."""
        numbers = np.zeros((3, shape.row_count, shape.slots), np.int32)
        for index, b, n, _ in slots_of(rows, scored):
            example = self.example_of[index] + 1
            numbers[:, b, n] = example, self._piece(index), text_number(found[index][0])
        return numbers

    def chunks(self) -> list[range]:
        """Return consecutive sequences that fit in memory together, all of each example."""
        sizes = BYTES_OF_ONE + BYTES_OF_TOKEN * self.lengths.reshape(len(self), -1).sum(axis=1)
        before = np.cumsum(sizes, dtype=np.int64) - sizes
        first_of_example = np.flatnonzero(np.diff(self.example_of, prepend=-1))
        chunk_of_example = before[first_of_example] // CHUNK_BYTES
        starts = first_of_example[np.flatnonzero(np.diff(chunk_of_example, prepend=-1))]
        return list(itertools.starmap(range, itertools.pairwise([*starts.tolist(), len(self)])))

    def with_kept(self, chunk: range) -> Dataset:
        """Return the data set with these sequences in memory, so that they are tokenized once."""
        owners = np.unique(self.example_of[chunk.start : chunk.stop]).tolist()
        if self.kept.keys() >= set(owners):
            return self
        kept: dict[int, Sequences] = {}
        for start in range(0, len(owners), READ_TOGETHER):
            some = owners[start : start + READ_TOGETHER]
            kept |= zip(some, self._all_of(some), strict=True)
        return replace(self, kept=kept)

    def encodings_of(self, indices: Sequence[int]) -> list[Any]:
        """Return these token sequences."""
        found = self._sequences(indices)
        return [found[index][0] for index in indices]

    def where(self, index: int) -> str:
        """Return the source of a sequence's example, for error messages."""
        return self.examples[int(self.example_of[index])].where

    def _piece(self, index: int) -> int:
        """Return the index of a sequence among those of its example."""
        return index - int(np.searchsorted(self.example_of, self.example_of[index]))

    def _sequences(self, indices: Sequence[int]) -> dict[int, tuple[ModelInput, Targets]]:
        """Return sequences by their index; those not in memory are tokenized together."""
        owners = list(dict.fromkeys(self.example_of[list(indices)].tolist()))
        by_owner = dict(zip(owners, self._all_of(owners), strict=True))
        return {i: by_owner[int(self.example_of[i])][self._piece(i)] for i in indices}

    def _all_of(self, owners: Sequence[int]) -> list[Sequences]:
        """Return the sequences of these examples."""
        missing = [owner for owner in owners if owner not in self.kept]
        made = dict(zip(missing, self._tokenized(missing)[0], strict=True))
        return [self.kept[owner] if owner in self.kept else made[owner] for owner in owners]

    def _all(self) -> Iterator[tuple[ModelInput, Targets]]:
        for start in range(0, len(self.examples), READ_TOGETHER):
            owners = range(start, min(start + READ_TOGETHER, len(self.examples)))
            for sequences in self._all_of(owners):
                yield from sequences

    def _tokenized(
        self, indices: Sequence[int], losses: Losses | None = None
    ) -> tuple[list[Sequences], int]:
        """Return the sequences of examples and the number of truncated ones; count what is lost."""
        losses = losses or Losses()
        examples = [self.examples[index] for index in indices]
        encode = functools.partial(self.task.encode, self.model, truncate=self.truncate)
        pieces, cut = sequences_of(encode, examples)
        return [
            self._with_targets(example, own, losses)
            for example, own in zip(examples, pieces, strict=True)
        ], cut

    def _with_targets(
        self, example: Example, encodings: Sequence[Any], losses: Losses
    ) -> Sequences:
        """Return each sequence of an example with its targets; none if it has nothing to learn."""
        found, pieces = seen(self.task, example, encodings)
        for piece in pieces:
            losses.pieces.count_one(example.where, piece)
        if found is None:
            if not pieces and any(part.strip() for part in example.parts):
                texts = *example.parts, *example.others
                unseen = next((text for text in texts if not has_word(text)), texts[0])
                losses.texts.count_one(example.where, unseen)
            return []
        labels = self.model.labels
        try:
            return [(own, self.task.targets(found, own, labels)) for own in encodings]
        except UnknownLabels as error:
            if losses.unknown is None:
                raise
            losses.where = losses.where or example.where
            losses.unknown.update(error.labels)
            return []


@dataclass
class Lost:
    """Count of lost texts or parts of texts, and the first of them."""

    count: int = 0
    where: str = ""
    text: str = ""

    def count_one(self, where: str, text: str) -> None:
        """Count one more."""
        if not self.count:
            self.where, self.text = where, text
        self.count += 1


@dataclass
class Losses:
    """Parts of a data set that cannot be learned, with their sources."""

    texts: Lost = field(default_factory=Lost)
    """Examples with a text that has no tokens."""
    pieces: Lost = field(default_factory=Lost)
    """Tagged words, spans and answers without tokens."""
    unknown: Counter[str] | None = None
    """Labels that the model does not know, with their number of records; None to raise at once."""
    where: str = ""
    """Source of the first of these labels."""

    def note(self) -> None:
        """Log the number of dropped examples and parts, and the first of each."""
        for found, what in (
            (self.texts, "examples are left out, because one of their texts has no tokens"),
            (self.pieces, "tagged pieces and answers are left out, because they have no tokens"),
        ):
            if found.count:
                shown = ascii(found.text[:LONGEST_SHOWN])
                logger.warning("%s: %d, the first: %s, %s", what, found.count, found.where, shown)


def seen(
    task: Task, example: Example, encodings: Sequence[Any]
) -> tuple[Example | None, tuple[str, ...]]:
    """Return the part of an example that has tokens, if any; and the parts that have none."""
    if not encodings:
        return None, ()
    return task.with_tokens(example, encodings)


def _ids_of(sequence: ModelInput) -> tuple[np.ndarray, ...]:
    """Return the token ids that a model is given."""
    if isinstance(sequence, EncodedPair):
        return sequence.source.token_ids, sequence.given.token_ids
    return (sequence.token_ids,)


def text_number(sequence: ModelInput) -> int:
    """Return a number of 31 bits, equal for equal token sequences, and in every process."""
    return zlib.crc32(b"".join(ids.tobytes() for ids in _ids_of(sequence))) >> 1


def _lengths_of(sequence: ModelInput) -> tuple[int, ...]:
    """Return the number of tokens, or those of both sides of a pair."""
    if isinstance(sequence, EncodedPair):
        return len(sequence.source), len(sequence.given)
    return (len(sequence),)


def _assembled(members: list[list[Any]], shape: BatchShape) -> AnyBatch:
    size = {"row_count": shape.row_count, "slots": shape.slots}
    if shape.target_tokens is None:
        return assemble(members, row_tokens=shape.row_tokens, **size)
    return assemble_pairs(members, row_tokens=(shape.row_tokens, shape.target_tokens), **size)


def perturbed_by_row(
    data: Dataset,
    batch: AnyBatch,
    targets: Targets,
    loss_options: LossOptions,
    seeds: Sequence[tuple[int, ...]],
) -> tuple[AnyBatch, Targets]:
    """Apply the task's random corruption to a batch, with a separate seed for each row.

    So a row is changed in the same way, whichever batch and process it is in.
    """
    if data.task.corrupt is no_corruption:
        return batch, targets
    changed = []
    for index, seed in enumerate(seeds):
        row: tuple[Any, Targets] = jax.tree.map(
            lambda leaf, i=index: leaf[i : i + 1], (batch, targets)
        )
        random = np.random.default_rng(seed)
        changed.append(data.task.corrupt(*row, data.model, loss_options, random))
    joined: tuple[Any, Targets] = jax.tree.map(lambda *leaves: np.concatenate(leaves), *changed)
    return joined
