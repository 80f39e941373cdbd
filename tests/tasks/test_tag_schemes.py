"""Which scheme tags are of, and what each of them says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.errors import EncodaxError
from encodax.tasks.tag_schemes import (
    LETTERS,
    SEPARATORS,
    TagScheme,
    infer_scheme,
    scheme_named,
    scheme_of_data,
)

ALL = [
    TagScheme(name, separator, first)
    for name in LETTERS
    for separator, first in [*((s, f) for s in SEPARATORS for f in (True, False)), ("", True)]
]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-PER I-PER", TagScheme("iob")),
        ("O I-PER I-LOC", TagScheme("iob")),
        ("O", TagScheme("iob")),
        ("O B-PER E-PER S-PER", TagScheme("iobes")),
        ("O B-PER I-PER E-PER S-LOC", TagScheme("iobes")),
        ("B-NP I-NP E-NP S-VP", TagScheme("iobes")),
        ("O B-PER L-PER U-PER", TagScheme("bilou")),
        ("O B-PER M-PER E-PER", TagScheme("bmes")),
        ("O B_PER I_PER", TagScheme("iob", "_")),
        ("O PER-B PER-I", TagScheme("iob", "-", False)),
        ("O PER_B PER_I PER_E PER_S", TagScheme("iobes", "_", False)),
        ("B I O", TagScheme("iob", "")),
        ("B M E S", TagScheme("bmes", "")),
        ("O PER LOC", TagScheme("io")),
        ("NOUN VERB B", TagScheme("none")),
        ("O B", TagScheme("io")),
        # Names, not letters: they do not all agree, or what goes on has never begun.
        ("O B-cell T-cell", TagScheme("io")),
        ("O E-mail PER", TagScheme("io")),
        ("O E-mail S-Bahn", TagScheme("io")),
        ("O B-cell E-mail I-95 S-Bahn", TagScheme("io")),
        ("O S-PER", TagScheme("io")),
        ("H E C", TagScheme("none")),
    ],
)
def test_the_whole_set_of_tags_tells_the_scheme(tags: str, scheme: TagScheme) -> None:
    assert infer_scheme(tags.split()) == scheme


@given(scheme=st.sampled_from(ALL), counts=st.lists(st.integers(1, 4), min_size=1))
def test_the_tags_of_spans_are_told_apart(scheme: TagScheme, counts: list[int]) -> None:
    name = "x-1" if scheme.separator else "span"
    tags = [tag for count in counts for tag in scheme.tags(name, count)]
    assert set(tags) <= set(scheme.all_tags(name))
    starts, previous = 0, ("O", "")
    for tag in tags:
        letter, found = scheme.split_as_iobes(tag)
        assert found == name
        starts += letter in "BS"
        assert (letter in "BS") == (previous[0] in "OES" or (letter, scheme.name) == ("B", "iob"))
        previous = letter, found
    assert starts == len(counts)


def test_a_model_speaks_for_few_tags() -> None:
    known = ("O", "B-PER", "I-PER")
    assert scheme_of_data(frozenset({"S-PER", "O"}), known) == TagScheme("iobes")
    assert scheme_of_data(frozenset({"PER", "O"}), known) == TagScheme("io")
    assert scheme_of_data(frozenset({"O"}), known) == TagScheme("iob")
    assert scheme_of_data(frozenset({"NOUN"}), ("NOUN", "VERB")) == TagScheme("none")


def test_a_scheme_is_given_by_name() -> None:
    assert scheme_named("iobes", ["O", "S-PER"]) == TagScheme("iobes")
    assert scheme_named("iobes", ["PER_S"]) == TagScheme("iobes", "_", False)
    assert scheme_named("none", ["O", "B-x"]).split_as_iobes("B-x") == ("I", "B-x")
    assert scheme_named("none", ["O"]).split_as_iobes("O") == ("I", "O")
    assert scheme_named("io", ["O", "B-cell"]).split_as_iobes("B-cell") == ("I", "B-cell")


def test_tags_of_another_scheme_are_refused() -> None:
    with pytest.raises(EncodaxError, match=r"the tag 'NOUN' is not in the scheme iobes .*leave"):
        scheme_named("iobes", ["O", "B-x", "NOUN"])


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(EncodaxError, match="'iob3' is not one of: iob, iobes, bilou, bmes, io, no"):
        scheme_named("iob3", ["O"])  # type: ignore[arg-type]
