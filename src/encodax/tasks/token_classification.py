"""Token classification: labelled spans of a text (names, dates), or a label for each word.

Internally, every span becomes tags of tokens, by default `B-label` for its first token, `I-label`
for the others, and `O` for tokens outside spans (Ramshaw & Marcus 1995, section 4.2, in the form
IOB2); a model keeps the scheme of its labels. So character spans and tagged words are treated
alike, and answers are spans of the source text. Labels without a scheme and without `O` are labels
of words (parts of speech): each word is a span with the label of its first token.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from encodax.data.cells import list_of
from encodax.data.sources import Record
from encodax.errors import EncodaxError, TooLong
from encodax.models.encoder_model import Model
from encodax.options.loss import LossOptions
from encodax.tasks import tag_schemes
from encodax.tasks.classification import metrics_of_confusions
from encodax.tasks.labels import check_known, checked_labels, index_of
from encodax.tasks.losses import classes_loss
from encodax.tasks.record_fields import instead_of, text_of
from encodax.tasks.tag_schemes import IOB, OUTSIDE, SchemeName, TagScheme, continues_span
from encodax.tasks.task import Decoding, Example, LabelledItems, Targets, Task, encode_whole
from encodax.text.tokenizer import Encoding, check_unicode
from encodax.types.batches import Span

TOGETHER = 1024
"""Number of texts whose spans are compared in one call."""

logger = logging.getLogger(__name__)

Aggregation = Literal["none", "simple", "first", "average", "max"]
OF_WORD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda scores: scores[0],
    "simple": lambda scores: scores[0],
    "first": lambda scores: scores[0],
    "average": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores[scores.max(axis=-1).argmax()],
}
"""Aggregation -> function from the (tokens, C) probabilities of a word to (C,)."""


def parse(record: Record, *, labelled: bool, scheme: TagScheme | None = None) -> Example:
    """Parse `{"text", "spans": [{"start", "end", "label"}]}` or `{"tokens": [...], "tags": [...]}`.

    Words are joined by spaces into the text that spans refer to. Spaces at the ends of a span are
    stripped.

    Args:
        record: the record; in a table, its lists may be strings.
        labelled: whether spans or tags are required.
        scheme: scheme of the tags; by default inferred from the record (see `tag_schemes`).

    Raises:
        EncodaxError: a field is missing or has a wrong type, or spans overlap or exceed the text.
    """
    where, fields = record.where, record.fields
    if "tokens" in fields:
        words = list_of(record, "tokens", wants='["call", "Ada"]')
        if not _is_strings(words) or not any(word.strip() for word in words):
            raise EncodaxError(f"{where}: 'tokens' needs a list of words")
        joined, standing = " ".join(words), tuple(_word_offsets(words))
        check_unicode(joined, where)
        if not labelled:
            return Example(joined, (), where, words=standing)
        tags = tags_of(record)
        if not _is_strings(tags) or len(tags) != len(words):
            message = f"{where}: 'tags' needs a list of {len(words)} strings"
            raise EncodaxError(message + instead_of(record, "tags"))
        scheme = scheme or tag_schemes.infer_scheme(tags)
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
    """Return the tags of a record of words; None if it has none."""
    return list_of(record, "tags", wants='["O", "B-name"]')


def labels(examples: Sequence[Example], scheme: TagScheme = IOB) -> tuple[str, ...]:
    """Return the tags of each label, after `O` if the scheme has it.

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
    """Return the class of every token; special tokens have weight 0.

    A token that a span covers in part belongs to it. Spans without a token are left out: those that
    `with_tokens` reports, and those in a truncated part of the text. For labels of words, only the
    first token of each word counts; in a scheme without `O`, only tokens of spans count.

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


def with_tokens(
    example: Example, encodings: Sequence[Encoding]
) -> tuple[Example | None, tuple[str, ...]]:
    """Return the example without spans that have no token, such as a zero-width space; and these.

    Spans in a truncated part of the text are kept.
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
    """Return spans from the tag probabilities of every token.

    A span begins at a `B-` tag (or a single-token tag), after a tag that ends a span, or where the
    label changes; its score is the mean probability of the tags of its parts. Tags without a letter
    are read as `I-`. Parts without characters make no span.

    Args:
        scores: tag probabilities of each token.
        encoding: the tokens.
        labels: the tags.
        aggregation: unit that is tagged. `none`: a token, and each is a span; `simple`: a token.
            Or a word: `first` has the tag of its first token, `max` that of its most confident
            token, `average` the most probable tag in the mean over its tokens. By default `simple`;
            for labels of words, each word with the label of its first token, without joining.
        text: the encoded text, which is needed to find words.
        scheme_name: scheme of the labels; by default inferred from them.
        words: offsets of the words that get labels of words; by default, those of the tokenizer.
    """
    scheme = tag_schemes.of_labels(labels, scheme_name)
    of_words = aggregation is None and scheme.name == "none"
    each_alone = of_words or aggregation == "none"
    if of_words and len(words):
        return _of_given_words(scores, encoding, labels, words)
    # Words are known only with the text; without it, each token has its label.
    by_default: Aggregation = ("first" if text else "none") if of_words else "simple"
    spans: list[list[Tagged]] = []
    previous = ("O", "")
    for part in tagged(scores, encoding, labels, aggregation or by_default, text):
        current = scheme.split_as_iobes(part.tag)
        is_inside = current[0] != "O"
        if is_inside and (each_alone or not continues_span(previous, current)):
            spans.append([])
        if is_inside:
            spans[-1].append(part)
        previous = current
    found = (_span_of(parts, scheme.split_as_iobes(parts[0].tag)[1]) for parts in spans)
    return tuple(span for span in found if span.start < span.end)


