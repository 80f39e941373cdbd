import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encodax.errors import EncodaxError
from encodax.tokenizer import SPECIAL_TOKENS, Encoding, Tokenizer

CORPUS = ["the cat sat on the mat", "the dog ran", "Café crème, s'il vous plaît!", "12 May 2021"]
KINDS = ("wordpiece", "bpe", "char")


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: Tokenizer.train(CORPUS, kind, vocabulary_size=300) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    return trained[request.param]


def tokens(tokenizer: Tokenizer, text: str | tuple[str, str]) -> list[str]:
    return tokenizer.tokens(tokenizer.encode([text])[0].token_ids)


def assert_equal(one: Encoding, other: Encoding) -> None:
    for field in ("token_ids", "type_ids", "offsets", "is_special"):
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
    with pytest.raises(EncodaxError, match=f"lowercase goes with the wordpiece.*not with {kind}"):
        Tokenizer.train(CORPUS, kind, lowercase=True)


def test_a_loaded_tokenizer_encodes_equally(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocabulary_size == tokenizer.vocabulary_size
    texts = [*CORPUS, "", "кот 🙂", ("the cat", "the dog"), "the [SEP] cat"]
    for one, other in zip(tokenizer.encode(texts), loaded.encode(texts), strict=True):
        assert_equal(one, other)
        assert tokenizer.decode(one.token_ids) == loaded.decode(one.token_ids)


def test_saving_writes_what_transformers_reads(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, max_length=128)
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {
        **SPECIAL_TOKENS,
        "tokenizer_class": "PreTrainedTokenizerFast",
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
    with pytest.raises(EncodaxError, match=r"tokenizer\.json does not exist: is .* a model"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "not JSON", '{"model": 3}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(EncodaxError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        Tokenizer.load(tmp_path)


TRAIN = """
import sys
from encodax.tokenizer import Tokenizer
texts = [line.rstrip("\\n") for line in open(sys.argv[1], encoding="utf-8")]
for kind in ("wordpiece", "bpe", "char"):
    print(Tokenizer.train(texts, kind, vocabulary_size=500)._backend.to_str())
"""


def test_the_same_texts_give_the_same_vocabulary_in_every_process(tmp_path: Path) -> None:
    random = np.random.default_rng(0)  # ties are many where words are random
    words = ["".join(random.choice(list("abcdefghé"), 5)) for _ in range(300)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(" ".join(words[i::7]) for i in range(7)), encoding="utf-8")
    source = str(Path(__file__).parents[1] / "src")
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
