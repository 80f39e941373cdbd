"""Token classification: labelled spans of a text (names, dates, parts of speech).

Inside, every span becomes tags over tokens: `B-label` for its first token, `I-label` for the
others, `O` for what no span holds (Ramshaw & Marcus 1995, section 4.2, in the form IOB2). So the
same path serves character spans and tagged words, and answers are spans of the source text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from encodax.config import HeadKind, Problem
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks.task import (
    Example,
    Targets,
    check_known,
    checked_labels,
    classes_loss,
    encode_whole,
    index_of,
    text_of,
    the_one,
    unchanged,
)
from encodax.tokenizer import Encoding, check_unicode
from encodax.types import Span

NAME = "token-classification"
HEAD: HeadKind = "token"
FIELDS = ("text", "text_pair")
METRIC = "f1"
LARGER_IS_BETTER = True
PROBLEM: Problem = "single_label"
OPTIONS = frozenset({"label_smoothing"})
COUPLED = False
RECORD: frozenset[str] = frozenset()

OUTSIDE = "O"

Aggregation = Literal["none", "simple", "first", "average", "max"]
OF_WORD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda scores: scores[0],
    "simple": lambda scores: scores[0],
    "first": lambda scores: scores[0],
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores[scores.max(axis=-1).argmax()],
}
"""(tokens, C) probabilities of a word -> (C,)."""

encode = encode_whole
loss = classes_loss
merge = the_one
perturb = unchanged


def parse(record: Record, *, labelled: bool) -> Example:
    """`{"text": ..., "spans": [{"start", "end", "label"}]}` or `{"tokens": [...], "tags": [...]}`.

    Words are joined by a space into the text that spans refer to. A tag is `O`, or `B-label` and
    `I-label` for a span of several words, or any other name for a span of that one word.

    Raises:
        EncodaxError: a field is missing or of another kind, or spans overlap or leave the text.
    """
    where, fields = record.where, record.fields
    if "tokens" in fields:
        words = fields["tokens"]
        if not _is_strings(words) or not any(word.strip() for word in words):
            raise EncodaxError(f"{where}: 'tokens' wants a list of words")
        tags: Any = fields.get("tags") if labelled else [OUTSIDE] * len(words)
        if not _is_strings(tags) or len(tags) != len(words):
            raise EncodaxError(f"{where}: 'tags' wants a list of {len(words)} strings")
        check_unicode(" ".join(words), where)
        return Example(" ".join(words), _spans_of_words(words, tags), where)
    text = text_of(record)
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: token classification takes one text, not a pair")
    if not labelled:
        return Example(text, (), where)
    return Example(text, _checked_spans(fields.get("spans"), text, where), where)


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """`O`, and `B-` and `I-` of each label.

    Raises:
        EncodaxError: no example has a span.
    """
    seen = [(span.label, example.where) for example in examples for span in example.target]
    found = checked_labels(seen)
    return (OUTSIDE, *(f"{prefix}-{label}" for label in found for prefix in "BI"))


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """The class of every token; special tokens do not count.

    A token that a span covers in part belongs to it. Spans of no token are left out: those that
    `seen` tells of, and where a text was cut those beyond the cut.

    Raises:
        EncodaxError: the model does not know a label.
    """
    check_known([f"B-{span.label}" for span in example.target], labels, example.where)
    classes = np.full(len(encoding), index_of(OUTSIDE, labels, example.where), np.int32)
    for span in example.target:
        inside = tokens_in(span, encoding)
        begin = index_of(f"B-{span.label}", labels, example.where)
        continued = index_of(f"I-{span.label}", labels, example.where)
        classes[inside] = continued
        classes[inside[:1]] = begin
    return Targets(classes, (~encoding.is_special).astype(np.float32))


def seen(example: Example, encodings: Sequence[Encoding]) -> tuple[Example | None, tuple[str, ...]]:
    """The example without the spans that no token shows, such as a zero width space; and these.

    What is beyond the cut of a text that was cut is none of them.
    """
    (encoding,) = encodings
    last = int(encoding.offsets.max())
    shown: list[Span] = []
    unseen: list[str] = []
    for span in example.target:
        piece = str(example.text)[span.start : span.end]
        is_beyond = span.start >= last and re.search(r"\w", piece) is not None
        if is_beyond or len(tokens_in(span, encoding)):
            shown.append(span)
        else:
            unseen.append(piece)
    return replace(example, target=tuple(shown)), tuple(unseen)


def decode(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    aggregation: Aggregation = "simple",
    text: str = "",
) -> tuple[Span, ...]:
    """Spans from the probabilities of every token's tags.

    A span begins at a `B-` tag, or where another label (or none) comes before; its score is the
    mean probability of the tags of its parts. Tags without `B-` or `I-` are read as `I-`.

    Args:
        scores: probabilities of each token.
        encoding: the tokens.
        labels: the tags.
        aggregation: what has one tag. `none`: a token, and each is a span of its own; `simple`: a
            token. Or a word: `first` has the tag of its first token, `max` that of its surest,
            `average` the most probable one in the mean of its tokens.
        text: what was encoded, which tells words; for these three alone.
    """
    tags = tagged(scores, encoding, labels, aggregation, text)
    spans: list[list[Tagged]] = []
    previous = ""
    for part in tags:
        begins = part.tag.startswith("B-") or aggregation == "none"
        if part.tag != OUTSIDE and (begins or label_of(part.tag) != previous):
            spans.append([])
        if part.tag != OUTSIDE:
            spans[-1].append(part)
        previous = "" if part.tag == OUTSIDE else label_of(part.tag)
    return tuple(
        Span(
            start=span[0].start,
            end=span[-1].end,
            label=label_of(span[0].tag),
            score=float(np.mean([part.score for part in span])),
        )
        for span in spans
    )


@dataclass(frozen=True)
class Tagged:
    """A token or a word, and its tag."""

    start: int
    end: int
    tag: str
    score: float
    """The tag's probability."""


