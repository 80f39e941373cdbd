"""Empty texts: one rule for all uses of a model.

A text is empty if it has only whitespace, or if its characters give no tokens, such as a single
zero-width space.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.tasks.task import Example, Task
from encodax.text.tokenizer import Encoding, Text

logger = logging.getLogger(__name__)

OnEmpty = Literal["error", "skip", "keep"]
"""Raise an error; leave the text out; or keep its place, with an empty answer."""
OnEmptyInData = Literal["error", "skip"]
"""Raise an error, or leave the text out: for labelled data, which needs no answer."""
IN_DATA = get_args(OnEmptyInData)
Encode = Callable[[list[Example]], tuple[Sequence[Sequence[Any]], int]]
"""Function from examples to the token sequences of each, and the number of truncated examples."""


def empty_query() -> EncodaxError:
    """Return the error for an empty query."""
    return EncodaxError("the query is empty: write one")


class EmptyTextRule:
    """Rule for empty texts of a stream, and their number."""

    def __init__(self, rule: str, choices: Sequence[str] = get_args(OnEmpty)):
        """Start counting.

        Args:
            rule: the rule.
            choices: the allowed rules.

        Raises:
            EncodaxError: the rule is not allowed.
        """
        if rule not in choices:
            raise EncodaxError(f"on_empty {rule!r} is not one of: {', '.join(choices)}")
        self.rule = rule
        self._way_out = " or ".join(choice for choice in choices if choice != "error")
        self._count, self._first = 0, ""

    def parsed(
        self,
        parse: Callable[[Record], Example],
        records: Iterable[Record],
        fields: Sequence[str],
    ) -> Iterator[Example]:
        """Yield the examples of records; for an empty text, an example with the texts in `fields`.

        Raises:
            EncodaxError: a record is invalid, or its text is empty and the rule is `error`.
        """
        for record in records:
            try:
                example = parse(record)
            except EmptyText as error:
                if self.rule == "error":
                    raise self._refusal(error) from None
                example = Example(_as_they_are(record, fields), None, record.where)
            yield example

    def non_empty(
        self, parse: Callable[[Record], Example], records: Iterable[Record]
    ) -> Iterator[tuple[int, Example]]:
        """Yield (record number, example) of the records whose texts are not empty.

        Raises:
            EncodaxError: a record is invalid, or its text is empty and the rule is `error`.
        """
        for number, record in enumerate(records):
            try:
                example = parse(record)
            except EmptyText as error:
                self._meet(record.where, error)
            else:
                yield number, example
        self.note()

    def sequences(self, encode: Encode, examples: list[Example]) -> tuple[list[Sequence[Any]], int]:
        """Return the token sequences of each example, none for an empty one; and the number cut.

        Raises:
            EncodaxError: a text is empty and the rule is `error`; or `encode` refuses one.
        """
        if self.rule == "error":
            return self._all_of(encode, examples)
        filled = [example for example in examples if not is_blank(example)]
        made, cut = sequences_of(encode, filled)
        by_example = {id(example): own for example, own in zip(filled, made, strict=True)}
        found = [by_example.get(id(example), []) for example in examples]
        for example, own in zip(examples, found, strict=True):
            if not own:
                self._meet(example.where, EmptyText.of(example.where))
        return found, cut

    def _all_of(self, encode: Encode, examples: list[Example]) -> tuple[list[Sequence[Any]], int]:
        """Return the token sequences of examples none of which may be empty."""
        try:
            found, cut = encode(examples)
        except EmptyText as error:  # it knows the index of the text
            raise self._refusal(error) from None
        for example, own in zip(examples, found, strict=True):
            if is_blank(example) or not _has_both(example.text, own):
                raise self._refusal(EmptyText.of(example.where))
        return list(found), cut

    def note(self) -> None:
        """Log the number of empty texts, if any."""
        if self._count:
            what = "are empty" if self._count > 1 else "is empty"
            done = "left out" if self.rule == "skip" else "given empty answers"
            logger.warning(
                "%d %s %s and %s, the first: %s",
                self._count, "texts" if self._count > 1 else "text", what, done, self._first,
            )  # fmt: skip

    def _meet(self, where: str, error: EmptyText) -> None:
        if self.rule == "error":
            raise self._refusal(error) from None
        self._first = self._first or where
        self._count += 1

    def _refusal(self, error: EmptyText) -> EmptyText:
        message = f"{error}; write a text, or choose what to do with empty ones: --on-empty "
        return EmptyText(f"{message}{self._way_out} (on_empty=)")


def labelled(task: Task, records: Iterable[Record], on_empty: OnEmptyInData) -> Iterator[Example]:
    """Yield the examples of labelled records; leave out those of empty texts if so asked.

    Raises:
        EncodaxError: a record is invalid, or its text is empty and `on_empty` is `error`.
    """
    parse = functools.partial(task.parse, labelled=True)
    return (example for _, example in EmptyTextRule(on_empty, IN_DATA).non_empty(parse, records))


def has_word(text: str) -> bool:
    """Return whether a text has a letter or a digit of any script, and so surely a token."""
    return re.search(r"\w", text) is not None


def is_blank(example: Example) -> bool:
    """Return whether a text of an example has only whitespace."""
    return not all(part.strip() for part in example.parts)


def sequences_of(encode: Encode, examples: Sequence[Example]) -> tuple[list[Sequence[Any]], int]:
    """Return the token sequences of each example, none if a text has no token; and the number cut.

    Raises:
        EncodaxError: `encode` refuses an example for another reason.
    """
    left = list(range(len(examples)))
    found: list[Sequence[Any]] = [[] for _ in examples]
    while left:
        try:
            made, cut = encode([examples[place] for place in left])
        except EmptyText as error:
            if not error.places:
                raise
            empty = set(error.places)
            left = [place for number, place in enumerate(left) if number not in empty]
        else:
            for place, own in zip(left, made, strict=True):
                found[place] = own if _has_both(examples[place].text, own) else []
            return found, cut
    return found, 0


def _has_both(text: Text, sequences: Sequence[Any]) -> bool:
    """Return whether each text of a pair has a token."""
    if isinstance(text, str) or not all(isinstance(each, Encoding) for each in sequences):
        return True
    return all(any((own.sequence_ids == part).any() for own in sequences) for part in (0, 1))


def refuse_unseen(
    texts: Sequence[str],
    names: Sequence[str],
    encode: Callable[[list[str]], Sequence[Encoding]],
) -> None:
    """Refuse texts that have no tokens without the prompt that is put before them.

    Raises:
        EmptyText: there are such texts; the error names the first and has the indices of all.
    """
    doubtful = [place for place, text in enumerate(texts) if not has_word(text)]
    encodings = encode([texts[place] for place in doubtful])
    empty = [place for place, own in zip(doubtful, encodings, strict=True) if own.is_special.all()]
    if empty:
        raise EmptyText.of(names[empty[0]], empty)


def _as_they_are(record: Record, fields: Sequence[str]) -> Text:
    """Return the texts of a record, one of which is empty."""
    found = [record.fields[name] for name in fields if name in record.fields]
    texts = [text if isinstance(text, str) else "" for text in found] or [""]
    return (texts[0], texts[1]) if len(texts) > 1 else texts[0]
