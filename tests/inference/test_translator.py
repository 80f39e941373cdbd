"""Texts in, translations out: in order, alike in any company, by search, greedily or drawn."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sacrebleu import corpus_bleu, corpus_chrf
from toys import REVERSALS, reverser, with_end

from encodax import Seq2SeqModel, Translator
from encodax.data.sources import records_of
from encodax.errors import EncodaxError
from encodax.generation.search import BeamSearch, Sampling
from encodax.inference.translator import GenerationOptions, Translation
from encodax.tasks.task import Example

SOURCES = [record["source"] for record in REVERSALS]
TEXTS = ["a", "abcdabcdabcdabcdabcdab", "dc", "abcd" * 4, "b", "dcbaabcddcbaabcd", "ab", "dda"]
"""Of two rooms."""
SHORT = SOURCES[::9]
"""Of one."""


@pytest.fixture(scope="module")
def reverse() -> Translator:
    """Has learned what it does."""
    return Translator(reverser().model, batch_size=4)


@pytest.fixture(scope="module")
def write() -> Translator:
    """Has forgotten a part of it: what it writes ends anywhere, and is not too sure."""
    return Translator(forgetful(), batch_size=4)


@functools.cache
def forgetful() -> Seq2SeqModel:
    random = np.random.default_rng(0)

    def noisy(leaf: Any) -> Any:
        return leaf + np.float32(0.12) * random.standard_normal(leaf.shape).astype(np.float32)

    model = reverser().model
    assert isinstance(model, Seq2SeqModel)
    return replace(model, params=jax.tree.map(noisy, dict(model.params)))


def endless() -> Seq2SeqModel:
    """It never ends of itself."""
    return with_end(-1e4)


def compilations(caplog: pytest.LogCaptureFixture, run: Callable[[], Any]) -> int:
    """How many functions XLA compiles while something runs."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run()
    return sum(message.startswith("Finished XLA compilation") for message in caplog.messages)


def ids_of(found: list[Translation]) -> list[tuple[str, int, bool]]:
    return [(each.text, each.tokens, each.is_cut) for each in found]


# --- what is written


@pytest.mark.parametrize("beams", [1, 4])
def test_what_was_learned_is_written_exactly(reverse: Translator, beams: int) -> None:
    found = reverse.translate(SOURCES, beams=beams)
    assert [each.text for each in found] == [record["target"] for record in REVERSALS]
    for source, each in zip(SOURCES, found, strict=True):
        assert each.tokens == len(source) + 1
        assert -0.5 < each.score < 0
        assert (each.is_cut, each.others, str(each)) == (False, (), each.text)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_is_translated_alike_in_any_company_and_order(write: Translator, beams: int) -> None:
    texts = TEXTS + SHORT
    alone = [write.translate([text], beams=beams)[0] for text in texts]
    assert len({each.text for each in alone}) > 2
    assert len({each.tokens for each in alone}) > 2
    count = len(texts)
    for order in (reversed(range(count)), np.random.default_rng(0).permutation(count)):
        chosen = [int(index) for index in order]
        found = write.translate([texts[index] for index in chosen], beams=beams)
        assert ids_of(found) == ids_of([alone[index] for index in chosen])
        scores = [[each.score for each in of] for of in (found, [alone[i] for i in chosen])]
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_batches_of_any_size_give_the_same(write: Translator) -> None:
    wanted = write.translate(SHORT)
    for batch_size in (1, 3, 32):
        found = Translator(forgetful(), batch_size=batch_size).translate(SHORT)
        assert ids_of(found) == ids_of(wanted)


def test_one_beam_is_greedy(write: Translator) -> None:
    greedy = write.translate(SHORT, beams=1)
    one = [
        answer
        for _, answer in write.answers(
            (Example(text, None, "here") for text in SHORT),
            GenerationOptions(BeamSearch(1, length_penalty=0.0)),
        )
    ]
    assert ids_of(one) == ids_of(greedy)
    np.testing.assert_allclose([e.score for e in one], [e.score for e in greedy], rtol=1e-5)


