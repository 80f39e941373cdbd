"""Sentence embeddings: similar texts get vectors that are close to each other.

Training data are anchors with positives and optional negatives, or pairs with a score. Vectors are
compared by cosine within the whole batch: the losses take the slots of all micro-batches and
devices; empty slots do not count.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from encodax.data import cells
from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.models.encoder_model import Model
from encodax.nn import functional
from encodax.nn.kernels import numerics
from encodax.tasks.evaluation_data import all_alike, warn, warn_if_alike
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.regression import correlations, number_of
from encodax.tasks.task import Example, LossOptions, SimilarityLoss, Targets, Task, number_of_text
from encodax.text.tokenizer import Encoding
from encodax.types.batches import AnyArray, ModelOutput, PackedBatch

SCORE = "score"
"""Spearman's correlation of cosines and scores; for anchors with positives, the mean reciprocal
rank."""
ANCHOR, POSITIVE = 0, 1
"""Indices of the anchor and the positive in an example; from 2 on there are hard negatives."""
MEASURED_TOGETHER = 32
"""Number of examples in a batch when an evaluation computes the loss."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"anchor", "positive", "negatives": [...]}` or `{"text", "text_pair", "score"}`.

    `negatives` are hard negatives; `negative` is a single one. A score is the similarity of a pair
    in any unit: only its order counts, and for the loss `cosine` its value, from -1 to 1.

    Raises:
        EncodaxError: a field is missing or has a wrong type.
    """
    fields, where = record.fields, record.where
    if "anchor" in fields or "positive" in fields:
        anchor, positive = _pair(record, ("anchor", "positive"))
        return Example(anchor, None, where, (positive, *_negatives(record)))
    if "text_pair" not in fields:
        raise EncodaxError(
            f"{where}: needs 'anchor' and 'positive', or 'text', 'text_pair' and 'score'"
            + instead_of(record, "anchor")
        )
    first, second = _pair(record, ("text", "text_pair"))
    return Example(first, number_of(record, "score"), where, (second,))


@dataclass(frozen=True)
class Document(Example):
    """Text of a corpus."""

    id: str | None = None
    """Identifier in the corpus, if there is one."""


def document_of(record: Record) -> Document:
    """Parse a text of a corpus: its `text`; in BEIR records with `_id`, title and text joined.

    Raises:
        EncodaxError: there is no text, or a pair, or it is not a string.
    """
    name = record.fields.get("_id")
    if name is not None:
        title, own = record.fields.get("title"), record.fields.get("text")
        if isinstance(title, str) and isinstance(own, str):
            record = Record({"text": f"{title} {own}".strip()}, record.where)
    text = text_of(record)
    if not isinstance(text, str):
        raise EncodaxError(f"{record.where}: needs one text, not a pair")
    return Document(text, None, record.where, id=None if name is None else str(name))


def _pair(record: Record, names: tuple[str, str]) -> tuple[str, str]:
    text = text_of(record, names)
    if isinstance(text, str):
        message = f"{record.where}: no field {names[1]!r}"
        raise EncodaxError(message + instead_of(record, names[1]))
    return text


def _negatives(record: Record) -> tuple[str, ...]:
    if {"negative", "negatives"} <= record.fields.keys():
        raise EncodaxError(f"{record.where}: give 'negative' or 'negatives', not both")
    found = record.fields.get("negatives", record.fields.get("negative", []))
    if isinstance(found, str):
        texts = cells.listed(found)
        is_list = texts is not None and all(isinstance(text, str) for text in texts)
        found = texts if is_list else [found]
    if not isinstance(found, list):
        raise EncodaxError(f"{record.where}: 'negatives' needs a list of texts")
    return tuple(str(text_of(Record({"text": text}, record.where))) for text in found)


def with_default_loss(
    loss_options: LossOptions, examples: Sequence[Example], width: int
) -> LossOptions:
    """Choose the loss by the data, if none is given.

    Raises:
        EncodaxError: the loss does not fit the data, or a width does not fit the vectors.
    """
    check_widths(loss_options.widths, width)
    is_scored = examples[0].target is not None
    kind = loss_options.similarity_loss or loss_for(examples)
    if (kind != "ranking") != is_scored:
        given = "pairs with scores" if is_scored else "texts without scores"
        other = "cosent or cosine" if is_scored else "ranking"
        raise EncodaxError(f"similarity_loss {kind} is not for {given}: choose {other}")
    for example in examples if kind == "cosine" else ():
        if not -1 <= example.target <= 1:
            raise EncodaxError(
                f"{example.where}: the score {example.target:g} is not a cosine, from -1 to 1: "
                "scale the scores, or choose similarity_loss cosent, which uses only their order"
            )
    return replace(loss_options, similarity_loss=kind)


def loss_options_for(
    options: LossOptions, examples: Sequence[Example], model: Model, batch_size: int | None
) -> LossOptions:
    """Choose the loss by the data, as `with_default_loss`, and check that a batch can be compared.

    Raises:
        EncodaxError: the loss does not fit the data, or no two texts differ.
    """
    options = with_default_loss(options, examples, model.vector_width)
    key = lambda text: token_key(model.tokenizer.encode([text])[0])  # noqa: E731
    check_comparable(options, examples, batch_size, key)
    return options


def check_evaluation(examples: Iterable[Example]) -> None:
    """Warn if all scores are equal, or if all anchors have the same positive."""
    first = next(iter(examples), None)
    if first is None or first.target is not None:
        warn_if_alike(examples)
    elif all_alike(example.others[0] for example in examples):
        warn("every example has the same positive, which is always the nearest")


def loss_for(examples: Sequence[Example]) -> SimilarityLoss:
    """Return the default loss for data."""
    return "ranking" if examples[0].target is None else "cosent"


def check_comparable(
    loss_options: LossOptions,
    examples: Sequence[Example],
    batch_size: int | None,
    read: Callable[[str], object] = str,
) -> None:
    """Refuse data and batches with nothing to compare, where the loss would stay at 0.

    Args:
        loss_options: loss options, with the loss chosen.
        examples: training examples.
        batch_size: number of examples in a batch, if given.
        read: function to a text as the model sees it.

    Raises:
        EncodaxError: all examples are alike, or an example would be alone in its batch.
    """
    if loss_options.similarity_loss == "cosine":
        return
    is_ranking = loss_options.similarity_loss == "ranking"
    if batch_size == 1 or len(examples) == 1:
        alone = next((each for each in examples if len(each.others) == 1), None)
        if alone is not None:
            way = "a data set of more examples" if len(examples) == 1 else "a batch_size above 1"
            or_so = ", or negatives for each" if is_ranking else ", or similarity_loss cosine"
            raise EncodaxError(
                f"{alone.where}: the loss {loss_options.similarity_loss} compares examples of a "
                f"batch with each other, and this one would be alone: give {way}{or_so}"
            )
    if not is_ranking:
        if all_alike(example.target for example in examples):
            message = f"every example has the score {examples[0].target:g}"
            raise EncodaxError(
                f"{message}, so there is nothing to learn: add examples with another score"
            )
        return
    for what, texts in (
        ("anchor", ((each.text, *each.others[1:]) for each in examples)),
        ("positive", (each.others for each in examples)),
    ):
        if all_alike(read(str(text)) for own in texts for text in own):
            raise EncodaxError(
                f"every example has the same {what}, so there is nothing to learn: add examples "
                "with another"
            )


def token_key(encoding: Encoding) -> str:
    """Return a string that is equal for texts that the model cannot tell apart, as "a" and "A "."""
    return encoding.token_ids.tobytes().hex()


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return no labels.

    Raises:
        EncodaxError: only some of the examples have scores.
    """
    is_scored = None
    for example in examples:
        if is_scored is None:
            is_scored = example.target is not None
        if (example.target is not None) != is_scored:
            first = "pairs with scores" if is_scored else "texts without scores"
            raise EncodaxError(
                f"{example.where}: the data started with {first}: give only one kind"
            )
    return ()


