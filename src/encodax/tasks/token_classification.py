"""Token classification: labelled spans of a text (names, dates), or a label of each word.

Inside, every span becomes tags over tokens, by default `B-label` for its first token, `I-label` for
the others, `O` for what no span holds (Ramshaw & Marcus 1995, section 4.2, in the form IOB2); a
model whose labels are of another scheme keeps it. So the same path serves character spans and
tagged words, and answers are spans of the source text. Labels without a scheme and without `O` are
of words (parts of speech): a word has that of its first token, and each is a span.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from encodax.config import HeadKind, Problem
from encodax.data.cells import list_of
from encodax.data.sources import Record
from encodax.errors import EncodaxError, TooLong
from encodax.models.encoder_model import Model
from encodax.tasks import tag_schemes
from encodax.tasks.classification import measured
from encodax.tasks.tag_schemes import IOB, OUTSIDE, SchemeName, TagScheme
from encodax.tasks.task import (
    Decoding,
    Example,
    Targets,
    Task,
    check_known,
    checked_labels,
    classes_loss,
    encode_whole,
    index_of,
    instead_of,
    no_corruption,
    single_answer,
    text_of,
)
from encodax.text.tokenizer import Encoding, check_unicode
from encodax.types.batches import Span

NAME = "token-classification"
HEAD: HeadKind = "token"
FIELDS = ("text", "text_pair")
METRIC = "f1"
METRICS: tuple[str, ...] = ("f1", "precision", "recall")
PROBLEM: Problem = "single_label"
OPTIONS = frozenset({"label_smoothing", "tag_scheme"})
COMPARES_EXAMPLES = False
RECORDED_STAGES: frozenset[str] = frozenset()

TOGETHER = 1024
"""Texts whose spans are compared in one call."""

logger = logging.getLogger(__name__)

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
merge = single_answer
corrupt = no_corruption


def parse(record: Record, *, labelled: bool, scheme: TagScheme | None = None) -> Example:
    """`{"text": ..., "spans": [{"start", "end", "label"}]}` or `{"tokens": [...], "tags": [...]}`.

    Words are joined by a space into the text that spans refer to. Spaces at the ends of a span are
    left out of it.

    Args:
        record: the record; a table may hold its lists as text.
        labelled: whether spans or tags are wanted.
        scheme: of the tags; by default what the record's own tags say (see `tag_schemes`).

    Raises:
        EncodaxError: a field is missing or of another kind, or spans overlap or leave the text.
    """
    where, fields = record.where, record.fields
    if "tokens" in fields:
        words = list_of(record, "tokens", wants='["call", "Ada"]')
        if not _is_strings(words) or not any(word.strip() for word in words):
            raise EncodaxError(f"{where}: 'tokens' wants a list of words")
        joined, standing = " ".join(words), tuple(_places(words))
        check_unicode(joined, where)
        if not labelled:
            return Example(joined, (), where, words=standing)
        tags = tags_of(record)
        if not _is_strings(tags) or len(tags) != len(words):
            told = f"{where}: 'tags' wants a list of {len(words)} strings"
            raise EncodaxError(told + instead_of(record, "tags"))
        scheme = scheme or tag_schemes.recognised(tags)
        return Example(joined, _spans_of_words(words, tags, scheme), where, words=standing)
    if "text" not in fields:
        raise EncodaxError(f"{where}: no field 'text' or 'tokens'{instead_of(record, 'tokens')}")
    text = text_of(record)
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: token classification takes one text, not a pair")
    if not labelled:
        return Example(text, (), where)
    spans = list_of(record, "spans", wants='[{"start": 0, "end": 3, "label": "name"}]')
    return Example(text, _checked_spans(spans, text, where), where)


def tags_of(record: Record) -> Any:
    """The tags of a record of words; None of one that has none."""
    return list_of(record, "tags", wants='["O", "B-name"]')


def labels(examples: Sequence[Example], scheme: TagScheme = IOB) -> tuple[str, ...]:
    """The tags of each label, after `O` where the scheme has one.

    Raises:
        EncodaxError: no example has a span.
    """
    found = checked_labels((s.label, each.where) for each in examples for s in each.target)
    outside = () if scheme.name == "none" else (OUTSIDE,)
    return (*outside, *(tag for label in found for tag in scheme.all_tags(label)))


def targets(
    example: Example,
    encoding: Encoding,
    labels: tuple[str, ...],
    scheme_name: SchemeName | None = None,
) -> Targets:
    """The class of every token; special tokens do not count.

    A token that a span covers in part belongs to it. Spans of no token are left out: those that
    `seen` tells of, and where a text was cut those beyond the cut. Of labels of words, the first
    token of each word alone counts; without an `O`, so do only tokens of spans.

    Raises:
        EncodaxError: the model does not know a label.
    """
    scheme = tag_schemes.of_labels(labels, scheme_name)
    has_outside = OUTSIDE in labels and scheme.name != "none"
    outside = labels.index(OUTSIDE) if has_outside else 0
    classes = np.full(len(encoding), outside, np.int32)
    counts = ~encoding.is_special if has_outside else np.zeros(len(encoding), bool)
    check_known([scheme.tags(span.label, 1)[0] for span in example.target], labels, example.where)
    for span in example.target:
        inside = tokens_in(span, encoding)
        if scheme.name == "none":
            inside = inside[:1]
        tags = scheme.tags(span.label, max(1, len(inside)))
        index_by_tag = {tag: index_of(tag, labels, example.where) for tag in set(tags)}
        classes[inside] = [index_by_tag[tag] for tag in tags[: len(inside)]]
        counts[inside] = True
    return Targets(classes, counts.astype(np.float32))


def seen(example: Example, encodings: Sequence[Encoding]) -> tuple[Example | None, tuple[str, ...]]:
    """The example without the spans that no token shows, such as a zero width space; and these.

    What is beyond the cut of a text that was cut is none of them.
    """
    last = max(int(encoding.offsets.max()) for encoding in encodings)
    shown: list[Span] = []
    unseen: list[str] = []
    for span in example.target:
        piece = str(example.text)[span.start : span.end]
        is_beyond = span.start >= last and re.search(r"\w", piece) is not None
        if is_beyond or any(len(tokens_in(span, encoding)) for encoding in encodings):
            shown.append(span)
        else:
            unseen.append(piece)
    return replace(example, target=tuple(shown)), tuple(unseen)


def decode(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    aggregation: Aggregation | None = None,
    text: str = "",
    scheme_name: SchemeName | None = None,
    words: Sequence[tuple[int, int]] = (),
) -> tuple[Span, ...]:
    """Spans from the probabilities of every token's tags.

    A span begins at a `B-` tag (or one that is alone), after one that ends, or where another label
    (or none) comes before; its score is the mean probability of the tags of its parts. Tags without
    a letter are read as `I-`. Parts of no character make no span.

    Args:
        scores: probabilities of each token.
        encoding: the tokens.
        labels: the tags.
        aggregation: what has one tag. `none`: a token, and each is a span of its own; `simple`: a
            token. Or a word: `first` has the tag of its first token, `max` that of its surest,
            `average` the most probable one in the mean of its tokens. By default `simple`; of
            labels of words, each word with the label of its first token, none joined.
        text: what was encoded, which tells words.
        scheme_name: the scheme of the labels; by default, what they say themselves.
        words: where the words stand that labels of words are wanted of; by default, those of the
            tokenizer.
    """
    scheme = tag_schemes.of_labels(labels, scheme_name)
    of_words = aggregation is None and scheme.name == "none"
    each_alone = of_words or aggregation == "none"
    if of_words and len(words):
        return _of_given_words(scores, encoding, labels, words)
    # Without the text no words are known: then each token has its label.
    by_default: Aggregation = ("first" if text else "none") if of_words else "simple"
    spans: list[list[Tagged]] = []
    previous = ("O", "")
    for part in tagged(scores, encoding, labels, aggregation or by_default, text):
        letter, name = scheme.place(part.tag)
        goes_on = letter in "IE" and previous[0] in "BI" and name == previous[1]
        if letter != "O" and (each_alone or not goes_on):
            spans.append([])
        if letter != "O":
            spans[-1].append(part)
        previous = letter, name
    found = (_span_of(parts, scheme.place(parts[0].tag)[1]) for parts in spans)
    return tuple(span for span in found if span.start < span.end)


@dataclass(frozen=True)
class TokenDecoding(Decoding):
    """How spans are made of the scores of tokens."""

    aggregation: Aggregation | None = None
    """What has one tag: a token (`none`, `simple`) or a word (`first`, `average`, `max`), as
    `decode` says. By default `simple`, or each word where labels are of words."""
    tag_scheme: SchemeName | None = None
    """The scheme of the labels; by default, what they say themselves."""
    stride: int | None = None
    """A text longer than the model takes is read in windows, each of which shares so many tokens
    with the one before; None to refuse such a text, or to cut it."""

    def __post_init__(self) -> None:
        known = get_args(Aggregation)
        if self.aggregation not in (None, *known):
            told = f"aggregation {self.aggregation!r} is not one of: {', '.join(known)}"
            raise EncodaxError(told)
        if self.stride is not None and self.stride < 0:
            raise EncodaxError(f"stride {self.stride} is below 0")

    def check(self, model: Model) -> None:
        """Refuse a scheme that is none of the labels, and a stride that fills whole windows.

        Raises:
            EncodaxError: names the option, and the limit.
        """
        tag_schemes.of_labels(model.config.labels, self.tag_scheme)
        if self.stride is not None and self.stride >= model.room:
            raise EncodaxError(
                f"stride {self.stride} leaves a window no token of its own: it holds {model.room} "
                "tokens of a text, and the stride is below that"
            )

    def measured(self, task: Task, records: Any, labels: tuple[str, ...]) -> Task:
        """The task by the scheme of the tags of all records, with texts cut as they are here."""
        return replace(reading(records, labels, self.tag_scheme), decoding=self)

    def encode(
        self, task: Task, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """Each text as one token sequence, or as windows; with windows nothing is ever cut.

        Raises:
            EncodaxError: a text is empty, or a pair; or too long, without `truncate` and windows.
        """
        for example in examples:
            if not isinstance(example.text, str):
                told = f"{example.where}: token classification takes one text, not a pair"
                raise EncodaxError(told)
        if self.stride is not None:
            names = [example.where for example in examples]
            return model.windows([each.text for each in examples], self.stride, names=names), 0
        try:
            return encode(model, examples, truncate=truncate)
        except TooLong as error:
            told = f"{error}, or for windows that overlap (--stride N, stride=N)"
            raise TooLong(told) from None

    def answer(
        self,
        task: Task,
        example: Example,
        sequences: Sequence[Encoding],
        scores: Sequence[Float[np.ndarray, "_ C"]],
        labels: tuple[str, ...],
    ) -> tuple[Span, ...]:
        """The spans of a text: those that stand in two windows are whole."""
        encoding, own = joined(sequences, scores, self.stride or 0)
        return decode(
            own,
            encoding,
            labels,
            self.aggregation,
            str(example.text),
            self.tag_scheme,
            example.words,
        )

    def words(
        self,
        example: Example,
        sequences: Sequence[Encoding],
        scores: Sequence[Float[np.ndarray, "_ C"]],
        labels: tuple[str, ...],
    ) -> tuple[Span, ...]:
        """Every word of a text with its label, `O` too."""
        by_words = self.aggregation if self.aggregation in ("average", "max") else "first"
        scheme = tag_schemes.of_labels(labels, self.tag_scheme)
        encoding, own = joined(sequences, scores, self.stride or 0)
        return tuple(
            Span(word.start, word.end, scheme.place(word.tag)[1] or OUTSIDE, word.score)
            for word in tagged(own, encoding, labels, by_words, str(example.text))
        )


def joined(
    windows: Sequence[Encoding], scores: Sequence[Float[np.ndarray, "_ C"]], overlap: int
) -> tuple[Encoding, Float[np.ndarray, "tokens C"]]:
    """The windows of a text, as `Encoding.pieces` makes them, as one sequence with its scores.

    Each overlap is cut in its middle, so that a token has the scores of the window in which it has
    most context.
    """
    if len(windows) == 1:
        return windows[0], scores[0]
    kept = _own_tokens(windows, overlap)
    first, *others = (window.taken(own) for window, own in zip(windows, kept, strict=True))
    found = np.concatenate([each[own] for each, own in zip(scores, kept, strict=True)])
    return first.followed_by(others), found


def _own_tokens(windows: Sequence[Encoding], overlap: int) -> list[Int[np.ndarray, " kept"]]:
    """Which tokens are kept of each window: those of the text each once, special ones at its ends.

    Of an overlap of n tokens the first n // 2 are of the window before.
    """
    before, last = overlap // 2, len(windows) - 1
    found = []
    for number, window in enumerate(windows):
        of_text = np.flatnonzero(window.sequence_ids == 0)
        start = of_text[0] + before if number > 0 else 0
        stop = of_text[-1] + 1 - (overlap - before) if number < last else len(window)
        found.append(np.arange(start, stop))
    return found


def _of_given_words(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    words: Sequence[tuple[int, int]],
) -> tuple[Span, ...]:
    """Each word that has a token, with the label of its first."""
    found = []
    for start, end in words:
        for token in tokens_in(Span(start, end, ""), encoding)[:1].tolist():
            best = int(scores[token].argmax())
            found.append(Span(start, end, labels[best], float(scores[token, best])))
    return tuple(found)


def _span_of(parts: Sequence[Tagged], label: str) -> Span:
    seen = [part for part in parts if part.start < part.end] or parts
    score = float(np.mean([part.score for part in parts]))
    return Span(seen[0].start, seen[-1].end, label, score)


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
        starts, ends = encoding.offsets[part].T
        seen = np.flatnonzero(starts < ends)
        at = seen if len(seen) else np.arange(1)
        found.append(
            Tagged(int(starts[at[0]]), int(ends[at[-1]]), labels[best], float(of_part[best]))
        )
    return found


def tokens_in(span: Span, encoding: Encoding) -> Int[np.ndarray, " tokens"]:
    """Indices of the tokens that share a character with the span, or are of none inside of it.

    A space before a word is one of these where it is a token: it belongs to the word.
    """
    starts, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
    shares = (starts < span.end) & (ends > span.start)
    is_blank_inside = (starts == ends) & (span.start <= starts) & (starts < span.end)
    return np.flatnonzero((shares | is_blank_inside) & ~encoding.is_special)


def words_of(text: str, encoding: Encoding) -> list[list[int]]:
    """Tokens by words, as `Encoding.words` tells them, but for spaces that stand alone."""
    words: dict[int, list[int]] = {}
    for token, word in enumerate(encoding.words(text).tolist()):
        if word:
            words.setdefault(word, []).append(token)
    starts, ends = encoding.offsets.T
    return [word for word in words.values() if (starts[word] < ends[word]).any()]


def metrics(answers: Iterable[tuple[Span, ...]], examples: Iterable[Example]) -> dict[str, float]:
    """Precision, recall and F1 over spans: right where start, end and label are."""
    correct = given = wanted = 0
    pairs = zip(answers, examples, strict=True)
    while some := list(itertools.islice(pairs, TOGETHER)):
        found = [_without_scores(answer) for answer, _ in some]
        right = [_without_scores(example.target) for _, example in some]
        strict = _strict(right, found)
        correct, given = correct + strict.correct, given + strict.actual
        wanted += strict.possible
    precision, recall = correct / max(given, 1), correct / max(wanted, 1)
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


def _strict(right: list[list[dict[str, Any]]], found: list[list[dict[str, Any]]]) -> Any:
    """What nervaluate counts of a few texts."""
    from nervaluate import Evaluator  # with the training extra

    names = sorted({span["label"] for spans in right + found for span in spans})
    return Evaluator(right, found, tags=names, loader="dict").evaluate()["overall"]["strict"]


def word_metrics(
    answers: Iterable[tuple[Span, ...]], examples: Iterable[Example]
) -> dict[str, float]:
    """Accuracy over words, and F1 averaged over the labels (macro)."""
    counts: Counter[tuple[str, str]] = Counter()
    for answer, example in zip(answers, examples, strict=True):
        found = labels_of_words(answer, example)
        counts.update(zip((word.label for word in example.target), found, strict=True))
    if not counts:
        raise EncodaxError("no example has a word with a label")
    known = {label for pair in counts for label in pair} - {""}
    return measured(counts, sorted(known))


def labels_of_words(answer: Sequence[Span], example: Example) -> list[str]:
    """What an answer says of each word that has a label; empty where it says nothing."""
    places = [word.start for word in example.target]
    at = np.searchsorted([span.start for span in answer], places, side="right") - 1
    held = (answer[i] if i >= 0 else None for i in at.tolist())
    return [
        span.label if span is not None and place < span.end else ""
        for place, span in zip(places, held, strict=True)
    ]


@dataclass(eq=False)
class Reading:
    """This task, for data whose tags are all of one scheme."""

    scheme: TagScheme
    """Of the tags."""
    head_scheme: TagScheme
    """What a new head's labels are written in: the same, unless spans stand beside tags."""
    scheme_name: SchemeName | None
    """The one that was asked for, which the labels of a model are of too."""
    decoding: TokenDecoding | None = None
    """How answers are made, where a model is measured; None where one learns."""

    NAME: str = NAME
    HEAD: HeadKind = HEAD
    FIELDS: tuple[str, str] = FIELDS
    METRIC: str = METRIC
    """F1 of spans; of labels of words their accuracy."""
    METRICS: tuple[str, ...] = METRICS
    PROBLEM: Problem = PROBLEM
    OPTIONS: frozenset[str] = OPTIONS
    COMPARES_EXAMPLES: bool = COMPARES_EXAMPLES
    RECORDED_STAGES: frozenset[str] = RECORDED_STAGES

    def __post_init__(self) -> None:
        if self.is_of_words:
            self.METRIC, self.METRICS = "accuracy", ("accuracy", "f1")

    loss = staticmethod(loss)
    merge = staticmethod(merge)
    corrupt = staticmethod(corrupt)

    @property
    def is_of_words(self) -> bool:
        """Whether it is words that have labels, each one."""
        return self.scheme.name == "none"

    def encode(
        self, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """As the module's, or in windows where a model is measured so."""
        if self.decoding is None:
            return encode(model, examples, truncate=truncate)
        return self.decoding.encode(self, model, examples, truncate=truncate)

    def parse(self, record: Record, *, labelled: bool) -> Example:
        """As the module's, by this scheme."""
        return parse(record, labelled=labelled, scheme=self.scheme)

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the module's, in the scheme of the data."""
        return labels(examples, self.head_scheme)

    def kept_labels(self, labels: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
        """A model's own labels where they can tell all that these do, else these.

        Args:
            labels: as `labels` gives them.
            known: those of the model that is trained on.
        """
        if not known:
            return labels
        scheme = tag_schemes.of_labels(known, self.scheme_name)
        if (scheme.name == "none") != self.is_of_words:
            return labels
        if scheme.name == "io" != self.head_scheme.name:
            return labels  # they cannot tell spans apart that touch
        names = {self.head_scheme.place(label)[1] for label in labels} - {""}
        wanted = {tag for name in names for n in (1, 2, 3) for tag in scheme.tags(name, n)}
        return known if wanted <= set(known) else labels

    def targets(self, example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
        """As the module's, in the scheme of the labels."""
        return targets(example, encoding, labels, self.scheme_name)

    def decode(
        self,
        scores: Float[np.ndarray, "tokens C"],
        encoding: Encoding,
        labels: tuple[str, ...],
        aggregation: Aggregation | None = None,
        text: str = "",
    ) -> tuple[Span, ...]:
        """As the module's, in the scheme of the labels."""
        return decode(scores, encoding, labels, aggregation, text, self.scheme_name)

    def metrics(
        self, answers: Iterable[tuple[Span, ...]], examples: Iterable[Example]
    ) -> dict[str, float]:
        """Of words (`word_metrics`) or of spans (`metrics`)."""
        return (word_metrics if self.is_of_words else metrics)(answers, examples)

    def to_json(self, answer: tuple[Span, ...]) -> dict[str, Any]:
        """As the module's."""
        return to_json(answer)


def reading(
    records: Any,
    labels: tuple[str, ...] = (),
    scheme_name: SchemeName | None = None,
) -> Reading:
    """The task for these records: their tags all together tell the scheme, or it is given.

    Args:
        records: all that will be read.
        labels: those of the model, where there is one.
        scheme_name: the scheme, whatever the tags say.

    Raises:
        EncodaxError: the tags are not of the scheme that is given.
    """
    found: set[str] = set()
    has_spans = False
    for record in records:
        tags = tags_of(record) if "tokens" in record.fields else []
        has_spans |= "spans" in record.fields
        found |= set(tags if _is_strings(tags) else ())  # `parse` refuses what are none
    if not found:
        of_model = tag_schemes.of_labels(labels, scheme_name) if labels else IOB
        scheme = of_model if of_model.name == "none" else IOB
        return Reading(scheme, scheme, scheme_name)
    scheme = tag_schemes.told_by(frozenset(found), labels, scheme_name)
    if scheme != IOB:
        logger.warning("tags are read as %s; another: --tag-scheme, tag_scheme=", scheme)
    in_spans = has_spans and scheme.name in ("io", "none")
    return Reading(scheme, IOB if in_spans else scheme, scheme_name)


def to_json(answer: tuple[Span, ...]) -> dict[str, Any]:
    """`spans`, each with `start`, `end`, `label`, `score`."""
    return {"spans": [asdict(span) for span in answer]}


def _without_scores(spans: Sequence[Span]) -> list[dict[str, Any]]:
    # The library takes `end` for the last character: spans that touch would overlap.
    return [{"start": span.start, "end": span.end - 1, "label": span.label} for span in spans]


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _spans_of_words(
    words: Sequence[str], tags: Sequence[str], scheme: TagScheme
) -> tuple[Span, ...]:
    """The spans that tagged words stand for, in the text of the words joined by a space."""
    spans: list[Span] = []
    previous = ("O", "")
    for (start, end), tag in zip(_places(words), tags, strict=True):
        letter, name = scheme.place(tag)
        goes_on = letter in "IE" and previous[0] in "BI" and name == previous[1]
        if letter != "O" and goes_on and scheme.name != "none":
            spans[-1] = Span(spans[-1].start, end, name)
        elif letter != "O":
            spans.append(Span(start, end, name))
        previous = letter, name
    return tuple(spans)


def _places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def _without_spaces(span: Span, text: str) -> Span:
    """The span without spaces at its ends, as answers have none; one of spaces as it is."""
    if not 0 <= span.start < span.end <= len(text) or text[span.start : span.end].isspace():
        return span
    piece = text[span.start : span.end]
    start, end = span.end - len(piece.lstrip()), span.start + len(piece.rstrip())
    return Span(start, end, span.label)


def _checked_spans(value: Any, text: str, where: str) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise EncodaxError(f"{where}: wants 'spans', a list of objects with start, end and label")
    spans = []
    for item in value:
        match item:
            case {"start": int(start), "end": int(end), "label": str(label)}:
                spans.append(_without_spaces(Span(start, end, label), text))
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