@pytest.mark.usefixtures("unchecked_types")
def test_any_whole_number_counts_beams(write: Translator) -> None:
    wanted = write.translate(SHORT[:2], beams=2)
    assert write.translate(SHORT[:2], beams=np.int64(2)) == wanted


def test_more_beams_find_what_is_as_probable_or_more(write: Translator) -> None:
    greedy = write.translate(SHORT, beams=1)
    many = write.translate(SHORT, beams=BeamSearch(6, length_penalty=0.0, early_stopping="never"))
    gains = [best.score - first.score for best, first in zip(many, greedy, strict=True)]
    assert min(gains) > -1e-4
    assert max(gains) > 0.01


@pytest.mark.parametrize("offset", [0.0, 1_000_000.0])
@pytest.mark.parametrize("alpha", [-5.0, 5.0])
def test_the_largest_length_penalties_are_finite(alpha: float, offset: float) -> None:
    """Of the longest and least probable sequences too."""
    (found,) = Translator(endless()).translate(["abc"], beams=BeamSearch(2, alpha, offset))
    assert (found.tokens, found.is_cut) == (32, True)
    assert np.isfinite(found.score)


def test_the_best_of_several_come_in_order(write: Translator) -> None:
    found = write.translate(TEXTS, beams=4, n_best=3)
    assert ids_of(found) == ids_of(write.translate(TEXTS, beams=4))
    for each in found:
        assert len(each.others) == 2
        scores = [each.score, *(other.score for other in each.others)]
        assert scores == sorted(scores, reverse=True)
        assert len({one.score for one in (each, *each.others)}) == 3
        assert all(other.others == () for other in each.others)


def test_a_translation_as_json() -> None:
    other = Translation("b", -2.5, 3, is_cut=True)
    found = Translation("a", -0.5, 2, others=(other,)).to_json()
    of_other = {"translation": "b", "score": -2.5, "tokens": 3, "is_cut": True}
    assert found == {"translation": "a", "score": -0.5, "tokens": 2, "others": [of_other]}
    assert Translation("a", -0.5, 2).to_json() == {"translation": "a", "score": -0.5, "tokens": 2}


@pytest.mark.parametrize("beams", [1, 2])
def test_padding_is_never_written(beams: int) -> None:
    """However probable it is, and what is left is chosen from as if it were not there."""
    model = forgetful()
    bias = model.params["output"]["b"].at[model.config.pad_id].set(1e3)
    params = {**model.params, "output": {"b": bias}}
    found = Translator(replace(model, params=params), batch_size=4).translate(SHORT, beams=beams)
    without = replace(model, config=replace(model.config, suppressed_ids=()))
    bias = bias.at[model.config.pad_id].set(-1e3)
    params = {**model.params, "output": {"b": bias}}
    wanted = Translator(replace(without, params=params), batch_size=4).translate(SHORT, beams=beams)
    if beams == 1:
        assert ids_of(found) == ids_of(wanted)
    assert all(each.tokens >= 1 and each.score < -900 for each in found)
    assert all("[PAD]" not in each.text for each in found)


# --- drawn


