"""How tags say where a span begins and ends: IOB, IOBES and its kin, or names alone.

A scheme is told by the whole set of tags: `E-mail` is the name of a span unless all others begin
with such a letter too.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from encodax.errors import EncodaxError

OUTSIDE = "O"
BARE = "span"
"""What a span is called where tags say no name: `B`, `I`, `O`."""

SchemeName = Literal["iob", "iobes", "bilou", "bmes", "io", "none"]
"""`iob`: B and I (IOB1 and IOB2), `iobes`: E ends a span, S is one alone; `bilou`: L and U for
these; `bmes`: M inside; `io`: the name of a span for each of its words; `none`: a label of each
word, which is no span (parts of speech)."""
LETTERS: dict[SchemeName, str] = {"iob": "BI", "iobes": "BIES", "bilou": "BILU", "bmes": "BMES"}
"""What begins a span of several words, goes on with it, ends it, and is one alone."""
SEPARATORS = "-_:/."


@dataclass(frozen=True)
class TagScheme:
    """A scheme, and how its tags are written."""

    name: SchemeName
    separator: str = "-"
    """Between letter and name; empty where there is no name."""
    letter_first: bool = True

    @property
    def has_letters(self) -> bool:
        """Whether tags say more than a name."""
        return self.name in LETTERS

    def parts(self, tag: str) -> tuple[str, str] | None:
        """Letter and name, `O` with no name; None for what is no tag of the scheme."""
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

    def place(self, tag: str) -> tuple[str, str]:
        """The same with the letters of IOBES; a tag of no such kind is a name, and goes on."""
        letter, name = self.parts(tag) or ("I", tag)
        return {"L": "E", "U": "S", "M": "I"}.get(letter, letter), name

    def tags(self, name: str, count: int) -> list[str]:
        """The tags of a span of so many tokens."""
        if not self.has_letters:
            return [name] * count
        begin, inside, *others = list(LETTERS[self.name])
        end, single = others or (inside, begin)
        letters = [single] if count == 1 else [begin, *[inside] * (count - 2), end]
        return [self._written(letter, name) for letter in letters[:count]]

    def all_tags(self, name: str) -> list[str]:
        """Each tag that a token of such a span may have."""
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
"""What spans are trained as, where nothing else is known."""


def recognised(tags: Iterable[str]) -> TagScheme:
    """The scheme that all of these tags agree in; else `io` where there is an `O`, or `none`."""
    found = frozenset(tags)
    fitting = (scheme for scheme in _with_letters() if _agree(scheme, found - {OUTSIDE}))
    without = TagScheme("io" if OUTSIDE in found else "none")
    return IOB if found <= {OUTSIDE} else next(fitting, without)


def chosen(name: SchemeName, tags: Iterable[str]) -> TagScheme:
    """The scheme of that name, written as these tags are.

    Raises:
        EncodaxError: a tag is none of it, or there is no such scheme.
    """
    if name not in get_args(SchemeName):
        known = ", ".join(get_args(SchemeName))
        raise EncodaxError(f"tag scheme {name!r} is not one of: {known}")
    if name not in LETTERS:
        return TagScheme(name)
    found = sorted(set(tags) - {OUTSIDE})
    written = [scheme for scheme in _with_letters() if scheme.name == name]
    best = max(written, key=lambda scheme: sum(scheme.parts(tag) is not None for tag in found))
    for tag in found:
        if best.parts(tag) is None:
            raise EncodaxError(
                f"the tag {tag!r} is none of {best}; leave the tag scheme out, or give the one of "
                "these tags"
            )
    return best


@functools.cache
def _with_letters() -> tuple[TagScheme, ...]:
    layouts = [*itertools.product(SEPARATORS, (True, False)), ("", True)]
    return tuple(TagScheme(name, *layout) for name in LETTERS for layout in layouts)


def _agree(scheme: TagScheme, tags: frozenset[str]) -> bool:
    """Whether these can be all tags of some data: what goes on or ends has begun."""
    parts = [scheme.parts(tag) for tag in tags]
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
    """The scheme of a model's labels; the same twice is looked up."""
    return recognised(labels) if name is None else chosen(name, labels)


def told_by(
    tags: frozenset[str], labels: Sequence[str] = (), name: SchemeName | None = None
) -> TagScheme:
    """The scheme of data's tags, for which a model's labels may speak too.

    Raises:
        EncodaxError: a tag is none of the scheme that is asked for.
    """
    if name is not None:
        return chosen(name, tags)
    together = recognised(tags | set(labels))
    return together if together.has_letters or tags <= set(labels) else recognised(tags)
