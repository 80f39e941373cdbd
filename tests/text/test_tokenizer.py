import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from encodax.data.packing import check_lengths
from encodax.errors import EncodaxError, library_errors
from encodax.text.tokenizer import SPECIAL_TOKENS, Encoding, Kind, Tokenizer

CORPUS = ["the cat sat on the mat", "the dog ran", "Café crème, s'il vous plaît!", "12 May 2021"]
KINDS: tuple[Kind, ...] = ("wordpiece", "bpe", "char")


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: Tokenizer.train(CORPUS, kind, vocabulary_size=300) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    return trained[request.param]


def tokens(tokenizer: Tokenizer, text: str | tuple[str, str]) -> list[str]:
    return tokenizer.tokens(tokenizer.encode([text])[0].token_ids)


def assert_equal(one: Encoding, other: Encoding) -> None:
    for field in ("token_ids", "type_ids", "offsets", "is_special", "sequence_ids"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_special_tokens_are_berts_in_order(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.pad_id == 0


def test_a_text_stands_between_cls_and_sep(tokenizer: Tokenizer) -> None:
    (encoding,) = tokenizer.encode(["the cat"])
    written = tokenizer.tokens(encoding.token_ids)
    assert (written[0], written[-1]) == ("[CLS]", "[SEP]")
    assert not set(written[1:-1]) & set(SPECIAL_TOKENS.values())
    np.testing.assert_array_equal(encoding.is_special[[0, -1]], [True, True])
    assert not encoding.is_special[1:-1].any()
    assert not encoding.type_ids.any()
    np.testing.assert_array_equal(encoding.offsets[[0, -1]], [[0, 0], [0, 0]])


def test_arrays_are_of_int32_and_bool(tokenizer: Tokenizer) -> None:
    for encoding in tokenizer.encode(["the cat", "", ("a", "b")]):
        length = len(encoding)
        assert encoding.token_ids.dtype == encoding.type_ids.dtype == np.int32
        assert encoding.offsets.dtype == np.int32
        assert encoding.is_special.dtype == bool
        assert encoding.offsets.shape == (length, 2)
        assert encoding.type_ids.shape == encoding.is_special.shape == (length,)


def test_a_pair_is_two_texts_of_two_types(tokenizer: Tokenizer) -> None:
    (pair,) = tokenizer.encode([("the cat", "the dog ran")])
    first, second = tokenizer.encode(["the cat", "the dog ran"])
    np.testing.assert_array_equal(
        pair.token_ids, np.concatenate([first.token_ids, second.token_ids[1:]])
    )
    np.testing.assert_array_equal(pair.type_ids, [0] * len(first) + [1] * (len(second) - 1))
    np.testing.assert_array_equal(pair.offsets, np.concatenate([first.offsets, second.offsets[1:]]))
    np.testing.assert_array_equal(
        pair.is_special, np.concatenate([first.is_special, second.is_special[1:]])
    )


def test_texts_come_out_in_order(tokenizer: Tokenizer) -> None:
    texts = [f"the cat {index}" for index in range(50)]
    for text, encoding in zip(texts, tokenizer.encode(texts), strict=True):
        assert_equal(encoding, tokenizer.encode([text])[0])


def test_no_texts_give_no_encodings(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]) == []


def test_an_empty_text_is_special_tokens_alone(tokenizer: Tokenizer) -> None:
    (encoding,) = tokenizer.encode([""])
    assert tokenizer.tokens(encoding.token_ids) == ["[CLS]", "[SEP]"]
    assert encoding.is_special.all()


def test_known_texts_decode_to_themselves(tokenizer: Tokenizer) -> None:
    for text in ("the cat sat on the mat", "the dog ran"):
        assert tokenizer.decode(tokenizer.encode([text])[0].token_ids) == text


def test_wordpiece_splits_words_and_marks_what_continues_one(trained: dict[str, Tokenizer]) -> None:
    assert tokens(trained["wordpiece"], "the cats") == ["[CLS]", "the", "cat", "##s", "[SEP]"]
    (encoding,) = trained["wordpiece"].encode(["the cats"])
    assert encoding.offsets[1:-1].tolist() == [[0, 3], [4, 7], [7, 8]]


def test_a_word_of_unknown_characters_is_one_unknown_token(trained: dict[str, Tokenizer]) -> None:
    (encoding,) = trained["wordpiece"].encode(["the кот"])
    assert trained["wordpiece"].tokens(encoding.token_ids) == ["[CLS]", "the", "[UNK]", "[SEP]"]
    assert encoding.offsets[2].tolist() == [4, 7]
    assert not encoding.is_special[2]


def test_lowercase_drops_case_and_accents_and_keeps_offsets_of_the_source() -> None:
    tokenizer = Tokenizer.train(CORPUS, "wordpiece", vocabulary_size=300, lowercase=True)
    (encoding,) = tokenizer.encode(["CAFÉ"])
    assert tokenizer.tokens(encoding.token_ids) == ["[CLS]", "cafe", "[SEP]"]
    assert encoding.offsets[1].tolist() == [0, 4]


def test_wordpiece_keeps_case_and_accents_unless_asked(trained: dict[str, Tokenizer]) -> None:
    assert tokens(trained["wordpiece"], "Café crème") == ["[CLS]", "Café", "crème", "[SEP]"]


def test_nothing_is_unknown_to_bpe(trained: dict[str, Tokenizer]) -> None:
    text = "кот 猫 🙂 \x00"
    (encoding,) = trained["bpe"].encode([text])
    assert "[UNK]" not in trained["bpe"].tokens(encoding.token_ids)
    assert trained["bpe"].decode(encoding.token_ids) == text


def test_bpe_offsets_leave_out_the_space_before_a_word(trained: dict[str, Tokenizer]) -> None:
    (encoding,) = trained["bpe"].encode(["the cat"])
    assert encoding.offsets[1:-1].tolist() == [[0, 3], [4, 7]]


def test_char_makes_a_token_of_each_character_spaces_too(trained: dict[str, Tokenizer]) -> None:
    (encoding,) = trained["char"].encode(["a\n t🙂"])
    written = trained["char"].tokens(encoding.token_ids)
    assert written == ["[CLS]", "a", "[UNK]", " ", "t", "[UNK]", "[SEP]"]
    assert encoding.offsets[1:-1].tolist() == [[i, i + 1] for i in range(5)]


def test_a_special_token_written_in_a_text_is_taken_for_one(tokenizer: Tokenizer) -> None:
    (encoding,) = tokenizer.encode(["the [MASK]"])
    written = tokenizer.tokens(encoding.token_ids)
    assert written[-2:] == ["[MASK]", "[SEP]"]
    assert encoding.offsets[-2].tolist() == [4, 10]
    assert not encoding.is_special[-2]  # it stands for text


@pytest.mark.parametrize(
    ("kind", "asked", "given"),
    [
        ("wordpiece", 30, 30),
        ("bpe", 270, 270),
        ("char", 9, 9),
        ("wordpiece", 9, 24),
        ("bpe", 9, 261),
    ],
)
def test_the_vocabulary_is_as_large_as_asked_but_holds_the_alphabet(
    kind: str, asked: int, given: int
) -> None:
    corpus = ["the cat sat on the mat", "the dog ran to the cat"]
    assert Tokenizer.train(corpus, kind, vocabulary_size=asked).vocabulary_size == given


def test_ids_are_below_the_vocabulary_size(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.tokens([tokenizer.vocabulary_size - 1]))
    for encoding in tokenizer.encode(CORPUS):
        assert encoding.token_ids.max() < tokenizer.vocabulary_size


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(EncodaxError, match="'unigram' is not one of: wordpiece, bpe, char"):
        Tokenizer.train(CORPUS, "unigram")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_lowercase_goes_with_wordpiece_alone(kind: str) -> None:
    with pytest.raises(EncodaxError, match=f"lowercase is for the wordpiece.*not for {kind}"):
        Tokenizer.train(CORPUS, kind, lowercase=True)


def test_a_loaded_tokenizer_encodes_equally(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocabulary_size == tokenizer.vocabulary_size
    texts = [*CORPUS, "", "кот 🙂", ("the cat", "the dog"), "the [SEP] cat"]
    for one, other in zip(tokenizer.encode(texts), loaded.encode(texts), strict=True):
        assert_equal(one, other)
        assert tokenizer.decode(one.token_ids) == loaded.decode(one.token_ids)


@pytest.mark.parametrize("has_types", [False, True])
def test_saving_writes_what_transformers_reads(
    tokenizer: Tokenizer, tmp_path: Path, has_types: bool
) -> None:
    tokenizer.save(tmp_path, max_length=128, has_types=has_types)
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {
        **SPECIAL_TOKENS,
        "tokenizer_class": "PreTrainedTokenizerFast",
        # Without them transformers gives the texts of a pair the same type.
        "model_input_names": ["input_ids", *["token_type_ids"] * has_types, "attention_mask"],
        "model_max_length": 128,
    }


def test_saving_without_a_limit_names_none(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "model_max_length" not in config


def test_truncation_and_padding_of_a_loaded_tokenizer_are_off(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    text = "the cat sat on the mat"
    assert_equal(Tokenizer.load(tmp_path).encode([text])[0], tokenizer.encode([text])[0])


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        EncodaxError, match=r"tokenizer\.json does not exist, nor any of vocab\.txt"
    ):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("{}", "cannot be read as a tokenizer"),
        ("not JSON", "is not JSON"),
        ('{"model": 3}', "cannot be read as a tokenizer"),
    ],
)
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(EncodaxError, match=rf"tokenizer\.json {message}"):
        Tokenizer.load(tmp_path)


TRAIN = """
import sys
from encodax.text.tokenizer import Tokenizer
texts = [line.rstrip("\\n") for line in open(sys.argv[1], encoding="utf-8")]
for kind in ("wordpiece", "bpe", "char"):
    print(Tokenizer.train(texts, kind, vocabulary_size=500)._backend.to_str())
"""


def test_the_same_texts_give_the_same_vocabulary_in_every_process(tmp_path: Path) -> None:
    random = np.random.default_rng(0)  # ties are many where words are random
    words = ["".join(random.choice(list("abcdefghé"), 5)) for _ in range(300)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(" ".join(words[i::7]) for i in range(7)), encoding="utf-8")
    source = str(Path(__file__).parents[2] / "src")
    outputs = {
        subprocess.run(
            [sys.executable, "-c", TRAIN, str(corpus)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": source},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000


@pytest.mark.parametrize("length", [1, 2, 5, 7, 8])
def test_a_truncated_encoding_ends_with_its_last_special_token(
    trained: dict[str, Tokenizer], length: int
) -> None:
    (encoding,) = trained["wordpiece"].encode(["the cat sat on the mat"])
    assert len(encoding) == 8
    short = encoding.truncated(length)
    assert len(short) == length
    assert short.token_ids.tolist() == [*encoding.token_ids[: length - 1], encoding.token_ids[-1]]
    assert short.offsets.tolist() == [*encoding.offsets[: length - 1].tolist(), [0, 0]]
    assert short.is_special[-1]


def test_what_is_short_enough_is_not_truncated(trained: dict[str, Tokenizer]) -> None:
    (encoding,) = trained["wordpiece"].encode(["the cat"])
    assert_equal(encoding.truncated(99), encoding)


def test_of_a_pair_the_longer_text_is_cut_first_as_the_library_does(tokenizer: Tokenizer) -> None:
    text = "the cat sat on the mat"
    reference = tokenizers.Tokenizer.from_str(tokenizer._backend.to_str())
    for pair in ((text, "the dog"), ("the dog", text), (text, text), (text, ""), ("", text)):
        (whole,) = tokenizer.encode([pair])
        for length in range(3, len(whole) + 2):
            reference.enable_truncation(length, strategy="longest_first")
            expected = reference.encode(*pair)
            short = whole.truncated(length)
            assert short.token_ids.tolist() == expected.ids
            assert short.type_ids.tolist() == expected.type_ids
            assert short.offsets.tolist() == [list(offsets) for offsets in expected.offsets]
            assert short.is_special.tolist() == [bool(i) for i in expected.special_tokens_mask]
            assert short.sequence_ids.tolist() == [
                -1 if i is None else i for i in expected.sequence_ids
            ]


@pytest.mark.parametrize("pair", [("MKTAYIA", "MKTAYIAK"), ("MKTAYIAK", "MKT"), ("MK", "MKTAY")])
def test_of_a_pair_of_esm_the_first_text_keeps_the_odd_token(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, {"vocab.txt": ESM}), model_type="esm")
    (whole,) = tokenizer.encode([pair])
    frame = int(np.count_nonzero(whole.sequence_ids == -1))
    counts = [int(np.count_nonzero(whole.sequence_ids == text)) for text in (0, 1)]
    while sum(counts):  # a token a time, as transformers cuts where it has no library to do so
        counts[0 if counts[0] > counts[1] else 1] -= 1
        short = whole.truncated(frame + sum(counts))
        assert [int(np.count_nonzero(short.sequence_ids == text)) for text in (0, 1)] == counts


@pytest.mark.parametrize("length", [1, 2])
def test_a_pair_without_room_for_its_special_tokens_ends_with_the_last(
    tokenizer: Tokenizer, length: int
) -> None:
    (pair,) = tokenizer.encode([("the cat", "the dog")])
    short = pair.truncated(length)
    assert tokenizer.tokens(short.token_ids) == ["[CLS]", "[SEP]"][-length:]
    assert short.type_ids[-1] == 1


def test_sequence_ids_tell_the_texts_of_a_pair_from_the_special_tokens(
    tokenizer: Tokenizer,
) -> None:
    (pair,) = tokenizer.encode([("the", "[MASK]")])
    (single,) = tokenizer.encode(["the"])
    assert single.sequence_ids.tolist() == [-1, *[0] * (len(single) - 2), -1]
    assert pair.sequence_ids.tolist() == [*single.sequence_ids.tolist(), 1, -1]
    assert pair.sequence_ids.dtype == np.int32


# The directories of published families. What is expected of them is what AutoTokenizer of
# transformers 5.23 gives.


def words(text: str) -> list[str]:
    return text.split()


BERT = words("""[PAD] [UNK] [CLS] [SEP] [MASK] the cat ##s sat on cafe caf ##e café The ! , . ' s a
##b b 猫 ##犬 犬 < mask > x""")
MPNET = ["<s>", "<pad>", "</s>", "<unk>", *BERT, "<mask>"]
ESM = words("""<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . -
<null_1> <mask>""")
MERGES = ["Ġ t", "t h", "th e", "Ġ the", "c a", "ca t", "Ġ cat", "Ġt h", "# v", "# #"]
BPE = ["<s>", "<pad>", "</s>", "<unk>"]
BPE += sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
BPE += [merge.replace(" ", "") for merge in MERGES] + ["<mask>"]


EXPECTED_BERT: dict[str, list[int]] = {
    "the cats sat!": [2, 5, 6, 7, 8, 15, 3],
    "": [2, 3],
    "   ": [2, 3],
    "The CAF\u00c9, cafe\u0301 the": [2, 5, 10, 16, 10, 5, 3],
    "猫犬cat": [2, 23, 25, 6, 3],
    "a [MASK] b[MASK]the": [2, 20, 4, 22, 4, 5, 3],
    "the <mask>cat <mask> s": [2, 5, 26, 27, 28, 6, 26, 27, 28, 19, 3],
    "[mask] <MASK>": [2, 1, 27, 1, 26, 27, 28, 3],
    "x the x": [2, 29, 5, 29, 3],
    "\u0000a\u200bb\u00a0c\u001c\u001dd\ta\r\n": [2, 20, 21, 1, 20, 3],
    "🙂 кот ab": [2, 1, 1, 20, 21, 3],
    "MKTAYIAKQR": [2, 1, 3],
    "M K T  AYI\nAK": [2, 1, 1, 1, 1, 1, 3],
    "mkTay k": [2, 1, 1, 3],
    "M<mask>K <mask>A": [2, 1, 26, 27, 28, 1, 26, 27, 28, 20, 3],
    "MJ*J1 2X?": [2, 1, 1, 1, 1, 1, 3],
    "M\u001cK\u2028T\u3000jj\u001dj\u0085j\u180ej\u200bj": [2, 1, 1, 1, 3],
    ".-B..<unk>Z<unk": [2, 17, 1, 22, 17, 17, 26, 1, 28, 1, 26, 1, 3],
    "the  the</s>the <s> cat": [2, 5, 5, 26, 1, 19, 28, 5, 26, 19, 28, 6, 3],
    "<mask": [2, 26, 27, 3],
    "##version ##": [2, 1, 1, 1, 1, 1, 3],
    "a</s></s> b": [2, 20, 26, 1, 19, 28, 26, 1, 19, 28, 22, 3],
    "[CLS] the [SEP]": [2, 2, 5, 3, 3],
    "<<mask>>": [2, 26, 26, 27, 28, 28, 3],
    "a" * 119: [2, 1, 3],
}  # fmt: skip

EXPECTED_CASED: dict[str, list[int]] = {
    "The CAF\u00c9, cafe\u0301 the": [2, 14, 1, 16, 1, 5, 3],
    "猫犬cat": [2, 1, 3],
    "a [MASK] b[MASK]the": [2, 20, 4, 22, 4, 5, 3],
    "x the x": [2, 29, 5, 29, 3],
    "[CLS] the [SEP]": [2, 2, 5, 3, 3],
}  # fmt: skip

EXPECTED_STRIPPED: dict[str, list[int]] = {
    "The CAF\u00c9, cafe\u0301 the": [2, 14, 1, 16, 10, 5, 3],
    "猫犬cat": [2, 23, 25, 6, 3],
    "a [MASK] b[MASK]the": [2, 20, 4, 22, 4, 5, 3],
    "x the x": [2, 29, 5, 29, 3],
    "[CLS] the [SEP]": [2, 2, 5, 3, 3],
}  # fmt: skip

EXPECTED_NAMED: dict[str, list[int]] = {
    "The CAF\u00c9, cafe\u0301 the": [3, 5, 10, 16, 10, 5, 3],
    "猫犬cat": [3, 23, 25, 6, 3],
    "a [MASK] b[MASK]the": [3, 20, 1, 27, 1, 22, 1, 27, 1, 5, 3],
    "x the x": [3, 29, 5, 29, 3],
    "[CLS] the [SEP]": [3, 1, 1, 1, 5, 3, 3],
}  # fmt: skip

EXPECTED_MPNET: dict[str, list[int]] = {
    "the cats sat!": [0, 9, 10, 11, 12, 19, 2],
    "": [0, 2],
    "   ": [0, 2],
    "The CAF\u00c9, cafe\u0301 the": [0, 9, 14, 20, 14, 9, 2],
    "猫犬cat": [0, 27, 29, 10, 2],
    "a [MASK] b[MASK]the": [0, 24, 5, 31, 5, 26, 5, 31, 5, 9, 2],
    "the <mask>cat <mask> s": [0, 9, 34, 10, 34, 23, 2],
    "[mask] <MASK>": [0, 5, 31, 5, 30, 31, 32, 2],
    "x the x": [0, 33, 9, 33, 2],
    "\u0000a\u200bb\u00a0c\u001c\u001dd\ta\r\n": [0, 24, 25, 5, 24, 2],
    "🙂 кот ab": [0, 5, 5, 24, 25, 2],
    "MKTAYIAKQR": [0, 5, 2],
    "M K T  AYI\nAK": [0, 5, 5, 5, 5, 5, 2],
    "mkTay k": [0, 5, 5, 2],
    "M<mask>K <mask>A": [0, 5, 34, 5, 34, 24, 2],
    "MJ*J1 2X?": [0, 5, 5, 5, 5, 5, 2],
    "M\u001cK\u2028T\u3000jj\u001dj\u0085j\u180ej\u200bj": [0, 5, 5, 5, 2],
    ".-B..<unk>Z<unk": [0, 21, 5, 26, 21, 21, 30, 5, 32, 5, 30, 5, 2],
    "the  the</s>the <s> cat": [0, 9, 9, 2, 9, 0, 10, 2],
    "<mask": [0, 30, 31, 2],
    "##version ##": [0, 5, 5, 5, 5, 5, 2],
    "a</s></s> b": [0, 24, 2, 2, 26, 2],
    "[CLS] the [SEP]": [0, 5, 5, 5, 9, 5, 5, 5, 2],
    "<<mask>>": [0, 30, 34, 32, 2],
    "a" * 119: [0, 5, 2],
}  # fmt: skip

EXPECTED_ESM: dict[str, list[int]] = {
    "the cats sat!": [0, 3, 3, 3, 2],
    "": [0, 2],
    "   ": [0, 2],
    "The CAF\u00c9, cafe\u0301 the": [0, 11, 3, 23, 5, 18, 3, 3, 3, 2],
    "猫犬cat": [0, 3, 2],
    "a [MASK] b[MASK]the": [0, 3, 3, 20, 5, 8, 15, 3, 3, 20, 5, 8, 15, 3, 2],
    "the <mask>cat <mask> s": [0, 3, 32, 3, 32, 3, 2],
    "[mask] <MASK>": [0, 3, 3, 20, 5, 8, 15, 3, 2],
    "x the x": [0, 3, 3, 3, 2],
    "\u0000a\u200bb\u00a0c\u001c\u001dd\ta\r\n": [0, 3, 3, 3, 3, 2],
    "🙂 кот ab": [0, 3, 3, 3, 2],
    "MKTAYIAKQR": [0, 20, 15, 11, 5, 19, 12, 5, 15, 16, 10, 2],
    "M K T  AYI\nAK": [0, 20, 15, 11, 5, 19, 12, 5, 15, 2],
    "mkTay k": [0, 3, 11, 3, 3, 2],
    "M<mask>K <mask>A": [0, 20, 32, 15, 32, 5, 2],
    "<cls>M<eos><pad><null_1>L<nul<null_1": [0, 0, 20, 2, 1, 31, 4, 3, 2],
    "MJ*J1 2X?": [0, 20, 3, 3, 24, 3, 2],
    "M\u001cK\u2028T\u3000jj\u001dj\u0085j\u180ej\u200bj": [0, 20, 15, 11, 3, 3, 3, 2],
    ".-B..<unk>Z<unk": [0, 29, 30, 25, 29, 29, 3, 27, 3, 2],
    "the  the</s>the <s> cat": [0, 3, 3, 3, 3, 2],
    "<mask": [0, 3, 2],
    "##version ##": [0, 3, 3, 2],
    "a</s></s> b": [0, 3, 3, 2],
    "[CLS] the [SEP]": [0, 3, 23, 4, 8, 3, 3, 3, 8, 9, 14, 3, 2],
    "<<mask>>": [0, 3, 32, 3, 2],
    "a" * 119: [0, 3, 2],
}  # fmt: skip

EXPECTED_ROBERTA: dict[str, list[int]] = {
    "the cats sat!": [0, 262, 266, 86, 224, 86, 68, 87, 4, 2],
    "": [0, 2],
    "   ": [0, 224, 224, 224, 2],
    "猫犬cat": [0, 167, 238, 108, 167, 236, 109, 265, 2],
    "[mask] <MASK>": [0, 62, 80, 68, 86, 78, 64, 224, 31, 48, 36, 54, 46, 33, 2],
    "x the x": [0, 91, 267, 72, 224, 91, 2],
    "🙂 кот ab": [0, 176, 257, 251, 228, 224, 144, 122, 144, 126, 145, 228, 224, 68, 69, 2],
    "MKTAYIAKQR": [0, 48, 46, 55, 36, 60, 44, 36, 46, 52, 53, 2],
    "M K T  AYI\nAK": [0, 48, 224, 46, 224, 55, 224, 224, 36, 60, 44, 202, 36, 46, 2],
    "mkTay k": [0, 80, 78, 55, 68, 92, 224, 78, 2],
    "MJ*J1 2X?": [0, 48, 45, 13, 45, 20, 224, 21, 59, 34, 2],
    ".-B..<unk>Z<unk": [0, 17, 16, 37, 17, 17, 3, 61, 31, 88, 81, 78, 2],
    "the  the</s>the <s> cat": [0, 262, 224, 267, 72, 2, 262, 224, 0, 266, 2],
    "<mask": [0, 31, 80, 68, 86, 78, 2],
    "##version ##": [0, 269, 89, 72, 85, 86, 76, 82, 81, 224, 269, 2],
    "a</s></s> b": [0, 68, 2, 2, 224, 69, 2],
    "[CLS] the [SEP]": [0, 62, 38, 47, 54, 64, 267, 72, 224, 62, 54, 40, 51, 64, 2],
    "<<mask>>": [0, 31, 270, 33, 2],
}  # fmt: skip


def written(directory: Path, files: Mapping[str, object]) -> Path:
    """A directory of these files: JSON, lines, text, or bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content)
        if isinstance(content, list):
            content = "\n".join(content) + "\n"
        data = content if isinstance(content, bytes) else str(content).encode()
        (directory / name).write_bytes(data)
    return directory


def ids(tokenizer: Tokenizer, text: str | tuple[str, str]) -> list[int]:
    return tokenizer.encode([text])[0].token_ids.tolist()


ROBERTA = {
    "vocab.json": {token: index for index, token in enumerate(BPE)},
    "merges.txt": ["#version: 0.2", *MERGES],
}


@pytest.mark.parametrize(
    ("family", "files", "shown"),
    [
        ("roberta", ROBERTA, {"Ġcat": "cat", "th": "…th", "Ġ": "Ġ", "é": "é", "<mask>": "<mask>"}),
        ("bert", {"vocab.txt": BERT}, {"cat": "cat", "##s": "…s", "[MASK]": "[MASK]", ",": ","}),
    ],
)
def test_tokens_are_shown_as_a_reader_knows_them(
    tmp_path: Path, family: str, files: dict[str, object], shown: dict[str, str]
) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, files), model_type=family)
    entries = tokenizer.tokens(range(tokenizer.vocabulary_size))
    assert {entry: tokenizer.shown(entries.index(entry)) for entry in shown} == shown


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "nomic_bert"])
def test_a_vocabulary_of_bert_alone_makes_its_tokenizer(tmp_path: Path, family: str) -> None:
    written(tmp_path, {"vocab.txt": BERT})
    tokenizer = Tokenizer.load(tmp_path, model_type=family)
    expected = EXPECTED_BERT
    assert {text: ids(tokenizer, text) for text in expected} == expected
    (pair,) = tokenizer.encode([("the cat", "a <mask>")])
    assert pair.token_ids.tolist() == [2, 5, 6, 3, 20, 26, 27, 28, 3]
    assert pair.type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert pair.sequence_ids.tolist() == [-1, 0, 0, -1, 1, 1, 1, 1, -1]
    assert pair.offsets.tolist()[1:3] == [[0, 3], [4, 7]]
    assert tokenizer.special_tokens == SPECIAL_TOKENS
    assert (tokenizer.pad_id, tokenizer.mask_token, tokenizer.mask_id) == (0, "[MASK]", 4)
    assert tokenizer.vocabulary_size == len(BERT)
    assert tokenizer.decode(ids(tokenizer, "the cats")) == "the cats"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"do_lower_case": False, "tokenize_chinese_chars": False}, EXPECTED_CASED),
        ({"do_lower_case": False, "strip_accents": True}, EXPECTED_STRIPPED),
        ({"mask_token": {"content": "x", "lstrip": True}, "cls_token": "[SEP]"}, EXPECTED_NAMED),
    ],
)
def test_the_configuration_says_how_bert_reads(
    tmp_path: Path, config: dict[str, object], expected: dict[str, list[int]]
) -> None:
    written(tmp_path, {"vocab.txt": BERT, "tokenizer_config.json": config})
    tokenizer = Tokenizer.load(tmp_path, model_type="bert")
    assert {text: ids(tokenizer, text) for text in expected} == expected


def test_mpnet_frames_as_roberta_does(tmp_path: Path) -> None:
    written(tmp_path, {"vocab.txt": MPNET})
    tokenizer = Tokenizer.load(tmp_path, model_type="mpnet")
    assert {text: ids(tokenizer, text) for text in EXPECTED_MPNET} == EXPECTED_MPNET
    (pair,) = tokenizer.encode([("the cat", "a <mask>")])
    assert pair.token_ids.tolist() == [0, 9, 10, 2, 2, 24, 34, 2]
    assert not pair.type_ids.any()
    assert pair.sequence_ids.tolist() == [-1, 0, 0, -1, -1, 1, 1, -1]
    assert tokenizer.special_tokens["unk_token"] == "[UNK]"  # and not <unk>, which is there too
    assert (tokenizer.pad_id, tokenizer.mask_id) == (1, 34)


def test_esm_finds_the_vocabulary_anywhere_and_ignores_spaces(tmp_path: Path) -> None:
    written(tmp_path, {"vocab.txt": "\n".join(ESM)})  # published without a last line end
    tokenizer = Tokenizer.load(tmp_path, model_type="esm")
    assert {text: ids(tokenizer, text) for text in EXPECTED_ESM} == EXPECTED_ESM
    (pair,) = tokenizer.encode([("M K", "<mask>x")])
    assert pair.token_ids.tolist() == [0, 20, 15, 2, 32, 3, 2]
    assert not pair.type_ids.any()  # EsmTokenizer gives a model no types
    assert pair.sequence_ids.tolist() == [-1, 0, 0, -1, 1, 1, -1]
    assert pair.offsets.tolist()[1:3] == [[0, 1], [2, 3]]
    assert tokenizer.decode(pair.token_ids[:4]) == "M K"  # as transformers writes it
    assert (tokenizer.pad_id, tokenizer.mask_token, tokenizer.mask_id) == (1, "<mask>", 32)
    assert tokenizer.special_tokens["eos_token"] == "<eos>"
    assert "sep_token" not in tokenizer.special_tokens


def test_esm_splits_at_what_python_calls_a_space(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, {"vocab.txt": ESM}), model_type="esm")
    characters = [chr(code) for code in range(0x3100)]
    for character, encoding in zip(
        characters, tokenizer.encode([f"k{c}k" for c in characters]), strict=True
    ):
        found = len(encoding) - 2
        expected = 2 if character.isspace() else 3 if character in ESM else 1
        assert found == expected, repr(character)


def test_esm_takes_the_longest_entry(tmp_path: Path) -> None:
    entries = [*ESM[:4], "A", "Ad", "AdV", "d", "V"]
    tokenizer = Tokenizer.load(written(tmp_path, {"vocab.txt": entries}), model_type="esm")
    assert tokens(tokenizer, "AdAdVAVd")[1:-1] == ["Ad", "AdV", "A", "V", "d"]


def test_roberta_is_made_of_its_vocabulary_and_merges(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, ROBERTA), model_type="roberta")
    assert {text: ids(tokenizer, text) for text in EXPECTED_ROBERTA} == EXPECTED_ROBERTA
    (pair,) = tokenizer.encode([("the cat", "a b")])
    assert tokenizer.tokens(pair.token_ids) == [
        "<s>", "the", "Ġcat", "</s>", "</s>", "a", "Ġ", "b", "</s>",
    ]  # fmt: skip
    assert not pair.type_ids.any()
    assert pair.sequence_ids.tolist() == [-1, 0, 0, -1, -1, 1, 1, 1, -1]
    assert pair.offsets.tolist()[1:3] == [[0, 3], [4, 7]]
    assert [len(pair.truncated(length)) for length in (4, 6, 8)] == [4, 6, 8]
    assert (tokenizer.pad_id, tokenizer.mask_id) == (1, len(BPE) - 1)


def test_the_mask_of_roberta_takes_the_space_before_it_where_a_file_says_so(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, ROBERTA), model_type="roberta")
    assert tokens(tokenizer, "the <mask> cat") == ["<s>", "the", "Ġ", "<mask>", "Ġcat", "</s>"]
    mask = {"mask_token": {"content": "<mask>", "lstrip": True}}
    written(tmp_path, {"special_tokens_map.json": mask})
    tokenizer = Tokenizer.load(tmp_path, model_type="roberta")
    assert tokens(tokenizer, "the <mask> cat") == ["<s>", "the", "<mask>", "Ġcat", "</s>"]


def test_roberta_may_put_a_space_before_a_text(tmp_path: Path) -> None:
    written(tmp_path, ROBERTA | {"tokenizer_config.json": {"add_prefix_space": True}})
    tokenizer = Tokenizer.load(tmp_path, model_type="roberta")
    assert ids(tokenizer, "cat") == [0, 266, 2]


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": {"model_type": "esm"}},
        {"tokenizer_config.json": {"tokenizer_class": "EsmTokenizer"}},
        {"config.json": {"model_type": "bert", "tokenizer_class": "EsmTokenizerFast"}},
    ],
)
def test_the_directory_says_of_which_family_it_is(tmp_path: Path, files: dict[str, object]) -> None:
    written(tmp_path, {"vocab.txt": ESM} | files)
    assert ids(Tokenizer.load(tmp_path), "MK") == [0, 20, 15, 2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"spm.model": b"\x00"}, r"spm\.model alone is not enough for a tokenizer of None"),
        ({"spiece.model": b"", "config.json": {"model_type": "albert"}}, "spiece.*of albert"),
        ({"sentencepiece.bpe.model": b""}, r"sentencepiece\.bpe\.model alone"),
        ({"vocab.txt": BERT}, r"vocab\.txt alone is not enough for a tokenizer of None"),
        ({"vocab.json": {}, "config.json": {"model_type": "roberta"}}, r"vocab\.json alone"),
        (
            {"vocab.txt": BERT, "config.json": {"tokenizer_class": "BertJapaneseTokenizer"}},
            "for a tokenizer of bertjapanese",
        ),
    ],
)  # fmt: skip
def test_what_is_not_read_is_to_be_converted(
    tmp_path: Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(EncodaxError, match=message) as caught:
        Tokenizer.load(written(tmp_path, files))
    assert "AutoTokenizer.from_pretrained(X).save_pretrained(X)" in str(caught.value)
    assert "\n" not in str(caught.value)


FILES_OF_BERT = {"vocab.txt": BERT, "config.json": {"model_type": "bert"}}
FILES_OF_ROBERTA = ROBERTA | {"config.json": {"model_type": "roberta"}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (FILES_OF_BERT | {"vocab.txt": b"\xff\xfe"}, r"vocab\.txt is not UTF-8"),
        (FILES_OF_BERT | {"vocab.txt": [*BERT, "cat"]}, r"vocab\.txt: lines 7 and 31 are.*'cat'"),
        (FILES_OF_BERT | {"vocab.txt": BERT[4:]}, r"vocab\.txt has no '\[UNK\]'.* unk_token"),
        (FILES_OF_BERT | {"vocab.txt": BERT[:3]}, r"vocab\.txt has no '\[SEP\]'.* sep_token"),
        (FILES_OF_BERT | {"vocab.txt": ""}, r"vocab\.txt has no '\[UNK\]'"),
        (FILES_OF_BERT | {"tokenizer_config.json": "{"}, r"tokenizer_config\.json is not JSON"),
        (FILES_OF_BERT | {"tokenizer_config.json": "[" * 99_999}, r"config\.json is not JSON"),
        (FILES_OF_BERT | {"tokenizer_config.json": "[]"}, r"config\.json must hold an object, not"),
        (FILES_OF_BERT | {"tokenizer_config.json": b"\xff"}, r"config\.json is not UTF-8"),
        (FILES_OF_BERT | {"special_tokens_map.json": "3"}, r"map\.json must hold an object, not a"),
        (FILES_OF_BERT | {"tokenizer_config.json": {"do_lower_case": "no"}}, "is neither true nor"),
        (
            FILES_OF_BERT | {"tokenizer_config.json": {"cls_token": "\ud800"}},
            "surrogates not allowed",
        ),
        (FILES_OF_BERT | {"tokenizer_config.json": {"cls_token": "no"}}, "has no 'no'.* cls_token"),
        (FILES_OF_BERT | {"added_tokens.json": {"<e>": 40}}, "'<e>' has the id 40, and the voc"),
        (FILES_OF_ROBERTA | {"vocab.json": {"<s>": 0, "a": 2}}, r"vocab\.json: no token has.* 1"),
        (FILES_OF_ROBERTA | {"vocab.json": {"<s>": 0, "a": 0}}, "'<s>' and 'a' have the same id 0"),
        (FILES_OF_ROBERTA | {"vocab.json": {"a": "0"}}, "the id of 'a' is '0', not a token id"),
        (FILES_OF_ROBERTA | {"vocab.json": {"a": -1}}, "the id of 'a' is -1"),
        (FILES_OF_ROBERTA | {"merges.txt": ["a b c"]}, r"merges\.txt: needs two.* 'a b c'"),
        (FILES_OF_ROBERTA | {"merges.txt": ["Q Q"]}, r"cannot be read as a tokenizer.*`QQ`"),
    ],
)
def test_broken_vocabulary_files_are_named(
    tmp_path: Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(EncodaxError, match=message) as caught:
        Tokenizer.load(written(tmp_path, files))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_id_of_two_tokens_is_named(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    content = json.loads(trained["char"]._backend.to_str())
    content["model"]["vocab"]["?"] = 7
    with pytest.raises(EncodaxError, match=r"tokenizer\.json: .* have the same id 7"):
        Tokenizer.load(written(tmp_path, {"tokenizer.json": content}))


def test_ids_are_below_the_size_of_a_vocabulary_with_holes(
    trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    content = json.loads(trained["char"]._backend.to_str())
    content["model"]["vocab"]["?"] = 500
    tokenizer = Tokenizer.load(written(tmp_path, {"tokenizer.json": content}))
    assert ids(tokenizer, "?")[1:-1] == [500]
    assert tokenizer.vocabulary_size == 501


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens.json": {"<e2>": 31, "<e1>": 30}},
        {
            "tokenizer_config.json": {
                "added_tokens_decoder": {"31": {"content": "<e2>"}, "30": {"content": "<e1>"}},
            }
        },
    ],
)
def test_added_tokens_have_the_ids_they_are_given(tmp_path: Path, files: dict[str, object]) -> None:
    tokenizer = Tokenizer.load(written(tmp_path, FILES_OF_BERT | files))
    assert ids(tokenizer, "the<E2>cat <e1>") == [2, 5, 31, 6, 30, 3]
    assert tokenizer.vocabulary_size == 32


def test_the_map_of_special_tokens_counts_unless_the_configuration_lists_them(
    trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    files = {
        "tokenizer.json": trained["char"]._backend.to_str(),
        "tokenizer_config.json": {"mask_token": "t", "pad_token": "a", "bos_token": None},
        "special_tokens_map.json": {"mask_token": {"content": "c"}, "eos_token": "not there"},
    }
    size = trained["char"].vocabulary_size
    tokenizer = Tokenizer.load(written(tmp_path, files), rows=size)  # there is none for eos_token
    assert tokenizer.special_tokens == SPECIAL_TOKENS | {"mask_token": "c", "pad_token": "a"}
    assert Tokenizer.load(tmp_path).vocabulary()["not there"] == size
    assert [tokenizer.pad_id, tokenizer.mask_id] == ids(tokenizer, "ac")[1:-1]
    config = {"mask_token": "t", "added_tokens_decoder": {}}
    written(tmp_path, {"tokenizer_config.json": config})
    assert Tokenizer.load(tmp_path).mask_token == "t"


def test_a_vocabulary_without_special_tokens_has_none() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer = Tokenizer(backend)
    assert tokenizer.special_tokens == {}
    assert (tokenizer.pad_id, tokenizer.mask_id, tokenizer.mask_token) == (0, None, None)


def test_files_are_carried_from_load_to_save_unchanged(tmp_path: Path) -> None:
    carried = {
        "tokenizer_config.json": b'{"do_lower_case":  true, "model_max_length": 512}',
        "special_tokens_map.json": b'{"cls_token" : "[CLS]"}',
        "added_tokens.json": b'{"<e>":30 }',
        "vocab.txt": "\n".join(BERT).encode(),
        "vocab.json": b"{ }",
        "merges.txt": b"\r\n",
        "spm.model": b"\x00\xff",
        "spiece.model": b"\x01\xff",
        "sentencepiece.bpe.model": b"\x02\xff",
    }
    others = {"config.json": {"model_type": "bert"}, "weights.bin": b"", "tokenizer.pkl": b""}
    loaded = Tokenizer.load(written(tmp_path / "one", carried | others))
    assert loaded.files == carried
    target = written(tmp_path / "two", {})
    loaded.save(target, max_length=99, model_type="bert")
    assert {path.name for path in target.iterdir()} == {*carried, "tokenizer.json"}
    assert {name: (target / name).read_bytes() for name in carried} == carried
    again = Tokenizer.load(target)
    text = "The cats, [MASK] <e> 猫"
    assert_equal(again.encode([text])[0], loaded.encode([text])[0])
    assert again.special_tokens == loaded.special_tokens


def test_a_published_configuration_gets_a_length_and_loses_its_code(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "do_lower_case": False}
    files = FILES_OF_BERT | {"tokenizer_config.json": config, "evil.py": "raise SystemExit"}
    loaded = Tokenizer.load(written(tmp_path / "one", files))
    target = written(tmp_path / "two", {})
    loaded.save(target, max_length=99)
    assert json.loads((target / "tokenizer_config.json").read_text()) == {
        "do_lower_case": False,
        "model_max_length": 99,
    }
    loaded.save(target)
    assert json.loads((target / "tokenizer_config.json").read_text()) == {"do_lower_case": False}


def test_for_esm_a_vocabulary_of_words_is_written_as_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["MKTAYIAKQR"], "char", vocabulary_size=30)
    tokenizer.save(tmp_path, model_type="esm", has_types=False)
    vocabulary = (tmp_path / "vocab.txt").read_text().split("\n")
    assert vocabulary == tokenizer.tokens(range(tokenizer.vocabulary_size))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    special = SPECIAL_TOKENS | {"eos_token": "[SEP]"}
    assert config == special | {
        "tokenizer_class": "EsmTokenizer",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    expected = ids(tokenizer, "MKTAY")
    (tmp_path / "tokenizer.json").unlink()
    assert ids(Tokenizer.load(tmp_path), "MKTAY") == expected


@pytest.mark.parametrize("kind", KINDS)  # of which char has learned a space, which is no line
def test_for_esm_no_other_vocabulary_is_written(
    trained: dict[str, Tokenizer], tmp_path: Path, kind: str
) -> None:
    trained[kind].save(tmp_path, model_type="esm")
    assert not (tmp_path / "vocab.txt").exists()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_snapshot_of_the_hugging_face_cache_is_links_to_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "1"
    written(blobs, {"abc": BERT})
    for place, link in ((snapshot, "../.."), (snapshot / "inner", "../../..")):
        place.mkdir(parents=True)
        (place / "vocab.txt").symlink_to(f"{link}/blobs/abc")
        tokenizer = Tokenizer.load(place, model_type="bert")
        assert tokens(tokenizer, "the cat") == ["[CLS]", "the", "cat", "[SEP]"]


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "spm.model"])
def test_a_link_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path, {"secret": "x"})
    place = written(tmp_path / "blobs", FILES_OF_BERT)
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to("../secret")
    with pytest.raises(EncodaxError, match=f"{name} is a link out of its directory; put the file"):
        Tokenizer.load(place)


def test_a_link_to_the_directory_or_within_it_is_followed(tmp_path: Path) -> None:
    place = written(tmp_path / "real", FILES_OF_BERT)
    (place / "vocab.txt").rename(place / "words")
    (place / "vocab.txt").symlink_to("words")
    (tmp_path / "link").symlink_to("real")
    assert ids(Tokenizer.load(tmp_path / "link"), "the") == [2, 5, 3]


# What the files say besides the ids. Every key of theirs against transformers:
# `parity/test_tokenizer_goldens.py`.


def left(directory: Path) -> Tokenizer:
    """A tokenizer whose files say that the last words of a text are kept."""
    side = {"truncation_side": "left", "tokenizer_class": "BertTokenizer"}
    return Tokenizer.load(written(directory, FILES_OF_BERT | {"tokenizer_config.json": side}))


def test_the_last_words_are_kept_where_the_files_say_so(tmp_path: Path) -> None:
    tokenizer = left(tmp_path)
    (encoding,) = tokenizer.encode(["the cat sat on cafe"])
    assert tokenizer.tokens(encoding.truncated(4).token_ids) == ["[CLS]", "on", "cafe", "[SEP]"]
    assert encoding.truncated(4).offsets.tolist() == [[0, 0], [12, 14], [15, 19], [0, 0]]
    assert tokenizer.tokens(encoding.truncated(2).token_ids) == ["[CLS]", "[SEP]"]
    (kept,), cut = check_lengths([encoding], 5, truncate=True, names=["it"])
    assert (tokenizer.tokens(kept.token_ids)[1:-1], cut) == (["sat", "on", "cafe"], 1)
    assert tokenizer.tokens(kept.truncated(3).token_ids) == ["[CLS]", "cafe", "[SEP]"]  # once more
    (target,) = tokenizer.encode_targets(["the cat sat"])
    assert tokenizer.tokens(target.truncated(3).token_ids) == ["[CLS]", "sat", "[SEP]"]


def test_of_a_pair_the_longer_text_loses_its_first_words_as_in_the_library(tmp_path: Path) -> None:
    tokenizer = left(tmp_path)
    text = "the cat sat on the cafe"
    reference = tokenizers.Tokenizer.from_str(tokenizer._backend.to_str())
    for pair in ((text, "the x"), ("the x", text), (text, text), (text, ""), ("", text)):
        (whole,) = tokenizer.encode([pair])
        for length in range(3, len(whole) + 2):
            reference.enable_truncation(length, strategy="longest_first", direction="left")
            expected = reference.encode(*pair)
            short = whole.truncated(length)
            assert short.token_ids.tolist() == expected.ids
            assert short.offsets.tolist() == [list(offsets) for offsets in expected.offsets]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
def test_the_side_that_is_kept_is_saved(tmp_path: Path, name: str) -> None:
    left(tmp_path / "files").save(written(tmp_path / "one", {}), model_type="bert")
    if name == "tokenizer.json":
        path = tmp_path / "one" / name
        (tmp_path / "one" / "tokenizer_config.json").unlink()
        section = {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": section}))
    Tokenizer.load(tmp_path / "one").save(written(tmp_path / "two", {}))
    (encoding,) = Tokenizer.load(tmp_path / "two").encode(["the cat sat"])
    assert encoding.cuts_left
    assert encoding.offsets.tolist()[1:3] == [[0, 3], [4, 7]]


def test_what_was_loaded_is_saved_with_all_keys(tmp_path: Path) -> None:
    source = written(tmp_path / "one", FILES_OF_BERT)
    Tokenizer.load(source).save(source)
    content = json.loads((source / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "unheard_of": [1]}
    files = {"tokenizer.json": content, "tokenizer_config.json": config, "chat_template.jinja": "x"}
    written(source, files)
    loaded = Tokenizer.load(source)
    target = written(tmp_path / "two", {})
    loaded.save(target)
    for name in files:
        assert (target / name).read_bytes() == (source / name).read_bytes()
    again = Tokenizer.load(target)
    assert ids(again, "The the") == ids(loaded, "The the") == [2, 14, 5, 3]
    keys = loaded.keys["tokenizer_config.json"]
    assert {"do_lower_case", "tokenizer_class"} <= {*keys.used}
    assert keys.kept == {"unheard_of": [1]}
    assert keys.reasons == {"unheard_of": "the tokenizer's class does not read it"}
    made_anew = loaded.keys["tokenizer.json"].reasons["normalizer"]
    assert made_anew.startswith("the tokenizer's class makes it again")


def test_a_tokenizer_saved_with_another_model_keeps_its_class(tmp_path: Path) -> None:
    source = written(tmp_path / "one", FILES_OF_BERT)
    Tokenizer.load(source).save(source)
    content = json.loads((source / "tokenizer.json").read_text())
    written(source, {"tokenizer.json": {**content, "normalizer": None}})
    (source / "tokenizer_config.json").unlink()
    loaded = Tokenizer.load(source)
    target = written(tmp_path / "two", {"config.json": {"model_type": "encodax"}})
    loaded.save(target, model_type="encodax")
    assert ids(Tokenizer.load(target), "THE") == ids(loaded, "THE") == [2, 5, 3]
    config = json.loads((target / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "BertTokenizer"


def test_types_are_given_where_the_files_ask_for_them(tmp_path: Path) -> None:
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    written(tmp_path, FILES_OF_BERT | {"tokenizer_config.json": inputs})
    (pair,) = Tokenizer.load(tmp_path).encode([("the", "cat")])
    assert not pair.type_ids.any()
    assert pair.sequence_ids.tolist() == [-1, 0, -1, 1, -1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"truncation_side": "middle"}, 'truncation_side = "middle" is not left or right'),
        ({"model_input_names": "input_ids"}, 'model_input_names = "input_ids" is not a list'),
        ({"mask_token": 3}, "mask_token = 3 is not a token"),
        ({"cls_token": None}, "cls_token = null, and BertTokenizer needs one"),
        ({"extra_special_tokens": 3}, "extra_special_tokens = 3 is not a list"),
        ({"tokenize": True}, "tokenize = true is not supported; remove the key"),
        ({"vocab": {"a": 0}}, "vocab = {.*} is not supported; remove the key"),
        ({"strip_accents": "no"}, 'strip_accents = "no" is neither true nor false'),
        ({"added_tokens_decoder": {"5": 3}}, "3 is not a token"),
        ({"added_tokens_decoder": {"x": {"content": "y"}}}, "added_tokens_decoder: invalid"),
    ],
)  # fmt: skip
def test_keys_that_are_wrong_are_named(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    written(tmp_path, FILES_OF_BERT | {"tokenizer_config.json": config})
    with pytest.raises(EncodaxError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("PhobertTokenizer", {}, "PhobertTokenizer does not read tokenizer.json"),
        ("HerbertTokenizerFast", {"do_lower_case": False}, "do_lower_case = false is not supp"),
    ],
)  # fmt: skip
def test_the_way_out_of_a_class_that_is_not_known_works(
    trained: dict[str, Tokenizer],
    tmp_path: Path,
    name: str,
    config: dict[str, object],
    message: str,
) -> None:
    files = {"tokenizer.json": trained["wordpiece"]._backend.to_str()}
    written(tmp_path, files | {"tokenizer_config.json": {"tokenizer_class": name, **config}})
    with pytest.raises(EncodaxError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert "set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config" in str(caught.value)
    config = {**config, "tokenizer_class": "PreTrainedTokenizerFast"}
    written(tmp_path, {"tokenizer_config.json": config})
    text = "the cats"
    assert ids(Tokenizer.load(tmp_path), text) == ids(trained["wordpiece"], text)


def test_spaces_are_cleaned_where_the_files_say_so_and_never_in_bpe(
    trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    for kind, expected in (("char", "a, b!"), ("bpe", "a , b !")):
        tokenizer = Tokenizer.train(["a , b !"], kind)
        clean = {"clean_up_tokenization_spaces": True}
        files = {"tokenizer.json": tokenizer._backend.to_str(), "tokenizer_config.json": clean}
        loaded = Tokenizer.load(written(tmp_path / kind, files))
        assert loaded.decode(ids(loaded, "a , b !")) == expected
        assert tokenizer.decode(ids(tokenizer, "a , b !")) == "a , b !"


def test_what_the_library_fails_at_is_named_by_text() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.raises(EncodaxError, match=r"text 1: the tokenizer fails: .*Missing"):
        Tokenizer(backend).encode(["a", "b"])


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, FILES_OF_BERT)
    (tmp_path / "tokenizer_config.json").mkdir()
    with pytest.raises(EncodaxError, match=r"tokenizer_config\.json is a folder"):
        Tokenizer.load(tmp_path)


def test_a_panic_of_the_library_is_an_error_of_one_line() -> None:
    class PanicException(BaseException):
        """As the library's, which is no Exception either."""

    with pytest.raises(EncodaxError, match=r"it: two lines$"), library_errors("it"):
        raise PanicException("two\nlines")
    with pytest.raises(KeyboardInterrupt), library_errors("it"):
        raise KeyboardInterrupt


class Held(str):
    """Text that can be watched."""


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_an_iterator_are_not_held_in_memory(kind: Kind) -> None:
    """The vocabulary is that of the same texts in a list."""
    texts = [f"the cat {number} sat on the mat {number % 7}" for number in range(4000)]
    alive: weakref.WeakSet[Held] = weakref.WeakSet()
    most = 0

    def one_by_one() -> Iterator[str]:
        nonlocal most
        for text in texts:
            held = Held(text)
            alive.add(held)
            most = max(most, len(alive))
            yield held

    streamed = Tokenizer.train(one_by_one(), kind, vocabulary_size=120)
    assert streamed.vocabulary() == Tokenizer.train(texts, kind, vocabulary_size=120).vocabulary()
    assert most < 1000
