"""Tag schemes, which mark where a span begins and ends: IOB, IOBES and similar, or names only.

The scheme follows from the set of all tags: `E-mail` is the name of a span unless all other tags
begin with such a letter too.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from encodax.errors import EncodaxError
from encodax.options.loss import SchemeName as SchemeName

OUTSIDE = "O"
BARE = "span"
"""Label of a span whose tags have none: `B`, `I`, `O`."""
LETTERS: dict[SchemeName, str] = {"iob": "BI", "iobes": "BIES", "bilou": "BILU", "bmes": "BMES"}
"""Letters for the first word of a span, the inner words, the last word, and a span of one word."""
SEPARATORS = "-_:/."


def continues_span(previous: tuple[str, str], current: tuple[str, str]) -> bool:
    """Return whether a tag continues the span of the one before; both from `split_as_iobes`."""
    return current[0] in "IE" and previous[0] in "BI" and current[1] == previous[1]


@dataclass(frozen=True)
class TagScheme:
    """Tag scheme, and the way its tags are written."""

    name: SchemeName
    separator: str = "-"
    """Text between letter and label; empty if tags have no label."""
    letter_first: bool = True

    @property
    def has_letters(self) -> bool:
        """Whether tags have a letter besides a label."""
        return self.name in LETTERS

    def split(self, tag: str) -> tuple[str, str] | None:
        """Split a tag into letter and label, `O` without one; None if it is not of this scheme."""
        if not self.has_letters:
            return ("O", "") if tag == OUTSIDE and self.name == "io" else ("I", tag)
        if tag == OUTSIDE:
            return "O", ""
        if not self.separator:
            return (tag, BARE) if len(tag) == 1 and tag in LETTERS[self.name] else None
        at = 1 if self.letter_first else len(tag) - 2
        letter, name = (tag[:1], tag[2:]) if self.letter_first else (tag[-1:], tag[:-2])
        fits = len(tag) > 2 and tag[at] == self.separator and letter in LETTERS[self.name]
        return (letter, name) if fits else None

    def split_as_iobes(self, tag: str) -> tuple[str, str]:
        """Split a tag into a letter of IOBES and a label; one that does not fit is one with I."""
        letter, name = self.split(tag) or ("I", tag)
        return {"L": "E", "U": "S", "M": "I"}.get(letter, letter), name

    def tags(self, name: str, count: int) -> list[str]:
        """Return the tags of a span of `count` tokens."""
        if not self.has_letters:
            return [name] * count
        begin, inside, *others = list(LETTERS[self.name])
        end, single = others or (inside, begin)
        letters = [single] if count == 1 else [begin, *[inside] * (count - 2), end]
        return [self._written(letter, name) for letter in letters[:count]]

    def all_tags(self, name: str) -> list[str]:
        """Return every tag that a token of such a span may have."""
        if not self.has_letters:
            return [name]
        return [self._written(letter, name) for letter in LETTERS[self.name]]

    def _written(self, letter: str, name: str) -> str:
        if not self.separator:
            return letter
        ordered = (letter, name) if self.letter_first else (name, letter)
        return self.separator.join(ordered)

    def __str__(self) -> str:
        if not self.has_letters:
            named = "names of spans, with O" if self.name == "io" else "a label of each word"
            return f"{self.name} ({named})"
        return f"{self.name} ({', '.join(self.all_tags('name'))})"


IOB = TagScheme("iob")
"""Default scheme for training on spans."""


def infer_scheme(tags: Iterable[str]) -> TagScheme:
    """Return the scheme that all of these tags fit; else `io` if there is an `O`, or `none`."""
    found = frozenset(tags)
    fitting = (scheme for scheme in _with_letters() if _agree(scheme, found - {OUTSIDE}))
    without = TagScheme("io" if OUTSIDE in found else "none")
    return IOB if found <= {OUTSIDE} else next(fitting, without)


def scheme_named(name: SchemeName, tags: Iterable[str]) -> TagScheme:
    """Return the scheme with this name, in the spelling of these tags.

    Raises:
        EncodaxError: a tag does not fit the scheme, or there is no such scheme.
    """
    if name not in get_args(SchemeName):
        known = ", ".join(get_args(SchemeName))
        raise EncodaxError(f"tag scheme {name!r} is not one of: {known}")
    if name not in LETTERS:
        return TagScheme(name)
    found = sorted(set(tags) - {OUTSIDE})
    written = [scheme for scheme in _with_letters() if scheme.name == name]
    best = max(written, key=lambda scheme: sum(scheme.split(tag) is not None for tag in found))
    for tag in found:
        if best.split(tag) is None:
            raise EncodaxError(
                f"the tag {tag!r} is not in the scheme {best}; leave the tag scheme out, or give "
                "the one that fits these tags"
            )
    return best


@functools.cache
def _with_letters() -> tuple[TagScheme, ...]:
    layouts = [*itertools.product(SEPARATORS, (True, False)), ("", True)]
    return tuple(TagScheme(name, *layout) for name in LETTERS for layout in layouts)


def _agree(scheme: TagScheme, tags: frozenset[str]) -> bool:
    """Return whether these can be all tags of some data: inner and last tags have a first one."""
    parts = [scheme.split(tag) for tag in tags]
    letters: dict[str, set[str]] = {}
    for part in parts:
        if part is None:
            return False
        letters.setdefault(part[1], set()).add(part[0])
    if scheme.name == "iob":
        return bool(scheme.separator) or letters[BARE] == {"B", "I"}
    begin, *later, single = list(LETTERS[scheme.name])
    has_begun = all(begin in own or own == {single} for own in letters.values())
    return has_begun and any(begin in own and own & set(later) for own in letters.values())


@functools.lru_cache(maxsize=64)
def of_labels(labels: tuple[str, ...], name: SchemeName | None = None) -> TagScheme:
    """Return the scheme of a model's labels; results are cached."""
    return infer_scheme(labels) if name is None else scheme_named(name, labels)


def scheme_of_data(
    tags: frozenset[str], labels: Sequence[str] = (), name: SchemeName | None = None
) -> TagScheme:
    """Return the scheme of the tags of a data set, also considering a model's labels.

    Raises:
        EncodaxError: a tag does not fit the scheme `name`.
    """
    if name is not None:
        return scheme_named(name, tags)
    together = infer_scheme(tags | set(labels))
    return together if together.has_letters or tags <= set(labels) else infer_scheme(tags)
