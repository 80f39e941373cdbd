"""Extractive question answering: where in a context the answer to a question stands.

Two scores of every token say how well an answer begins and ends there (Devlin et al. 2019, section
4.2). A long context is read in overlapping windows; a window without the answer points to the
first token, `[CLS]`, whose score is that of no answer (section 4.3).
"""

from __future__ import annotations

import math
import re
import string
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from encodax.config import HeadKind, Problem
from encodax.data.cells import list_of
from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.model import Model
from encodax.nn.pooling import membership
from encodax.tasks.task import Example, Objective, Targets, instead_of, text_of, unchanged
from encodax.tokenizer import Encoding
from encodax.types import ModelOutput, PackedBatch

NAME = "question-answering"
HEAD: HeadKind = "span"
FIELDS = ("question", "context")
METRIC = "f1"
METRICS: tuple[str, ...] = ("f1", "exact_match")
PROBLEM: Problem = "single_label"
OPTIONS: frozenset[str] = frozenset()
COUPLED = False
RECORD: frozenset[str] = frozenset()

WINDOW = 384
"""Most tokens of a window, the question included."""
OVERLAP = 128
"""Tokens of the context that a window shares with the one before."""
LONGEST_ANSWER = 30
"""Most tokens of an answer."""
STARTS, ENDS = 1, 2
"""Bits of a token's class: an answer begins there, an answer ends there."""


@dataclass(frozen=True)
class Answer:
    """A piece of the context: `context[start:end]`, in characters."""

    text: str
    start: int
    end: int
    score: float
    """How well it begins and ends there, as a sum of two logits."""
    no_answer_score: float
    """The same of no answer: above `score`, the model rather thinks that there is none."""


def parse(record: Record, *, labelled: bool) -> Example:
    """`{"question": ..., "context": ..., "answers": [{"text": ..., "start": ...}]}`.

    `start` is the answer's first character in the context; SQuAD calls it `answer_start`, and the
    `datasets` library has lists of both: `{"text": [...], "answer_start": [...]}`. No answers at
    all means that the context has none, and so does `is_impossible`.

    Raises:
        EncodaxError: a field is missing or of another kind, or an answer is not where it says.
    """
    text = text_of(record, FIELDS)
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
        told = f"{record.where}: wants 'answers', a list of objects with text and start"
        raise EncodaxError(told + instead_of(record, "answers"))
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
            raise EncodaxError(f"{where}: an answer wants a text and its start, not {item!r}")


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """None: the two scores are always a start and an end."""
    return ()


def encode(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Windows of each example's context, each with the whole question: nothing is ever cut.

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


def seen(example: Example, encodings: Sequence[Encoding]) -> tuple[Example | None, tuple[str, ...]]:
    """The example, or None where its answer has no token in any window; and that answer."""
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
    """A pair cut into sequences of at most `limit` tokens, which overlap in the second text."""
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
    return encoding.pieces(1, room, min(OVERLAP, room // 2))


def _has_characters(encoding: Encoding) -> Bool[np.ndarray, " tokens"]:
    """False for tokens that stand for no character, such as a space alone."""
    found: np.ndarray = encoding.offsets[:, 0] < encoding.offsets[:, 1]
    return found


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Where the first answer begins and ends; at the first token where this window has none.

    The tokens that its ends fall into belong to it. A window has all of an answer, or none.
    """
    classes = np.zeros(len(encoding), np.int32)
    start = end = 0
    if example.target:
        answer = example.target[0]
        # Some answers of SQuAD have spaces around them, which are of no token.
        first = answer.end - len(answer.text.lstrip())
        last = answer.start + len(answer.text.rstrip())
        begins, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
        context = np.flatnonzero((encoding.sequence_ids == 1) & _has_characters(encoding))
        inside = context[(ends[context] > first) & (begins[context] < last)]
        # What no token is of, as an accent that is dropped, may stand at its ends.
        if len(inside) and (
            (begins[inside[0]] <= first or inside[0] > context[0])
            and (ends[inside[-1]] >= last or inside[-1] < context[-1])
        ):
            start, end = inside[0], inside[-1]
    classes[start] |= STARTS
    classes[end] |= ENDS
    return Targets(classes, (classes > 0).astype(np.float32))


perturb = unchanged


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, objective: Objective
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy of the start and of the end, each over the tokens of its own sequence."""
    logits = output.logits
    assert logits is not None
    member = membership(batch)[..., None] > 0  # (B, N, T, 1)
    own = jnp.where(member, logits[:, None].astype(jnp.float32), -1e30)  # (B, N, T, 2)
    log_scores = jnp.where(member, jax.nn.log_softmax(own, axis=2), 0.0).sum(axis=1)  # (B, T, 2)
    classes = jnp.asarray(targets.values)
    is_right = jnp.stack([classes & STARTS, classes & ENDS], axis=-1) > 0  # (B, T, 2)
    return -jnp.sum(log_scores * is_right) / 2, jnp.sum(is_right[..., 0].astype(jnp.float32))


def decode(
    scores: Float[np.ndarray, "tokens C"], encoding: Encoding, labels: tuple[str, ...]
) -> Answer:
    """The best answer of one window, without its text."""
    first, last = ends(scores, encoding)
    # A space that is a token may stand at either end, and is of no character.
    seen = first + np.flatnonzero(_has_characters(encoding)[first : last + 1])
    is_one = len(seen) > 0  # not so in a window of spaces
    return Answer(
        text="",
        start=int(encoding.offsets[seen[0], 0]) if is_one else 0,
        end=int(encoding.offsets[seen[-1], 1]) if is_one else 0,
        score=float(scores[first, 0] + scores[last, 1]) if is_one else -math.inf,
        no_answer_score=float(scores[0].sum()),
    )


def ends(scores: Float[np.ndarray, "tokens C"], encoding: Encoding) -> tuple[int, int]:
    """The tokens that the best answer of one window begins and ends with; it has a character."""
    context = np.flatnonzero(encoding.sequence_ids == 1)
    begins, finishes = encoding.offsets[context].T
    start, end = scores[context, 0], scores[context, 1]
    index = np.arange(len(context))
    length = index[None] - index[:, None]  # (start, end)
    allowed = (length >= 0) & (length < LONGEST_ANSWER)
    allowed &= begins[:, None] < finishes[None]  # spaces alone are no answer
    sums = np.where(allowed, start[:, None] + end[None], -np.inf)
    first, last = np.unravel_index(np.argmax(sums), sums.shape)
    return int(context[first]), int(context[last])


def merge(example: Example, answers: Sequence[Answer]) -> Answer:
    """The best answer of all windows; there is none only where every window says so."""
    best = max(answers, key=lambda answer: answer.score)
    nothing = min(answer.no_answer_score for answer in answers)
    text = example.text[1][best.start : best.end]
    return replace(best, text=text, no_answer_score=nothing)


def metrics(answers: Iterable[Answer], examples: Iterable[Example]) -> dict[str, float]:
    """Exact match, and F1 over words, of the best right answer of each question.

    Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1: case, punctuation and articles do not
    count. That a context has no answer can be said where some of these examples have none.
    """
    always = True
    of_texts, of_claims = _Shares(), _Shares()  # whether all have an answer is known at the end
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
        """Over the questions."""
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
    """`text`, `start`, `end`, `score`, `no_answer_score`, under `answer`."""
    return {"answer": asdict(answer)}
