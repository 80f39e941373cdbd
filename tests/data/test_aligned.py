"""Two files of lines that belong together."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encodax.data.aligned import Aligned
from encodax.data.sources import Record
from encodax.errors import EmptyText, EncodaxError
from encodax.tasks import translation

SOURCES, TARGETS = ["two men", " a dog ", "café 日本"], ["zwei Männer", "ein Hund", "Café"]


def written(folder: Path, sources: list[str], targets: list[str]) -> tuple[Path, Path]:
    places = folder / "text.en", folder / "text.de"
    for place, lines in zip(places, (sources, targets), strict=True):
        place.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return places


def test_lines_are_pairs_in_order(tmp_path: Path) -> None:
    aligned = Aligned(*written(tmp_path, SOURCES, TARGETS))
    wanted = [
        Record({"source": source, "target": target}, f"{tmp_path}/text.en, line {number}")
        for number, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True), 1)
    ]
    assert len(aligned) == 3
    assert list(aligned) == wanted == list(aligned)
    assert [aligned[place] for place in (2, 0, -2)] == [wanted[2], wanted[0], wanted[1]]
    assert aligned[1:] == wanted[1:]
    assert aligned[::-1] == wanted[::-1]
    with pytest.raises(IndexError):
        aligned[3]


def test_files_may_be_packed_and_end_without_a_line_end(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gz", tmp_path / "b"
    source.write_bytes(gzip.compress("\n".join(SOURCES).encode()))
    target.write_text("\r\n".join(TARGETS), encoding="utf-8")
    pairs = [tuple(record.fields.values()) for record in Aligned(source, target)]
    assert pairs == list(zip(SOURCES, TARGETS, strict=True))


@given(
    st.lists(
        st.tuples(
            *[st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=5)] * 2
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_lines_stay_beside_each_other(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    pairs = [(source, f"{target}.") for source, target in pairs]
    sides = [list(side) for side in zip(*pairs, strict=True)]
    aligned = Aligned(*written(tmp_path_factory.mktemp("aligned"), *sides))
    assert [tuple(record.fields.values()) for record in aligned] == pairs


@pytest.mark.parametrize(("sources", "targets"), [(3, 2), (1_200, 3)])
def test_files_of_different_lengths_are_refused_with_both_numbers(
    tmp_path: Path, sources: int, targets: int
) -> None:
    places = written(tmp_path, ["a"] * sources, ["b"] * targets)
    with pytest.raises(EncodaxError) as caught:
        Aligned(*places)
    assert str(caught.value).startswith(
        f"{places[0]} has {sources:,} lines, and {places[1]} has {targets:,}: lines are"
    )


def test_a_blank_line_shifts_nothing(tmp_path: Path) -> None:
    aligned = Aligned(*written(tmp_path, ["a", "", "c"], ["A", "B", "C"]))
    assert aligned[2].fields == {"source": "c", "target": "C"}
    assert aligned[1].fields == {"source": "", "target": "B"}


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_a_blank_target_is_named_in_its_own_file(tmp_path: Path, blank: str) -> None:
    aligned = Aligned(*written(tmp_path, ["a", "b"], ["A", blank]))
    assert aligned[0].fields["target"] == "A"
    for record in (aligned[1], list(aligned)[1]):
        with pytest.raises(EmptyText, match=r"text\.de, line 2: the text is empty"):
            translation.parse(record, labelled=True)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    source, target = written(tmp_path, SOURCES, TARGETS)
    with pytest.raises(EncodaxError, match=r"missing\.de does not exist"):
        Aligned(source, tmp_path / "missing.de")
    target.write_bytes(b"")
    with pytest.raises(EncodaxError, match=r"text\.de: the file is empty"):
        Aligned(source, target)
    target.write_bytes("zwei Männer\nein\ndrei\n".encode("latin-1"))
    with pytest.raises(EncodaxError, match=r"text\.de, line 1: not UTF-8"):
        Aligned(source, target)[0]
