"""Sentences of CoNLL and CoNLL-U."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from readings import read_alike

from encodax.data import conll
from encodax.data.records import open_records
from encodax.data.sources import Record, read
from encodax.errors import EncodaxError


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
. . O O

# # I-NP O
1 CD I-NP O
"""
WNUT = "@x\tO\n#CSCW\tO\n\n#a=b\tO\nNew York\tB-LOC\n\n\n"
MULTICONER = "# id 5239-ab\tdomain=en\nit _ _ O\nAda _ _ B-PER\n\n# id 7\tdomain=en\nyes _ _ O"
SENTENCES = {
    "conll": (CONLL_2003, [("EU rejects .", "B-ORG O O", 3), ("# 1", "O O", 7)]),
    "conll2003": ("EU B-ORG\n\nrejects O\n", [("EU", "B-ORG", 1), ("rejects", "O", 3)]),
    "bio": (WNUT, [("@x #CSCW", "O O", 1), ("#a=b New_York", "O B-LOC", 4)]),
    "iob": (MULTICONER, [("it Ada", "O B-PER", 2), ("yes", "O", 6)]),
    "x.conll": (
        "# comment\na O\n# O\n\n# one\n# two words\nb NOUN\n\n# O\n1 O\n\n# B-X\n\n#\tSYM\n# \tA\n",
        [
            ("a #", "O O", 2),
            ("b", "NOUN", 7),
            ("# 1", "O O", 9),
            ("#", "B-X", 12),
            ("# #_", "SYM A", 14),
        ],
    ),
    "iob2": ("# text = a O\na O\nb\u00a0c  O \n", [("a b\u00a0c", "O O", 2)]),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", SENTENCES)
def test_sentences_are_records_of_words_and_tags(
    tmp_path: Path, ending: str, end: str, packed: str
) -> None:
    content, sentences = SENTENCES[ending]
    path = written(tmp_path, f"a.{ending}{packed}", "\ufeff" + content.replace("\n", end))
    assert read_alike(path) == [
        Record(
            {"tokens": [w.replace("_", " ") for w in words.split(" ")], "tags": tags.split()},
            f"{path}, line {number}",
        )
        for words, tags, number in sentences
    ]


def test_the_format_may_be_told(tmp_path: Path) -> None:
    path = written(tmp_path, "eng.testa", "Ada B-PER\n")
    (record,) = read_alike(path, format="conll")
    assert record.fields == {"tokens": ["Ada"], "tags": ["B-PER"]}


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conll", CONLL_2003)
    first, _ = read_alike(path, columns=["tokens", "tags", "_", "_"])
    assert first.fields == {"tokens": ["EU", "rejects", "."], "tags": ["NNP", "VBZ", "."]}
    with pytest.raises(
        EncodaxError,
        match=r"line 3: has 4 columns where 2 are named \(a, b\); name each in --columns$",
    ):
        list(read(path, columns=["a", "b"]))


def test_words_alone_have_no_tags(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conll", "Ada\nleft\n\n# text = b\n")
    assert [record.fields for record in read_alike(path)] == [{"tokens": ["Ada", "left"]}]


def word(number: object, form: str, tag: str) -> str:
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t0\troot\t_\tSpaceAfter=No\n"


CONLLU = (
    "# newdoc\n# text = I don't\n" + word(1, "I", "PRON") + word("2-3", "don't", "_")
    + word(2, "do", "AUX") + word(3, "n't", "PART") + word("3.1", "go", "VERB")
    + "\n\n# text = a b\n" + word(1, "a b", "X") + "\n"
)  # fmt: skip


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conllu_gives_words_and_their_parts_of_speech(
    tmp_path: Path, end: str, packed: str
) -> None:
    path = written(tmp_path, "a.conllu" + packed, CONLLU.replace("\n", end))
    tags = ["PRON", "AUX", "PART"]
    assert read_alike(path) == [
        Record({"tokens": ["I", "do", "n't"], "tags": tags}, f"{path}, line 3"),
        Record({"tokens": ["a b"], "tags": ["X"]}, f"{path}, line 11"),
    ]


def test_columns_of_conllu_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conllu", CONLLU)
    names = ["_", "tokens", *["_"] * 5, "tags", "_", "misc"]
    first, _ = read_alike(path, columns=names)
    assert first.fields.keys() == {"tokens", "tags", "misc"}
    assert first.fields["tags"] == ["root"] * 3


def test_conllu_without_parts_of_speech_has_no_tags(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conllu", word(1, "a", "_") + word(2, "b", "_"))
    assert [record.fields for record in read_alike(path)] == [{"tokens": ["a", "b"]}]


BAD = {
    "a tag is missing": ("a.conll", "a O\nb\nc O\n", "line 2: has 1 column, and the last .* 2$"),
    "a word too many": ("a.conll", "a O\n\n10 000 O\nb O\n", "line 3: has 3 columns, .* 2$"),
    "no word": ("a.conll", "a\tO\n\tO\n", "line 2: has an empty word$"),
    "CoNLL-U": ("a.conll", CONLLU, "line 3: .*ten columns of CoNLL-U: name it .conllu"),
    "spaces": ("a.conllu", "1 a _ X\n", "line 1: CoNLL-U needs ten columns with tabs .*'1 a _ X'$"),
    "no number": ("a.conllu", CONLLU + word("x", "a", "X"), "line 13: CoNLL-U needs ten"),
    "Latin-1": ("a.bio", "a O\n\n\udcff O\n", "line 3: not UTF-8"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_an_error_names_the_file_and_the_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode(errors="surrogateescape"))
    for read_all in (read, open_records):
        with pytest.raises(EncodaxError, match=rf"^{path}, {message}"):
            list(read_all(path))


def test_a_sentence_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conll, "LONGEST", 5)
    path = written(tmp_path, "a.conll", "a O\n" * 5 + "\n" + "b O\n" * 6)
    with pytest.raises(EncodaxError, match=r"line 7: a sentence of more than 5 lines; a blank"):
        list(read(path))


signs = st.characters(
    exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"], exclude_characters="\ufeff"
)
words = st.text(signs, min_size=1, max_size=4)
sentences = st.lists(st.lists(st.tuples(words, words), min_size=1, max_size=4), min_size=1)


@given(found=sentences, gap=st.sampled_from("\t "), blank=st.sampled_from(["\n", " \n\n", "\r\n"]))
def test_what_is_written_is_read(
    found: list[list[tuple[str, str]]], gap: str, blank: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    lines = ["".join(f"{w}{gap}{t}\n" for w, t in own) for own in keep(found)]
    path = written(tmp_path_factory.mktemp("conll"), "a.conll", blank.join(lines))
    records = list(read(path))
    assert [list(zip(*r.fields.values(), strict=True)) for r in records] == keep(found)
    opened = open_records(path) if records else []
    assert [opened[index] for index in range(len(opened))] == records


def keep(found: Sequence[list[tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """Sentences that do not begin as comments and documents do."""
    return [own for own in found if not own[0][0].startswith(("#", "-DOCSTART-"))]