def test_what_is_drawn_follows_the_seed(write: Translator) -> None:
    def drawn(seed: int) -> list[str]:
        sampling = Sampling(temperature=1.5)
        return [each.text for each in write.translate(SHORT, sampling=sampling, seed=seed)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert drawn(0) == drawn(0)


def test_texts_that_are_equal_are_drawn_apart(write: Translator) -> None:
    found = write.translate(["abc"] * 12, sampling=Sampling(temperature=4.0))
    assert len({each.text for each in found}) > 8


def test_what_a_text_draws_follows_its_place_in_the_input(
    write: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And neither the batch it is in, nor what else is there."""
    wanted = ids_of(write.translate(["abc"] * 6, sampling=Sampling(temperature=2.0)))
    for batch_size in (1, 2, 32):
        translator = Translator(forgetful(), batch_size=batch_size)
        found = translator.translate(["abc"] * 6, sampling=Sampling(temperature=2.0))
        assert ids_of(found) == wanted
    texts = ["abc", "d", "abc", "abcd" * 4, "abc", "abc"]
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 2)
    found = write.translate(texts, sampling=Sampling(temperature=2.0))
    assert [ids_of(found)[place] for place in (0, 2, 4, 5)] == [wanted[i] for i in (0, 2, 4, 5)]


def test_several_are_drawn_of_each_text(write: Translator) -> None:
    """The first as if it were alone; the others by the text's place too, in whichever company."""
    sampling, texts = Sampling(temperature=2.0), ["abc", "abcd" * 4, "abc", "d", "dc", "abc"]

    def drawn(translator: Translator, texts: list[str], n_best: int, seed: int = 0) -> list[Any]:
        found = translator.translate(texts, sampling=sampling, n_best=n_best, seed=seed)
        return [[each.text, *(other.text for other in each.others)] for each in found]

    found = drawn(write, texts, 4)
    assert found == drawn(write, texts, 4) != drawn(write, texts, 4, seed=1)
    assert [each[:1] for each in found] == drawn(write, texts, 1)
    assert [each[:2] for each in found] == drawn(write, texts, 2)
    assert len({text for place in (0, 2, 5) for text in found[place]}) > 8
    assert drawn(Translator(forgetful(), batch_size=1), texts, 4) == found
    alike = drawn(write, ["abc"] * 6, 4)
    assert [alike[place] for place in (0, 2, 5)] == [found[place] for place in (0, 2, 5)]


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-6)])
def test_what_leaves_one_token_is_greedy(write: Translator, sampling: Sampling) -> None:
    found = write.translate(SHORT, sampling=sampling)
    assert ids_of(found) == ids_of(write.translate(SHORT, beams=1))


# --- where it ends


def test_what_has_not_ended_is_cut_and_told(
    reverse: Translator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="encodax"):
        found = reverse.translate(["abc", "d", "dcb"], max_tokens=2, beams=1)
    assert ids_of(found) == [("CB", 2, True), ("D", 2, False), ("BC", 2, True)]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("2 translations were cut at the largest number of tokens")
    assert found[0].to_json()["is_cut"] is True
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="encodax"):
        reverse.translate(["abc", "d", "dcb"], beams=1)
    assert not caplog.records


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("max_tokens", [1, 2, 32])
def test_no_translation_is_longer_than_it_may_be(
    write: Translator, beams: int, max_tokens: int
) -> None:
    found = write.translate(SHORT[:4], beams=beams, max_tokens=max_tokens)
    for each in found:
        assert 1 <= each.tokens <= max_tokens
        assert not each.is_cut or each.tokens == max_tokens


def test_without_a_limit_it_is_fifty_more_than_the_source_has_room_for() -> None:
    """Or what the model takes."""
    model = endless()
    (found,) = Translator(model, batch_size=1).translate(["abc"], beams=1)
    assert (found.tokens, found.is_cut) == (32, True)
    encoder, decoder = model.config.transformer.encoder, model.config.transformer.decoder
    table = replace(encoder.embeddings, max_positions=None)
    stacks = {
        "encoder": replace(encoder, embeddings=table),
        "decoder": replace(decoder, embeddings=table),
    }
    config = replace(model.config, transformer=replace(model.config.transformer, **stacks))
    for source, tokens in (("abc", 16 + 50), ("abcd" * 4, 24 + 50)):
        (found,) = Translator(replace(model, config=config), batch_size=1).translate(
            [source], beams=1
        )
        assert (found.tokens, found.is_cut) == (tokens, True)


# --- what cannot be


def test_no_text_has_no_translation(reverse: Translator) -> None:
    assert reverse.translate([]) == []