def encode(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Return a sequence for each text of an example: the anchor, the positive, the negatives."""
    texts = [text for example in examples for text in (example.text, *example.others)]
    names = [example.where for example in examples for _ in (example.text, *example.others)]
    owners = [i for i, example in enumerate(examples) for _ in (example.text, *example.others)]
    try:
        encodings, cut = model.encode(texts, truncate=truncate, names=names)
    except EmptyText as error:  # the index is that of a text, not of an example
        error.places = tuple(dict.fromkeys(owners[place] for place in error.places))
        raise
    rest = iter(encodings)
    return [[next(rest) for _ in (example.text, *example.others)] for example in examples], cut


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return the score of the pair that a text belongs to; NaN if there is none."""
    score = np.nan if example.target is None else example.target
    return Targets(np.asarray(score, np.float32), np.asarray(1.0, np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the loss over the slots of a whole batch; leaves are (A, B, N, ...).

    With Matryoshka widths (Kusupati et al. 2022, section 3) it is the mean of the losses of the
    full vectors and of their truncations.
    """
    assert output.vectors is not None
    return _loss_of_slots(output.vectors, targets, loss_options)


def _loss_of_slots(
    vectors: Float[AnyArray, "*slots E"], targets: Targets, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    assert targets.example_numbers is not None
    assert targets.sequence_indices is not None
    vectors = jnp.asarray(vectors).reshape(-1, vectors.shape[-1]).astype(jnp.float32)  # (S, E)
    texts = np.arange(len(vectors)) if targets.text_hashes is None else targets.text_hashes
    groups, pieces, texts, scores = (
        jnp.asarray(leaf).reshape(-1)
        for leaf in (targets.example_numbers, targets.sequence_indices, texts, targets.values)
    )  # (S,)
    widths = (*loss_options.widths, vectors.shape[-1])
    found = [
        _loss_of(functional.unit(vectors[:, :width]), groups, pieces, texts, scores, loss_options)
        for width in widths
    ]
    return sum((total for total, _ in found), jnp.zeros(())) / len(found), found[0][1]


def check_widths(widths: Sequence[int], width: int) -> None:
    """Refuse widths that vectors cannot be truncated to.

    Raises:
        EncodaxError: a width is not below that of the vectors.
    """
    for own in widths:
        if not 0 < own < width:
            raise EncodaxError(f"widths: {own} is not in 1..{width - 1}: vectors have {width}")


def _loss_of(
    vectors: Float[Array, "S E"],
    groups: Array,
    pieces: Array,
    texts: Array,
    scores: Array,
    loss_options: LossOptions,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    if loss_options.similarity_loss == "ranking":
        return ranking(vectors, groups, pieces, texts, loss_options.similarity_scale)
    pairs = pair_cosines(vectors, groups, pieces, scores)
    if loss_options.similarity_loss == "cosine":
        return cosine(*pairs)
    return cosent(*pairs, loss_options.similarity_scale)


def ranking(
    vectors: Float[Array, "S E"], groups: Array, pieces: Array, texts: Array, scale: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Rank the positive of each anchor first among all positives and hard negatives of the batch.

    -log exp(c s(a, p)) / sum_q exp(c s(a, q)),  s the cosine, c the scale

    as (sum over anchors, number of anchors). Henderson et al. 2017, arXiv:1705.00652, section 4.4.
    A positive of the same anchor in another example of the batch is no negative (`_belongs`).

    Args:
        vectors: vectors of length 1.
        groups: number of the example of each slot, 0 for an empty slot.
        pieces: index of the text in its example.
        texts: number that equal texts share.
        scale: c.
    """
    similarity = scale * jnp.matmul(vectors, vectors.T, precision="highest")  # (S, S)
    is_anchor = (groups > 0) & (pieces == ANCHOR)  # (S,)
    is_right = (groups[:, None] == groups) & (groups > 0) & (pieces == POSITIVE)  # (S, S)
    is_negative = (groups > 0) & (pieces != ANCHOR) & ~_belongs(is_right, is_anchor, texts)
    is_candidate = is_right | is_negative  # (S, S)
    scores = jax.nn.log_softmax(jnp.where(is_candidate, similarity, numerics.MASK_VALUE), axis=1)
    total = -jnp.sum(jnp.where(is_anchor[:, None] & is_right, scores, 0.0))
    return total, jnp.sum(is_anchor.astype(jnp.float32))


def _belongs(
    is_right: Bool[Array, "S S"], is_anchor: Bool[Array, " S"], texts: Array
) -> Bool[Array, "S S"]:
    """Return whether a slot's text equals an anchor, or one of its positives in the batch.

    Equal anchors share their positives, and equal positives count once.
    """
    is_same = texts[:, None] == texts  # (S, S)
    of_equal = jnp.matmul((is_same & is_anchor).astype(jnp.float32), is_right.astype(jnp.float32))
    return is_same | (jnp.matmul(of_equal, is_same.astype(jnp.float32)) > 0)


def pair_cosines(
    vectors: Float[Array, "S E"], groups: Array, pieces: Array, scores: Array
) -> tuple[Float[Array, " S"], Float[Array, " S"], Bool[Array, " S"]]:
    """Return for each slot the cosine with its partner, the score, and whether it has a pair.

    A pair is counted once, at its first text.
    """
    is_other = (groups[:, None] == groups) & (pieces == POSITIVE)  # (S, S)
    similarity = jnp.matmul(vectors, vectors.T, precision="highest")  # (S, S)
    cosines = jnp.sum(jnp.where(is_other, similarity, 0.0), axis=1)  # (S,)
    is_pair = (groups > 0) & (pieces == ANCHOR) & jnp.isfinite(scores)
    return cosines, jnp.where(is_pair, scores, 0.0), is_pair


def cosent(
    cosines: Float[Array, " S"], scores: Float[Array, " S"], is_pair: Array, scale: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute CoSENT: pairs with higher scores should have higher cosines; only the order counts.

    log(1 + sum_{i, j: y_i > y_j} exp(c (s_j - s_i)))

    It is one number for a batch, weighted by the number of pairs (Su 2022, CoSENT).
    """
    is_wrong_way = (scores[:, None] > scores) & is_pair[:, None] & is_pair  # (S, S)
    excess = jnp.where(
        is_wrong_way, scale * (cosines - cosines[:, None]), numerics.MASK_VALUE
    )  # s_j - s_i
    loss = jax.nn.logsumexp(jnp.concatenate([jnp.zeros(1), excess.reshape(-1)]))
    weight = jnp.sum(is_pair.astype(jnp.float32))
    return loss * weight, weight


def cosine(
    cosines: Float[Array, " S"], scores: Float[Array, " S"], is_pair: Array
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the squared difference of cosine and score (Reimers & Gurevych 2019, section 3)."""
    squares = jnp.where(is_pair, jnp.square(cosines - scores), 0.0)
    return jnp.sum(squares), jnp.sum(is_pair.astype(jnp.float32))


def decode(
    scores: Float[np.ndarray, " E"], encoding: Encoding, labels: tuple[str, ...]
) -> Float[np.ndarray, " E"]:
    """Return the vector itself."""
    return np.asarray(scores)


def merge(example: Example, answers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the vectors of all texts of an example."""
    return list(answers)


def metrics(
    answers: Iterable[Sequence[np.ndarray]],
    examples: Iterable[Example],
    widths: Sequence[int] = (),
) -> dict[str, float]:
    """Return metrics of the cosines, for the full vectors and for truncated ones.

    For pairs with scores: Spearman's and Pearson's correlation of cosines and scores. For anchors
    with positives: the share of anchors whose positive is nearest among the positives of all
    examples (`accuracy`), and the mean of 1 / its rank (`mrr`). Equal texts count once, other
    positives of the same anchor are left out, and of equal cosines half count as nearer, so that
    constant vectors do not score best.
    """
    pairs = zip(answers, examples, strict=True)
    first = next(pairs)
    of = _correlations if first[1].target is not None else _ranks
    return of(itertools.chain([first], pairs), widths)


Answered = Iterable[tuple[Sequence[np.ndarray], Example]]


def _correlations(pairs: Answered, widths: Sequence[int]) -> dict[str, float]:
    cosines = [array("d") for _ in (None, *widths)]
    wanted = array("d")
    for vectors, example in pairs:
        wanted.append(example.target)
        for own, width in zip(cosines, (None, *widths), strict=True):
            anchor, positive = _units(vectors[: POSITIVE + 1], width)
            own.append(float(np.sum(anchor * positive)))
    found: dict[str, float] = {}
    for own, width in zip(cosines, (None, *widths), strict=True):
        metrics = correlations(np.asarray(own), np.asarray(wanted))
        found |= _named({SCORE: metrics["spearman"], **metrics}, width)
    return found


def metrics_of(examples: Sequence[Example], widths: Sequence[int] = ()) -> tuple[str, ...]:
    """Return the names of the metrics of a data set."""
    rest = ("mrr", "accuracy") if examples[0].target is None else ("spearman", "pearson")
    names = (SCORE, *rest)
    return (*names, *(f"{name}_{width}" for width in widths for name in names))


class MeanLoss:
    """Mean loss of computed vectors, over batches of consecutive examples.

    Data of another kind than the training data (with or without scores) gets its default loss.
    """

    def __init__(self, loss_options: LossOptions):
        """Start without any vectors."""
        self._loss_options = loss_options
        self._waiting: list[tuple[Sequence[np.ndarray], Example]] = []
        self._sums = np.zeros(2)

    def add(self, vectors: Sequence[np.ndarray], example: Example) -> None:
        """Add the vectors of an example: the anchor, the positive, the negatives."""
        self._waiting.append((vectors, example))
        if len(self._waiting) == MEASURED_TOGETHER + 2:  # the last batch then has at least 2
            self._measure(self._waiting[:MEASURED_TOGETHER])
            del self._waiting[:MEASURED_TOGETHER]

    def value(self) -> float:
        """Return the mean loss of all vectors added."""
        if self._waiting:
            self._measure(self._waiting)
            self._waiting = []
        return float(self._sums[0] / self._sums[1])

    def _measure(self, chosen: Sequence[tuple[Sequence[np.ndarray], Example]]) -> None:
        answers, examples = zip(*chosen, strict=True)
        loss_options, suits = self._loss_options, loss_for(examples)
        if loss_options.similarity_loss in (None, "ranking") or suits == "ranking":
            loss_options = replace(loss_options, similarity_loss=suits)
        vectors, targets = _slots_of(answers, examples)
        self._sums += [float(found) for found in _compiled_loss(vectors, targets, loss_options)]


_compiled_loss = jax.jit(_loss_of_slots, static_argnames="loss_options")


def _slots_of(
    answers: Sequence[Sequence[np.ndarray]], examples: Sequence[Example]
) -> tuple[Float[np.ndarray, "S E"], Targets]:
    """Return vectors in slots, padded to a power of two, with their examples and texts."""
    texts = [text for example in examples for text in (example.text, *example.others)]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    slots = 1 << (len(texts) - 1).bit_length()
    vectors = np.zeros((slots, len(answers[0][0])), np.float32)
    groups, pieces, same = np.zeros((3, slots), np.int32)
    scores = np.full(slots, np.nan, np.float32)
    vectors[: len(texts)] = [vector for each in answers for vector in each]
    same[: len(texts)] = [numbers[text] for text in texts]
    place = 0
    for group, example in enumerate(examples, 1):
        own = slice(place, place + 1 + len(example.others))
        groups[own], pieces[own] = group, np.arange(1 + len(example.others))
        scores[own] = np.nan if example.target is None else example.target
        place = own.stop
    return vectors, Targets(scores, (groups > 0).astype(np.float32), groups, pieces, same)


def _ranks(pairs: Answered, widths: Sequence[int]) -> dict[str, float]:
    """Compute the ranking metrics, keeping two vectors and two hashes of texts for each pair."""
    anchors, positives = array("f"), array("f")
    askers, texts = array("q"), array("q")
    for vectors, example in pairs:
        anchors.extend(vectors[ANCHOR].tolist())
        positives.extend(vectors[POSITIVE].tolist())
        askers.append(number_of_text(str(example.text)))
        texts.append(number_of_text(example.others[0]))
    asked, wanted = (np.asarray(rows).reshape(len(texts), -1) for rows in (anchors, positives))
    found: dict[str, float] = {}
    for width in (None, *widths):
        found |= _named(
            _ranks_of(asked, wanted, np.asarray(askers), np.asarray(texts), width), width
        )
    return found


def _ranks_of(
    anchors: Float[np.ndarray, "n E"],
    positives: Float[np.ndarray, "n E"],
    askers: np.ndarray,
    texts: np.ndarray,
    width: int | None,
) -> dict[str, float]:
    _, rows, places = np.unique(texts, return_index=True, return_inverse=True)
    candidates = _units(positives[rows], width)  # (candidates, E): equal texts count once
    order = np.argsort(askers, kind="stable")  # examples of one anchor become adjacent
    begins, ends = (np.searchsorted(askers[order], askers, side) for side in ("left", "right"))
    ranks = np.empty(len(anchors))
    for index, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        scores = candidates @ _units(anchors[index : index + 1], width)[0]  # (candidates,)
        others = np.delete(scores, places[order[begin:end]])
        right = scores[places[index]]
        ranks[index] = 1 + np.sum(others > right) + np.sum(others == right) / 2
    mrr = float(np.mean(1 / ranks))
    return {SCORE: mrr, "mrr": mrr, "accuracy": float(np.mean(ranks == 1))}


def _named(found: dict[str, float], width: int | None) -> dict[str, float]:
    """Return metrics under their names, with the width as a suffix for truncated vectors."""
    return {name if width is None else f"{name}_{width}": value for name, value in found.items()}


def _units(vectors: Any, width: int | None) -> Float[np.ndarray, "n E"]:
    """Return vectors, truncated to `width` if given, scaled to length 1."""
    rows = np.asarray(vectors, np.float64)[:, :width]
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def to_json(answer: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the JSON field `vectors`."""
    return {"vectors": [vector.tolist() for vector in answer]}


TASK = Task(
    name="embedding",
    head="embedding",
    text_fields=("anchor", "positive"),
    metric_names=(SCORE, "spearman", "pearson", "mrr", "accuracy"),  # `metrics_of` a data set
    metric_names_for=lambda examples, options: metrics_of(examples, options.widths),
    options=frozenset({"similarity_loss", "similarity_scale", "widths"}),
    parse=parse,
    labels=labels,
    loss_options_for=loss_options_for,
    compares_examples=True,
    encode=encode,
    targets=targets,
    loss=loss,
    decode=decode,
    merge=merge,
    metrics=metrics,
    check_evaluation=check_evaluation,
    to_json=to_json,
)