@dataclass(frozen=True)
class TokenDecoding(Decoding):
    """Options for spans from the scores of tokens."""

    aggregation: Aggregation | None = None
    """Unit that is tagged: a token (`none`, `simple`) or a word (`first`, `average`, `max`), as in
    `decode`. By default `simple`, or each word if labels are labels of words."""
    tag_scheme: SchemeName | None = None
    """Scheme of the labels; by default inferred from them."""
    stride: int | None = None
    """Number of tokens that consecutive windows of a text longer than the model's limit share; None
    to refuse or truncate such a text."""

    def __post_init__(self) -> None:
        known = get_args(Aggregation)
        if self.aggregation not in (None, *known):
            message = f"aggregation {self.aggregation!r} is not one of: {', '.join(known)}"
            raise EncodaxError(message)
        if self.stride is not None and self.stride < 0:
            raise EncodaxError(f"stride {self.stride} is below 0")

    def check(self, model: Model) -> None:
        """Refuse a scheme that does not fit the labels, and a stride as long as a window.

        Raises:
            EncodaxError: there is such an option; the error names it, and the limit.
        """
        tag_schemes.of_labels(model.config.labels, self.tag_scheme)
        if self.stride is not None and self.stride >= model.max_text_tokens:
            raise EncodaxError(
                f"stride {self.stride} leaves a window no new token: it holds "
                f"{model.max_text_tokens} tokens of a text, and the stride must be below that"
            )

    def measured(self, task: Task, records: Any, labels: tuple[str, ...]) -> Task:
        """Return the task with the scheme of all records' tags, and windows as in these options."""
        task = task_for_tags(records, labels, self.tag_scheme)
        return replace(task, encode=functools.partial(self.encode, task))

    def encode(
        self, task: Task, model: Any, examples: Sequence[Example], *, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """Encode each text as one token sequence, or as windows, which need no truncation.

        Raises:
            EncodaxError: a text is empty, or a pair; or is too long and neither truncated nor
                split.
        """
        for example in examples:
            if not isinstance(example.text, str):
                message = f"{example.where}: token classification takes one text, not a pair"
                raise EncodaxError(message)
        if self.stride is not None:
            names = [example.where for example in examples]
            return model.windows([each.text for each in examples], self.stride, names=names), 0
        try:
            return encode_whole(model, examples, truncate=truncate)
        except TooLong as error:
            message = f"{error}, or for windows that overlap (--stride N, stride=N)"
            raise TooLong(message) from None

    def answer(
        self,
        task: Task,
        example: Example,
        sequences: Sequence[Encoding],
        scores: Sequence[Float[np.ndarray, "_ C"]],
        labels: tuple[str, ...],
    ) -> tuple[Span, ...]:
        """Return the spans of a text; spans that cross windows are complete."""
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
        """Return every word of a text with its label, `O` included."""
        by_words = self.aggregation if self.aggregation in ("average", "max") else "first"
        scheme = tag_schemes.of_labels(labels, self.tag_scheme)
        encoding, own = joined(sequences, scores, self.stride or 0)
        return tuple(
            Span(word.start, word.end, scheme.split_as_iobes(word.tag)[1] or OUTSIDE, word.score)
            for word in tagged(own, encoding, labels, by_words, str(example.text))
        )


def joined(
    windows: Sequence[Encoding], scores: Sequence[Float[np.ndarray, "_ C"]], overlap: int
) -> tuple[Encoding, Float[np.ndarray, "tokens C"]]:
    """Join the windows of a text from `Encoding.pieces` to one sequence with its scores.

    Each overlap is split in its middle, so that a token has the scores of the window in which it
    has most context.
    """
    if len(windows) == 1:
        return windows[0], scores[0]
    kept = _own_tokens(windows, overlap)
    first, *others = (window.select(own) for window, own in zip(windows, kept, strict=True))
    found = np.concatenate([each[own] for each, own in zip(scores, kept, strict=True)])
    return first.concatenate(others), found


def _own_tokens(windows: Sequence[Encoding], overlap: int) -> list[Int[np.ndarray, " kept"]]:
    """Return the tokens kept of each window: each text token once, special tokens at the ends.

    Of an overlap of n tokens the first n // 2 are taken from the earlier window.
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
    """Return each word that has a token, with the label of its first token."""
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
    """Token or word with its tag."""

    start: int
    end: int
    tag: str
    score: float
    """Probability of the tag."""


def tagged(
    scores: Float[np.ndarray, "tokens C"],
    encoding: Encoding,
    labels: tuple[str, ...],
    aggregation: Aggregation,
    text: str,
) -> list[Tagged]:
    """Return every token or word with its most probable tag, even `O`; arguments as in `decode`."""
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
    """Return the indices of tokens that share a character with the span, or are blank inside it.

    A space before a word that is a token is one of these: it belongs to the word.
    """
    starts, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
    shares = (starts < span.end) & (ends > span.start)
    is_blank_inside = (starts == ends) & (span.start <= starts) & (starts < span.end)
    return np.flatnonzero((shares | is_blank_inside) & ~encoding.is_special)


def words_of(text: str, encoding: Encoding) -> list[list[int]]:
    """Return tokens grouped by `Encoding.words`, without words of spaces only."""
    words: dict[int, list[int]] = {}
    for token, word in enumerate(encoding.words(text).tolist()):
        if word:
            words.setdefault(word, []).append(token)
    starts, ends = encoding.offsets.T
    return [word for word in words.values() if (starts[word] < ends[word]).any()]


def metrics(answers: Iterable[tuple[Span, ...]], examples: Iterable[Example]) -> dict[str, float]:
    """Return precision, recall and F1 over spans, which match if start, end and label are equal."""
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
    """Return the counts of nervaluate for a few texts."""
    from nervaluate import Evaluator  # from the training extra

    names = sorted({span["label"] for spans in right + found for span in spans})
    return Evaluator(right, found, tags=names, loader="dict").evaluate()["overall"]["strict"]


def word_metrics(
    answers: Iterable[tuple[Span, ...]], examples: Iterable[Example]
) -> dict[str, float]:
    """Return accuracy over words, and F1 averaged over the labels (macro)."""
    counts: Counter[tuple[str, str]] = Counter()
    for answer, example in zip(answers, examples, strict=True):
        found = labels_of_words(answer, example)
        counts.update(zip((word.label for word in example.target), found, strict=True))
    if not counts:
        raise EncodaxError("no example has a word with a label")
    known = {label for pair in counts for label in pair} - {""}
    return metrics_of_confusions(counts, sorted(known))


def labels_of_words(answer: Sequence[Span], example: Example) -> list[str]:
    """Return the predicted label of each labelled word; an empty string if there is none."""
    places = [word.start for word in example.target]
    at = np.searchsorted([span.start for span in answer], places, side="right") - 1
    held = (answer[i] if i >= 0 else None for i in at.tolist())
    return [
        span.label if span is not None and place < span.end else ""
        for place, span in zip(places, held, strict=True)
    ]


def labels_for(
    labels: tuple[str, ...],
    known: tuple[str, ...],
    head_scheme: TagScheme = IOB,
    scheme_name: SchemeName | None = None,
) -> tuple[str, ...]:
    """Return a model's labels if they can express these labels, else these.

    Args:
        labels: result of `labels`.
        known: labels of the model to be trained.
        head_scheme: scheme of `labels`.
        scheme_name: scheme that was asked for, which also applies to the model's labels.
    """
    if not known:
        return labels
    scheme = tag_schemes.of_labels(known, scheme_name)
    if (scheme.name == "none") != (head_scheme.name == "none"):
        return labels
    if scheme.name == "io" != head_scheme.name:
        return labels  # `io` cannot separate adjacent spans
    names = {head_scheme.split_as_iobes(label)[1] for label in labels} - {""}
    wanted = {tag for name in names for n in (1, 2, 3) for tag in scheme.tags(name, n)}
    return known if wanted <= set(known) else labels


def for_records(records: Any, known: tuple[str, ...], options: LossOptions) -> Task:
    """Return the task for training on these records, as `task_for_tags`."""
    return task_for_tags(records, known, options.tag_scheme)


def task_for_tags(
    records: Any,
    labels: tuple[str, ...] = (),
    scheme_name: SchemeName | None = None,
) -> Task:
    """Return the task for these records, with the scheme given or inferred from all tags.

    Args:
        records: all records that will be read.
        labels: labels of the model, if there is one.
        scheme_name: scheme of the tags; None to infer it.

    Raises:
        EncodaxError: a tag does not fit the given scheme.
    """
    found: set[str] = set()
    has_spans = False
    for record in records:
        tags = tags_of(record) if "tokens" in record.fields else []
        has_spans |= "spans" in record.fields
        found |= set(tags if _is_strings(tags) else ())  # `parse` refuses other values
    if not found:
        of_model = tag_schemes.of_labels(labels, scheme_name) if labels else IOB
        scheme = of_model if of_model.name == "none" else IOB
        return task_in_scheme(scheme, scheme, scheme_name)
    scheme = tag_schemes.scheme_of_data(frozenset(found), labels, scheme_name)
    if scheme != IOB:
        logger.warning("tags are read as %s; for another: --tag-scheme, tag_scheme=", scheme)
    in_spans = has_spans and scheme.name in ("io", "none")
    return task_in_scheme(scheme, IOB if in_spans else scheme, scheme_name)


def task_in_scheme(
    scheme: TagScheme, head_scheme: TagScheme, scheme_name: SchemeName | None
) -> Task:
    """Return the task for data whose tags all have one scheme.

    Args:
        scheme: scheme of the tags; without spans, each word has a label.
        head_scheme: scheme of a new head's labels: the same, except if the data has both spans and
            tags.
        scheme_name: scheme that was asked for, which also applies to the labels of a model.
    """
    task = replace(
        TASK,
        parse=functools.partial(parse, scheme=scheme),
        labels=functools.partial(labels, scheme=head_scheme),
        labels_for=functools.partial(labels_for, head_scheme=head_scheme, scheme_name=scheme_name),
        targets=functools.partial(targets, scheme_name=scheme_name),
    )
    if scheme.name != "none":
        return task
    return replace(
        task,
        metric_names=("accuracy", "f1"),
        metrics=word_metrics,
        labelled_items=labelled_words,
    )


def labelled_spans(answer: Sequence[Span], example: Example) -> tuple[LabelledItems, LabelledItems]:
    """Return the right spans and the predicted ones."""
    wanted, found = (
        {((span.start, span.end), span.label) for span in spans}
        for spans in (example.target, answer)
    )
    return wanted, found


def labelled_words(answer: Sequence[Span], example: Example) -> tuple[LabelledItems, LabelledItems]:
    """Return the right label of each word and the predicted one."""
    found = enumerate(labels_of_words(answer, example))
    wanted = enumerate(word.label for word in example.target)
    return set(wanted), {(place, label) for place, label in found if label}


def to_json(answer: tuple[Span, ...]) -> dict[str, Any]:
    """Return the JSON field `spans`, each with `start`, `end`, `label` and `score`."""
    return {"spans": [asdict(span) for span in answer]}


def _without_scores(spans: Sequence[Span]) -> list[dict[str, Any]]:
    # In nervaluate, `end` is inclusive: otherwise adjacent spans would overlap.
    return [{"start": span.start, "end": span.end - 1, "label": span.label} for span in spans]


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _spans_of_words(
    words: Sequence[str], tags: Sequence[str], scheme: TagScheme
) -> tuple[Span, ...]:
    """Return the spans of tagged words, in the text of the words joined by spaces."""
    spans: list[Span] = []
    previous = ("O", "")
    for (start, end), tag in zip(_word_offsets(words), tags, strict=True):
        current = scheme.split_as_iobes(tag)
        if continues_span(previous, current) and scheme.name != "none":
            spans[-1] = Span(spans[-1].start, end, current[1])
        elif current[0] != "O":
            spans.append(Span(start, end, current[1]))
        previous = current
    return tuple(spans)


def _word_offsets(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def _without_spaces(span: Span, text: str) -> Span:
    """Return the span without spaces at its ends, like answers; one of spaces only unchanged."""
    if not 0 <= span.start < span.end <= len(text) or text[span.start : span.end].isspace():
        return span
    piece = text[span.start : span.end]
    start, end = span.end - len(piece.lstrip()), span.start + len(piece.rstrip())
    return Span(start, end, span.label)


def _checked_spans(value: Any, text: str, where: str) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise EncodaxError(f"{where}: needs 'spans', a list of objects with start, end and label")
    spans = []
    for item in value:
        match item:
            case {"start": int(start), "end": int(end), "label": str(label)}:
                spans.append(_without_spaces(Span(start, end, label), text))
            case _:
                raise EncodaxError(f"{where}: a span needs start, end and label, not {item!r}")
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


TASK = Task(
    name="token-classification",
    head="token",
    metric_names=("f1", "precision", "recall"),
    options=frozenset({"label_smoothing", "tag_scheme"}),
    parse=parse,
    labels=labels,
    for_records=for_records,
    labels_for=labels_for,
    with_tokens=with_tokens,
    targets=targets,
    loss=classes_loss,
    decode=decode,
    decoding=TokenDecoding,
    metrics=metrics,
    labelled_items=labelled_spans,
    no_answer={"spans": None},
    to_json=to_json,
    has_known_shapes=True,
)