def test_one_string_is_no_list_of_texts(reverse: Translator) -> None:
    with pytest.raises(EncodaxError, match="give a list of texts, not one string"):
        reverse.translate("abc")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("texts", "choices", "message"),
    [
        (["a", ""], {}, "text 1: the text is empty"),
        (["a", "b" * 40], {}, "text 1: 41 tokens, and the model takes 32; .*truncate=True"),
        (["a", "\ud800"], {}, "text 1: character 0 of the text, .* is not Unicode"),
        (["a"], {"beams": 0}, "beams = 0 is below 1"),
        (["a"], {"beams": 2.0}, r"beams = 2\.0 is not a whole number"),
        (["a"], {"max_tokens": 2.5}, r"max_tokens = 2\.5 is not a whole number"),
        (["a"], {"beams": 14}, "beams = 14 is more than the 13 tokens of the vocabulary"),
        (["a"], {"beams": 4, "n_best": 5}, r"n_best = 5 is not in 1\.\.4, the number of beams"),
        (["a"], {"n_best": 0}, r"n_best = 0 is not in 1\.\.4"),
        (["a"], {"beams": 1, "n_best": 2}, r"n_best = 2 is not in 1\.\.1"),
        (["a"], {"sampling": Sampling(), "n_best": 0}, "n_best = 0 is below 1"),
        (["a"], {"max_tokens": 0}, "max_tokens = 0 is below 1"),
        (["a"], {"max_tokens": 33}, "max_tokens = 33 is more than the 32 that the model takes"),
        (["a"], {"seed": -1}, r"seed = -1 is not in 0\.\.4294967295"),
        (["a"], {"sampling": Sampling(), "seed": 2**32}, r"seed = 4294967296 is not in 0\.\."),
    ],
)
def test_what_cannot_be_is_refused(
    reverse: Translator, texts: list[str], choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncodaxError, match=f"^{message}"):
        reverse.translate(texts, **choices)
    if texts == ["a"]:
        with pytest.raises(EncodaxError, match=f"^{message}"):
            reverse.warm_up(16, **choices)


def test_tokens_are_drawn_or_searched() -> None:
    with pytest.raises(EncodaxError, match="give sampling or beams, not both"):
        GenerationOptions(BeamSearch(2), Sampling())


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_has_a_source(batch_size: int) -> None:
    with pytest.raises(EncodaxError, match=f"batch_size = {batch_size} is below 1"):
        Translator(forgetful(), batch_size=batch_size)


def test_broken_parameters_are_told() -> None:
    params = jax.tree.map(lambda leaf: leaf * np.nan, dict(forgetful().params))
    for beams in (1, 2):
        with pytest.raises(EncodaxError, match="scores are not finite: its parameters are broken"):
            Translator(replace(forgetful(), params=params)).translate(["a"], beams=beams)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_as_many_beams_as_tokens_find_no_more_than_there_is(
    reverse: Translator, max_tokens: int
) -> None:
    """Of one token each there are fewer than beams, as padding is never written."""
    count = reverse.model.tokenizer.vocabulary_size
    found = reverse.translate(["d"], beams=count, n_best=count, max_tokens=max_tokens)
    every = [found[0], *found[0].others]
    assert len(every) == (count - 1 if max_tokens == 1 else count)
    assert every[0].text == "D"
    assert all(each.score > -1e9 for each in every)


def test_long_texts_are_cut_and_counted(
    reverse: Translator, caplog: pytest.LogCaptureFixture
) -> None:
    long = ["abc" + "d" * 40, "ab", "dd" * 20]
    with caplog.at_level(logging.WARNING, logger="encodax"):
        found = reverse.translate(long, truncate=True, max_tokens=4)
    assert len(found) == 3
    assert found[1].text == "BA"
    assert ids_of(found[:1]) == ids_of(reverse.translate([long[0][:31]], max_tokens=4))
    assert caplog.records[0].getMessage() == "2 texts were cut to 32 tokens"


# --- streams


def test_a_stream_is_read_a_window_at_a_time(
    reverse: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 4)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for source in itertools.cycle(SOURCES):
            read += 1
            yield source

    stream = reverse.stream(endless(), max_wait=None)
    assert read == 0
    found = list(itertools.islice(stream, 90))
    assert read == 92
    assert [each.text for each in found] == [
        record["target"] for record in itertools.islice(itertools.cycle(REVERSALS), 90)
    ]


