"""Extractive question answering: find the answer to a question in a context.

Two scores of every token say how likely an answer starts and ends there (Devlin et al. 2019,
section 4.2). A long context is split into overlapping windows; in a window without the answer the
target is the first token, `[CLS]`, whose score is that of no answer (section 4.3).
"""

from __future__ import annotations

import itertools
import math
import re
import string
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from encodax.data.cells import list_of
from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.models.encoder_model import Model
from encodax.nn.kernels import numerics
from encodax.nn.pooling import membership
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.task import Decoding, Example, LossOptions, Targets, Task
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch

WINDOW = 384
"""Maximum number of tokens of a window, the question included."""
OVERLAP = 128
"""Number of context tokens that two consecutive windows share."""
LONGEST_ANSWER = 30
"""Default maximum number of tokens of an answer."""
STARTS, ENDS = 1, 2
"""Bits of a token's class: an answer starts there, an answer ends there."""


@dataclass(frozen=True)
class Answer:
    """Answer in the context: `context[start:end]`, in characters."""

    text: str
    start: int
    end: int
    score: float
    """Sum of the start logit and the end logit."""
    no_answer_score: float
    """Score of no answer; above `score`, the model finds that there is none."""
    alternatives: tuple[Answer, ...] = ()
    """Next best answers, best first, if `top_k` asks for them. All have different positions, and
    they may overlap."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"question": ..., "context": ..., "answers": [{"text": ..., "start": ...}]}`.

    `start` is the offset of the answer's first character in the context; SQuAD calls it
    `answer_start`, and the `datasets` library has lists of both: `{"text": [...], "answer_start":
    [...]}`. An empty list or `is_impossible` means that the context has no answer.

    Raises:
        EncodaxError: a field is missing or has a wrong type, or an answer is not at its offset.
    """
    text = text_of(record, ("question", "context"))
    if isinstance(text, str):
        raise EncodaxError(f"{record.where}: no field 'context'{instead_of(record, 'context')}")
    if not labelled:
        return Example(text, (), record.where)
    if record.fields.get("is_impossible") is True:
        return Example(text, (), record.where)
    answers = list_of(record, "answers", wants='[{"text": "Ada", "start": 10}]')
    match answers:
        case {"text": list(texts), "answer_start": list(starts)} if len(texts) == len(starts):
            pairs = zip(texts, starts, strict=True)
            answers = [{"text": text, "start": start} for text, start in pairs]
    if not isinstance(answers, list):
        message = f"{record.where}: needs 'answers', a list of objects with text and start"
        raise EncodaxError(message + instead_of(record, "answers"))
    return Example(text, tuple(_answer(a, text[1], record.where) for a in answers), record.where)


def _answer(item: Any, context: str, where: str) -> Answer:
    match item:
        case {"text": str(text), "start": int(start)} | {
            "text": str(text),
            "answer_start": int(start),
        } if text.strip():
            found = context[start : start + len(text)]
            if start < 0 or found != text:
                raise EncodaxError(
                    f"{where}: the answer {text!r} is not at character {start} of the context, "
                    f"which has {found!r} there"
                )
            return Answer(text, start, start + len(text), 0.0, 0.0)
        case _:
            raise EncodaxError(f"{where}: an answer needs a text and its start, not {item!r}")