def tagged(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    aggregation: Aggregation,
    text: str,
) -> list[Tagged]:
    """Every token, or every word, with its most probable tag, `O` too; arguments as `decode`."""
    if aggregation in ("none", "simple"):
        parts = [[token] for token in np.flatnonzero(~encoding.is_special).tolist()]
    else:
        parts = words_of(text, encoding)
    found = []
    for part in parts:
        of_part = OF_WORD[aggregation](scores[part])  # (C,)
        best = int(of_part.argmax())
        start, end = int(encoding.offsets[part[0], 0]), int(encoding.offsets[part[-1], 1])
        found.append(Tagged(start, end, labels[best], float(of_part[best])))
    return found


def label_of(tag: str) -> str:
    """What a tag says of its tokens, without `B-` or `I-`."""
    return tag[2:] if tag[:2] in ("B-", "I-") else tag


def tokens_in(span: Span, encoding: Encoding) -> Int[np.ndarray, " tokens"]:
    """Indices of the tokens that share a character with the span."""
    starts, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
    return np.flatnonzero((starts < span.end) & (ends > span.start) & ~encoding.is_special)


def words_of(text: str, encoding: Encoding) -> list[list[int]]:
    """Tokens by words, as `Encoding.words` tells them."""
    words: dict[int, list[int]] = {}
    for token, word in enumerate(encoding.words(text).tolist()):
        if word:
            words.setdefault(word, []).append(token)
    return list(words.values())


def metrics(answers: Sequence[tuple[Span, ...]], examples: Sequence[Example]) -> dict[str, float]:
    """Precision, recall and F1 over spans: right where start, end and label are."""
    from nervaluate import Evaluator  # with the training extra

    right = [_without_scores(example.target) for example in examples]
    found = [_without_scores(answer) for answer in answers]
    names = sorted({span["label"] for spans in right + found for span in spans})
    strict = Evaluator(right, found, tags=names, loader="dict").evaluate()["overall"]["strict"]
    return {
        "f1": float(strict.f1),
        "precision": float(strict.precision),
        "recall": float(strict.recall),
    }


def to_json(answer: tuple[Span, ...]) -> dict[str, Any]:
    """`spans`, each with `start`, `end`, `label`, `score`."""
    return {"spans": [asdict(span) for span in answer]}


def _without_scores(spans: Sequence[Span]) -> list[dict[str, Any]]:
    # The library takes `end` for the last character: spans that touch would overlap.
    return [{"start": span.start, "end": span.end - 1, "label": span.label} for span in spans]


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _spans_of_words(words: Sequence[str], tags: Sequence[str]) -> tuple[Span, ...]:
    """The spans that tagged words stand for, in the text of the words joined by a space."""
    spans: list[Span] = []
    previous = OUTSIDE
    for (start, end), tag in zip(_places(words), tags, strict=True):
        prefix, label = (tag[0], tag[2:]) if tag[:2] in ("B-", "I-") else ("B", tag)
        if tag == OUTSIDE:
            pass
        elif prefix == "I" and previous[2:] == label and previous[:2] in ("B-", "I-"):
            spans[-1] = Span(spans[-1].start, end, label)
        else:
            spans.append(Span(start, end, label))
        previous = tag
    return tuple(spans)


def _places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def _checked_spans(value: Any, text: str, where: str) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise EncodaxError(f"{where}: wants 'spans', a list of objects with start, end and label")
    spans = []
    for item in value:
        match item:
            case {"start": int(start), "end": int(end), "label": str(label)}:
                spans.append(Span(start, end, label))
            case _:
                raise EncodaxError(f"{where}: a span wants start, end and label, not {item!r}")
    spans.sort(key=lambda span: span.start)
    end = 0
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise EncodaxError(
                f"{where}: the span {span.start}..{span.end} is not in its text, "
                f"which has {len(text)} characters"
            )
        if span.start < end:
            raise EncodaxError(f"{where}: the span {span.start}..{span.end} overlaps another")
        end = span.end
    return tuple(spans)