def test_what_comes_before_a_broken_source_is_answered(
    reverse: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 2)

    def broken() -> Iterator[str]:
        yield from ("ab", "cd", "a")
        raise OSError("gone")

    stream = reverse.stream(broken())
    assert [next(stream).text for _ in range(3)] == ["BA", "DC", "A"]
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_an_error_names_the_text_of_a_later_window(
    reverse: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encodax.data.stream.WINDOW_ITEMS", 2)
    stream = reverse.stream(["a", "b", "c", ""])
    assert [next(stream).text for _ in range(3)] == ["A", "B", "C"]
    with pytest.raises(EncodaxError, match=r"^text 3: the text is empty"):
        next(stream)


# --- programs


def test_nothing_is_compiled_after_a_first_pass(caplog: pytest.LogCaptureFixture) -> None:
    translator = Translator(forgetful(), batch_size=4)

    def first() -> None:
        translator.translate(TEXTS, beams=2)

    assert compilations(caplog, first) > 0
    assert compilations(caplog, first) == 0
    others = ["cd", "abcdabcd" * 2, "dd", "c" * 20, "d", "b"]
    again = functools.partial(translator.translate, others, beams=2, n_best=2)
    assert compilations(caplog, again) == 0


@pytest.mark.parametrize("options", [{}, {"beams": 1}, {"sampling": Sampling(top_k=3), "seed": 5}])
def test_nothing_is_compiled_after_warming_up(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    translator = Translator(forgetful(), batch_size=2)
    translator.warm_up(16, **options)
    run = functools.partial(translator.translate, [*SHORT, "abcd" * 3], **options)
    assert compilations(caplog, run) == 0
    longer = functools.partial(translator.translate, ["abcd" * 4], **options)
    assert compilations(caplog, longer) == 1


def test_warming_up_covers_whatever_the_model_takes(caplog: pytest.LogCaptureFixture) -> None:
    translator = Translator(forgetful(), batch_size=1)
    translator.warm_up(beams=1)
    texts = ["a" * count for count in range(1, 32)]
    assert compilations(caplog, lambda: translator.translate(texts, beams=1)) == 0


def test_products_may_be_in_fewer_bits(reverse: Translator) -> None:
    assert reverse.precision == "float32"
    fewer = Translator(reverser().model, precision="bfloat16")
    exact, found = reverse.translate(SOURCES), fewer.translate(SOURCES)
    assert [each.text for each in found] == [each.text for each in exact]
    differences = np.abs([one.score - two.score for one, two in zip(exact, found, strict=True)])
    assert 0 < differences.max() < 0.3


def test_it_is_made_of_a_directory(reverse: Translator, tmp_path: Path) -> None:
    reverser().model.save(tmp_path / "model")
    loaded = Translator.load(tmp_path / "model", batch_size=4)
    assert loaded.translate(SHORT) == reverse.translate(SHORT)


# --- measured, and looked at


@pytest.mark.parametrize("beams", [1, 3])
def test_an_evaluation_is_sacrebleus(beams: int) -> None:
    translator, options = Translator(endless()), {"beams": beams, "max_tokens": 8}
    hypotheses = [each.text for each in translator.translate(SHORT, **options)]
    references = [f"{text[2:]}x" for text in hypotheses]
    records = [{"source": s, "target": t} for s, t in zip(SHORT, references, strict=True)]
    found = translator.evaluate(records_of(records), tokenize="char", **options)
    bleu = corpus_bleu(hypotheses, [references], tokenize="char")
    assert 0 < found["bleu"] == bleu.score < 90
    assert 0 < found["chrf"] == corpus_chrf(hypotheses, [references]).score < 95
    assert "|tok:char|" in found["bleu_signature"]


def test_what_was_learned_is_at_a_hundred(reverse: Translator) -> None:
    found = reverse.evaluate(records_of(REVERSALS), tokenize="char", truncate=True)
    assert found["chrf"] == pytest.approx(100)
    assert reverse.evaluate(records_of(REVERSALS[20:]))["chrf"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("records", "choices", "message"),
    [
        ([], {}, "the data set is empty: it has no example"),
        ([{"source": "a"}], {}, "example 0: no field 'target'"),
        (
            [{"source": "a", "target": "A"}],
            {"tokenize": "x"},
            "the tokenizer 'x' of BLEU is not known",
        ),
        ([], {"tokenize": "x"}, "the tokenizer 'x' of BLEU is not known"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    reverse: Translator, records: list[dict[str, str]], choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncodaxError, match=message):
        reverse.evaluate(records_of(records), **choices)