def encode(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Split each context into windows, each with the full question: nothing is truncated.

    Raises:
        EncodaxError: a question leaves no room for the context.
    """
    limit = min(WINDOW, model.max_length or WINDOW)
    encodings = model.tokenizer.encode(
        [example.text for example in examples], [example.where for example in examples]
    )
    empty = [
        place
        for place, own in enumerate(encodings)
        if not ((own.sequence_ids == 1) & _has_characters(own)).any()
    ]
    if empty:
        raise EmptyText.of(examples[empty[0]].where, empty, "the context")
    pieces = [
        windows(encoding, limit, example.where)
        for encoding, example in zip(encodings, examples, strict=True)
    ]
    return pieces, 0


def with_tokens(
    example: Example, encodings: Sequence[Encoding]
) -> tuple[Example | None, tuple[str, ...]]:
    """Return the example, or None if its answer has no token in any window, and that answer."""
    if not example.target:
        return example, ()
    answer = example.target[0]
    is_shown = any(
        (
            (own.sequence_ids == 1)
            & (own.offsets[:, 1] > answer.start)
            & (own.offsets[:, 0] < answer.end)
        ).any()
        for own in encodings
    )
    return (example, ()) if is_shown else (None, (answer.text,))


def windows(encoding: Encoding, limit: int, where: str) -> list[Encoding]:
    """Split a pair into sequences of at most `limit` tokens that overlap in the second text."""
    is_context = encoding.sequence_ids == 1
    others = int(np.count_nonzero(~is_context))
    if not np.any(is_context & _has_characters(encoding)):
        raise EmptyText.of(where, what="the context")
    room = limit - others
    if room < 2:
        raise EncodaxError(
            f"{where}: the question has {others} tokens, and of {limit} none is left for the "
            "context; shorten the question"
        )
    return encoding.windows(1, room, min(OVERLAP, room // 2))


def _has_characters(encoding: Encoding) -> Bool[np.ndarray, " tokens"]:
    """Return False for tokens without characters, such as a single space."""
    found: np.ndarray = encoding.offsets[:, 0] < encoding.offsets[:, 1]
    return found


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return start and end of the first answer; the first token if this window has none.

    Tokens that the answer covers in part belong to it. A window has the full answer, or none.
    """
    classes = np.zeros(len(encoding), np.int32)
    start = end = 0
    if example.target:
        answer = example.target[0]
        # Some answers of SQuAD begin or end with spaces, which belong to no token.
        first = answer.end - len(answer.text.lstrip())
        last = answer.start + len(answer.text.rstrip())
        begins, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
        context = np.flatnonzero((encoding.sequence_ids == 1) & _has_characters(encoding))
        inside = context[(ends[context] > first) & (begins[context] < last)]
        # Characters without a token, such as a dropped accent, may be at either end.
        if len(inside) and (
            (begins[inside[0]] <= first or inside[0] > context[0])
            and (ends[inside[-1]] >= last or inside[-1] < context[-1])
        ):
            start, end = inside[0], inside[-1]
    classes[start] |= STARTS
    classes[end] |= ENDS
    return Targets(classes, (classes > 0).astype(np.float32))


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross entropy of start and end, over the tokens of the same sequence."""
    logits = output.logits
    assert logits is not None
    member = membership(batch)[..., None] > 0  # (B, N, T, 1)
    own = jnp.where(
        member, logits[:, None].astype(jnp.float32), numerics.MASK_VALUE
    )  # (B, N, T, 2)
    log_scores = jnp.where(member, jax.nn.log_softmax(own, axis=2), 0.0).sum(axis=1)  # (B, T, 2)
    classes = jnp.asarray(targets.values)
    is_right = jnp.stack([classes & STARTS, classes & ENDS], axis=-1) > 0  # (B, T, 2)
    return -jnp.sum(log_scores * is_right) / 2, jnp.sum(is_right[..., 0].astype(jnp.float32))


@dataclass(frozen=True)
class AnswerDecoding(Decoding):
    """Options for answers from the scores of tokens."""

    top_k: int = 1
    """Number of answers: the best one, and the next best as its `alternatives`. They differ in
    start or end, and may overlap, as in the pipeline of transformers."""
    max_answer_tokens: int = LONGEST_ANSWER
    """Maximum number of tokens of an answer."""

    def __post_init__(self) -> None:
        for name in ("top_k", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise EncodaxError(f"{name} {getattr(self, name)} is below 1")

    def answer(
        self,
        task: Task,
        example: Example,
        sequences: Sequence[Encoding],
        scores: Sequence[Float[np.ndarray, "_ C"]],
        labels: tuple[str, ...],
    ) -> Answer:
        """Return the best answers of all windows of a context."""
        decoded = [
            decode(own, window, labels, self.top_k, self.max_answer_tokens)
            for own, window in zip(scores, sequences, strict=True)
        ]
        return merge(example, decoded, self.top_k)


def decode(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    top_k: int = 1,
    max_answer_tokens: int = LONGEST_ANSWER,
) -> Answer:
    """Return the best answer of one window, with the next best as alternatives, without texts.

    All differ in their characters, even if tokens without characters are at their ends.
    """
    nothing = float(scores[0].sum())
    found: dict[tuple[int, int], Answer] = {}
    for first, last in _best_ends(scores, encoding, top_k, max_answer_tokens):
        # A space that is a token may be at either end, and has no characters.
        seen = first + np.flatnonzero(_has_characters(encoding)[first : last + 1])
        if len(seen):
            place = int(encoding.offsets[seen[0], 0]), int(encoding.offsets[seen[-1], 1])
            score = float(scores[first, 0] + scores[last, 1])
            found.setdefault(place, Answer("", *place, score, nothing))
        if len(found) == top_k:
            break
    if not found:  # the window has only spaces
        return Answer("", 0, 0, -math.inf, nothing)
    best, *others = found.values()
    return replace(best, alternatives=tuple(others))


def ends(scores: Float[np.ndarray, "tokens C"], encoding: Encoding) -> tuple[int, int]:
    """Return the first and last token of the best answer of one window; it has a character."""
    return next(_best_ends(scores, encoding, 1, LONGEST_ANSWER))


def _best_ends(
    scores: Float[np.ndarray, "tokens C"], encoding: Encoding, count: int, longest: int
) -> Iterator[tuple[int, int]]:
    """Yield first and last tokens of answers with a character, best first; about `count` of them.

    In a window of spaces there is none, and only its first token is given.
    """
    context = np.flatnonzero(encoding.sequence_ids == 1)
    start, end = scores[context, 0], scores[context, 1]
    index = np.arange(len(context))
    length = index[None] - index[:, None]  # (start, end)
    is_seen = _has_characters(encoding)[context]
    seen = np.cumsum(is_seen)
    allowed = (length >= 0) & (length < longest)
    allowed &= seen[None] > (seen - is_seen)[:, None]  # spaces alone are no answer
    sums = np.where(allowed, start[:, None] + end[None], -np.inf)
    for place in _largest(sums.ravel(), count):
        first, last = divmod(place, len(context))
        yield int(context[first]), int(context[last])


def _largest(numbers: Float[np.ndarray, " n"], count: int) -> Iterator[int]:
    """Yield the indices of the largest numbers, largest first, ties in order; without `-inf`.

    The first is found in one pass. Then `count` are sorted, and each time four times as many.
    """
    yield int(np.argmax(numbers))
    given, available = 1, int(np.count_nonzero(numbers > -np.inf))
    while given < available:
        count = min(count, available)
        threshold = np.partition(numbers, -count)[-count]
        places = np.flatnonzero(numbers >= threshold)
        in_order = places[np.argsort(-numbers[places], kind="stable")]
        yield from in_order[given:].tolist()
        given, count = len(in_order), 4 * count


def merge(example: Example, answers: Sequence[Answer], top_k: int = 1) -> Answer:
    """Return the best answers of all windows; no answer only if every window has none.

    An answer that several windows contain is given once, with its best score.
    """
    nothing = min(answer.no_answer_score for answer in answers)
    given = [each for answer in answers for each in (answer, *answer.alternatives)]
    found: dict[tuple[int, int], Answer] = {}
    for each in sorted(given, key=lambda answer: -answer.score):
        text = example.text[1][each.start : each.end]
        whole = replace(each, text=text, no_answer_score=nothing, alternatives=())
        found.setdefault((each.start, each.end), whole)
    best, *others = itertools.islice(found.values(), top_k)
    return replace(best, alternatives=tuple(each for each in others if each.score > -math.inf))


def metrics(answers: Iterable[Answer], examples: Iterable[Example]) -> dict[str, float]:
    """Return exact match and F1 over words, each with the best-matching right answer.

    Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1: case, punctuation and articles do not
    count. "No answer" can only be predicted if some of these examples have none.
    """
    always = True
    of_texts, of_claims = _Shares(), _Shares()  # known only at the end: have all an answer?
    for answer, example in zip(answers, examples, strict=True):
        always &= bool(example.target)
        right = [_words(truth.text) for truth in example.target] or [[]]
        of_texts.add(_words(answer.text), right)
        of_claims.add(_words(answer.text if answer.score > answer.no_answer_score else ""), right)
    return (of_texts if always else of_claims).means()


class _Shares:
    """Exact match and F1 of each question."""

    def __init__(self) -> None:
        self._exact, self._f1 = array("d"), array("d")

    def add(self, found: list[str], right: list[list[str]]) -> None:
        """Compare the words of an answer with those of each right one."""
        self._exact.append(max(float(found == words) for words in right))
        self._f1.append(max(_overlap(found, words) for words in right))

    def means(self) -> dict[str, float]:
        """Return the means over the questions."""
        return {"exact_match": float(np.mean(self._exact)), "f1": float(np.mean(self._f1))}


def _words(text: str) -> list[str]:
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return [word for word in re.split(r"\s+", plain) if word not in ("", "a", "an", "the")]


def _overlap(found: list[str], right: list[str]) -> float:
    if not found or not right:
        return float(found == right)
    common = sum((Counter(found) & Counter(right)).values())
    return 2 * common / (len(found) + len(right))


def to_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON field `answer`, with position, scores and any `alternatives`."""
    return {"answer": _fields(answer)}


def _fields(answer: Answer) -> dict[str, Any]:
    fields = dict(vars(answer))
    alternatives = fields.pop("alternatives")
    return {**fields, **({"alternatives": [*map(_fields, alternatives)]} if alternatives else {})}


TASK = Task(
    name="question-answering",
    head="span",
    text_fields=("question", "context"),
    metric_names=("f1", "exact_match"),
    parse=parse,
    encode=encode,
    with_tokens=with_tokens,
    targets=targets,
    loss=loss,
    decode=decode,
    decoding=AnswerDecoding,
    merge=merge,
    metrics=metrics,
    no_answer={"answer": None},
    to_json=to_json,
    has_known_shapes=True,
)
