"""A look inside: the model's own arrays, its own answers, and shares of what it says."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import goldens
import jax
import numpy as np
import pytest
from blocks import assert_close, drawn
from directories import refusal
from toys import reverser, with_end, writer

import encodax
from encodax import Inspector, Seq2SeqModel, Tokenizer, Translator
from encodax.config import InferenceConfig
from encodax.data.packing import assemble_pairs
from encodax.inspection import attention_maps, inspector
from encodax.inspection.attention_maps import Resolution
from encodax.models.encoder_model import Model
from encodax.types.batches import PackedBatch, PairBatch
from encodax.types.inspection import AttentionMaps, Inspection

TEXT = "the quick cat ran"
OTHER = "a dog met him in Paris"
TAGS = ("O", "B-who", "I-who", "B-when", "I-when")
LABELS = ("one", "two", "three", "four", "five", "six", "seven")


@pytest.fixture(scope="module")
def with_head(tiny_model: Model) -> Callable[..., Model]:
    """The tiny model with a head of another kind, and no bias of 0."""

    @functools.cache
    def make(kind: str, *labels: str, problem: str = "single_label") -> Model:
        if kind == "embedding":
            return tiny_model.with_embeddings("mean")
        if kind == "none":
            config = dataclasses.replace(tiny_model.config, head=None, labels=())
            of_encoder = {
                path: leaves
                for path, leaves in tiny_model.params.items()
                if path.startswith("encoder/")
            }
            return dataclasses.replace(tiny_model, config=config, params=of_encoder)
        classes = tiny_model.tokenizer.vocabulary_size if kind == "vocabulary" else 2
        choices: dict[str, Any] = {"labels": labels, "problem": problem, "classes": classes}
        made = tiny_model.with_head(kind, **choices)  # type: ignore[arg-type]
        return dataclasses.replace(made, params=drawn(jax.eval_shape(lambda: made.params)))

    return make


@functools.cache
def translated() -> Inspection:
    """Of a text, with the translation that the model finds."""
    return Inspector(reverser().model, steps=4).inspect("abc")


def run(model: Any, batch: Any, *stages: str) -> Any:
    return jax.jit(lambda params: model.apply(params, batch, record=frozenset(stages)))(
        model.params
    )


def words(tokens: Any) -> list[str]:
    return [token.text for token in tokens]


def whole_row(model: Model, *texts: Any) -> PackedBatch:
    """The texts in one row that has no padding."""
    encodings, _ = model.encode(texts)
    return encodax.data.packing.assemble(
        [encodings], row_count=1, row_tokens=sum(map(len, encodings)), slots=len(encodings)
    )


def assert_maps(maps: AttentionMaps, layers: Any) -> None:
    """The maps are these weights, their means and, where it is there, their rollout."""
    heads = layers[0].shape[1]
    rolled = np.eye(layers[0].shape[3])
    assert maps.block == 1 and maps.strongest is None
    assert len(maps.cells) == len(layers)
    for cells, layer in zip(maps.cells, map(np.asarray, layers), strict=True):
        assert cells.shape == (len(maps.views), len(maps.queries), len(maps.keys))
        assert_close(cells[:heads], layer[0], 2e-7)  # another program: the last bit may differ
        mean = layer[0].mean(axis=0)
        assert_close(cells[heads], mean, 1e-6)
        if maps.views[-1] == "rollout":
            rolled = (mean + np.eye(len(mean))) / 2 @ rolled
            assert_close(cells[heads + 1], rolled, 1e-6)


def assert_shares(found: Inspection, scores: Any, tolerance: float = 0.02) -> None:
    """Attributions are of these scores, and all but add up to them."""
    assert_close([each.score for each in found.attributions], scores, 1e-5)
    for each in found.attributions:
        assert each.shares.shape == (len(found.tokens),)
        assert abs(each.shares.sum() - (each.score - each.baseline)) < tolerance
        assert each.score != each.baseline


# --- what every model has


HEADS = {
    "sequence": (("sequence", *LABELS[:3]), (TEXT,)),
    "pair": (("sequence", *LABELS[:3]), ((TEXT, OTHER),)),
    "token": (("token", *TAGS), (TEXT,)),
    "span": (("span",), ((TEXT, OTHER),)),
    "vocabulary": (("vocabulary",), ("the [MASK] ran",)),
    "one vector": (("embedding",), (TEXT,)),
    "two vectors": (("embedding",), (TEXT, OTHER)),
    "none": (("none",), (TEXT,)),
}


@pytest.mark.parametrize("name", HEADS)
def test_weights_and_lengths_are_those_of_the_model(
    with_head: Callable[..., Model], name: str
) -> None:
    head, texts = HEADS[name]
    model = with_head(*head)
    batch = whole_row(model, *texts)
    wanted = run(model, batch, "attention", "hidden").records
    parts = texts[0] if isinstance(texts[0], tuple) else texts
    found = Inspector(model, steps=0).inspect(*parts)
    (maps,) = found.attention
    assert maps.name == "text to text"
    assert maps.views == ("head 1", "head 2", "mean of heads", "rollout")
    assert maps.queries == maps.keys == found.tokens
    assert_maps(maps, wanted["attention"])
    (norms,) = found.norms
    assert norms.tokens == found.tokens
    assert norms.values.shape == (3, len(found.tokens))
    for values, state in zip(norms.values, wanted["hidden"], strict=True):
        assert_close(values, np.linalg.norm(np.asarray(state)[0], axis=-1), 1e-6)
    ids = [token.token_id for token in found.tokens]
    assert ids == np.asarray(batch.token_ids)[0].tolist()
    assert [token.entry for token in found.tokens] == model.tokenizer.tokens(ids)
    assert found.attributions == ()


@pytest.mark.parametrize("family", ["deberta-v2", "esm", "modernbert"])
def test_of_every_family_they_are_too(family: str) -> None:
    model = goldens.parts(f"{family}/vocabulary")
    found = Inspector(model, steps=2).inspect("the [MASK] sat")
    wanted = run(model, whole_row(model, "the [MASK] sat"), "attention")
    assert_maps(found.attention[0], wanted.records["attention"])
    (shares,) = found.attributions
    specials = [token.entry.startswith("[") for token in found.tokens]
    assert ((shares.shares == 0) == specials).all()
    place = found.masks[0].place
    assert_close(shares.score, np.asarray(wanted.logits)[0, place].max(), 1e-5)


def test_numbers_do_not_depend_on_the_form_of_attention(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for form in ("plain", "xla", "blocked"):
        chosen = functools.partial(lambda form, *_: form, form)
        monkeypatch.setattr(encodax.nn.kernels.dispatch, "best_implementation", chosen)
        found.append(Inspector(tiny_model, steps=3).inspect(TEXT))
    wanted, *others = found
    for each in others:
        assert each.answer == wanted.answer
        assert_close(each.attention[0].cells, wanted.attention[0].cells, 1e-6)
        assert_close(each.norms[0].values, wanted.norms[0].values, 1e-6)
        for own, other in zip(each.attributions, wanted.attributions, strict=True):
            assert_close(own.shares, other.shares, 1e-5)
    # Another form indeed: last bits differ.
    assert any(
        (own.shares != other.shares).any()
        for own, other in zip(others[1].attributions, wanted.attributions, strict=True)
    )


# --- what tokens are called


def test_a_token_is_its_piece_of_the_text(with_head: Callable[..., Model]) -> None:
    text, other = "The  dîner, ran", "Zürich!"
    found = Inspector(with_head("sequence", *LABELS[:3]), steps=0).inspect(text, other)
    model = with_head("sequence", *LABELS[:3])
    ((encoding,), _) = model.encode([(text, other)])
    both, wanted = (text, other), []
    for side, (start, end), entry in zip(
        encoding.sequence_ids,
        encoding.offsets,
        model.tokenizer.tokens(encoding.token_ids),
        strict=True,
    ):
        wanted.append(entry if side < 0 else both[side][start:end])
    assert words(found.tokens) == wanted
    assert "[UNK]" not in wanted
    assert "".join(wanted[1:-1]).replace("[SEP]", " ") == "Thedîner,ran Zürich!"


def test_of_bytes_a_token_is_its_characters(tiny_model: Model) -> None:
    tokenizer = Tokenizer.train(["a cat", "a cat ran"], "bpe", vocabulary_size=300)
    config = dataclasses.replace(
        tiny_model.config,
        encoder=dataclasses.replace(
            tiny_model.config.encoder,
            embeddings=dataclasses.replace(
                tiny_model.config.encoder.embeddings, vocabulary_size=tokenizer.vocabulary_size
            ),
        ),
    )
    found = Inspector(Model.create(config, tokenizer), steps=0).inspect("a cat é")
    assert [token.entry for token in found.tokens] == [
        "[CLS]", "a", "Ġcat", "Ġ", "Ã", "©", "[SEP]",
    ]  # fmt: skip
    assert words(found.tokens) == ["[CLS]", "a", "cat", "Ġ", "é", "é", "[SEP]"]


def test_what_is_written_is_told_by_its_decoder() -> None:
    def told(model: Any, target: str) -> list[tuple[str, str]]:
        queries = Inspector(model, steps=0).inspect("ab", target).attention[0].queries
        return [(token.entry, token.text) for token in queries]

    end = ("[SEP]", "[SEP]")
    assert told(writer(), "AB") == [("A", "A"), ("B", "B"), end]
    found = told(writer(kind="wordpiece"), "ABCD DCBA")
    assert "".join(text for _, text in found) == "ABCDDCBA[SEP]"
    assert any(entry.startswith("##") for entry, _ in found)
    # Of a character that is two tokens, neither is anything.
    assert told(writer(kind="bpe"), "A é") == [
        ("A", "A"), ("Ġ", "Ġ"), ("Ã", "Ã"), ("©", "©"), end,
    ]  # fmt: skip


# --- answers, and what they come from


def test_the_labels_of_a_text_are_those_of_the_classifier(tiny_model: Model) -> None:
    found = Inspector(tiny_model).inspect(TEXT)
    (wanted,) = encodax.Classifier(tiny_model).predict([TEXT])
    best = sorted(wanted.scores, key=lambda label: -wanted.scores[label])
    assert found.answer == tuple((label, f"{100 * wanted.scores[label]:.1f} %") for label in best)
    assert [each.target for each in found.attributions] == best
    logits = np.asarray(run(tiny_model, tiny_model.batch([TEXT])).logits)[0, 0]
    assert_shares(found, [logits[tiny_model.labels.index(label)] for label in best])
    for each in found.attributions:
        is_special = [token.entry in ("[CLS]", "[SEP]") for token in found.tokens]
        assert ((each.shares == 0) == is_special).all()


def test_the_baseline_is_the_score_of_the_masked_text(tiny_model: Model) -> None:
    found = Inspector(tiny_model, steps=1).inspect(TEXT)
    batch = whole_row(tiny_model, TEXT)
    ids = np.asarray(batch.token_ids).copy()
    ids[:, 1:-1] = tiny_model.tokenizer.mask_id
    masked = run(tiny_model, dataclasses.replace(batch, token_ids=ids)).logits
    baselines = [each.baseline for each in found.attributions]
    assert_close(np.sort(baselines), np.sort(np.asarray(masked)[0, 0]), 1e-5)


def test_of_many_labels_the_best_are_told(with_head: Callable[..., Model]) -> None:
    model = with_head("sequence", *LABELS, problem="multi_label")
    found = Inspector(model, steps=1).inspect(TEXT, OTHER)
    (wanted,) = encodax.Classifier(model).predict([(TEXT, OTHER)])
    best = sorted(LABELS, key=lambda label: -wanted.scores[label])[:5]
    assert found.answer == tuple((label, f"{100 * wanted.scores[label]:.1f} %") for label in best)
    assert [each.target for each in found.attributions] == best


@pytest.mark.parametrize("problem", ["regression", "single_label"])
def test_a_quantity_is_no_probability(with_head: Callable[..., Model], problem: str) -> None:
    """Of a cross-encoder with one score, softmax would make 1, whatever it is."""
    model = with_head("sequence", "stars", problem=problem)
    found = Inspector(model, steps=8).inspect(TEXT, OTHER)
    (share,) = encodax.Reranker(model).predict([(TEXT, OTHER)])
    wanted = math.log(share / (1 - share))  # a cross-encoder's score goes through the sigmoid
    ((name, shown),) = found.answer
    assert name == "stars"
    assert float(shown) == pytest.approx(wanted, abs=1e-4)
    assert_shares(found, [wanted])


def test_spans_are_those_of_the_token_classifier(with_head: Callable[..., Model]) -> None:
    model = with_head("token", *TAGS)
    found = Inspector(model).inspect(TEXT)
    (spans,) = encodax.TokenClassifier(model).predict([TEXT])
    assert len(spans) > 1
    assert found.answer == tuple(
        (span.label, f"{TEXT[span.start : span.end]} ({100 * span.score:.1f} %)") for span in spans
    )
    output = run(model, whole_row(model, TEXT))
    (encoding,), _ = model.encode([TEXT])
    tags = np.asarray(output.logits)[0].argmax(axis=-1)
    probabilities = np.asarray(jax.nn.softmax(output.logits))[0].max(axis=-1)
    scores = []
    for span, each in zip(spans, found.attributions, strict=True):
        inside = [
            place
            for place, (start, end) in enumerate(encoding.offsets)
            if start < span.end and end > span.start
        ]
        place = max(inside, key=lambda place: probabilities[place])
        scores.append(np.asarray(output.logits)[0, place].max())
        piece = TEXT[slice(*encoding.offsets[place])]
        assert each.target == f"{TAGS[tags[place]]} at “{piece}”"
    assert_shares(found, scores)


def test_a_text_without_spans_says_so(with_head: Callable[..., Model]) -> None:
    model = with_head("token", *TAGS)
    outside = {**model.params["head/output"], "b": np.array([100.0, 0, 0, 0, 0], np.float32)}
    model = dataclasses.replace(model, params={**model.params, "head/output": outside})
    found = Inspector(model).inspect(TEXT)
    assert (found.answer, found.attributions) == ((("spans", "none"),), ())


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_answer_to_a_question_is_that_of_the_answerer(
    with_head: Callable[..., Model], sign: int
) -> None:
    model, texts = with_head("span"), ("a cat", "the dog")
    states = np.asarray(run(model, whole_row(model, texts)).hidden)[0]  # (T, D)
    assert states.shape[0] < states.shape[1]
    # Weights by which [CLS], which stands for no answer, has the highest score, or the lowest.
    # The states are nearly alike, so that the weights are large: small scores keep them in bounds.
    scores = np.linspace(-0.01, 0.01, len(states))
    scores[0] = 0.05 * sign
    w = np.linalg.lstsq(states, scores)[0].astype(np.float32)
    output = {"w": np.stack([w, w], axis=1), "b": np.zeros(2, np.float32)}
    model = dataclasses.replace(model, params={**model.params, "head/output": output})
    found = Inspector(model, steps=32).inspect(*texts)
    (wanted,) = encodax.QuestionAnswerer(model).predict([texts])
    is_none = wanted.no_answer_score >= wanted.score
    assert is_none == (sign == 1)
    assert found.answer == (
        ("answer", "none" if is_none else wanted.text),
        ("score", f"{wanted.score:.2f}"),
        ("score of no answer", f"{wanted.no_answer_score:.2f}"),
    )
    targets = [(f"“{wanted.text}”", wanted.score), ("no answer", wanted.no_answer_score)]
    if is_none:
        targets.reverse()
    assert [each.target for each in found.attributions] == [name for name, _ in targets]
    assert_shares(found, [score for _, score in targets])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_masks_are_filled_as_by_fill_mask(with_head: Callable[..., Model], count: int) -> None:
    model = with_head("vocabulary")
    text = ["the cat ran", "the [MASK] ran", "the [MASK] met [MASK]"][count]
    found = Inspector(model, top_k=7).inspect(text)
    assert len(found.answer) == len(found.masks) == len(found.attributions) == count
    if not count:
        return
    (wanted,) = encodax.FillMask(model, top_k=7).predict([text])
    assert found.answer == tuple(
        (f"mask {number}", f"{model.tokenizer.shown(best.token_id)} ({100 * best.score:.1f} %)")
        for number, (best, *_) in enumerate(wanted, 1)
    )
    logits = np.asarray(run(model, whole_row(model, text)).logits)[0]
    scores = []
    for guesses, masks, each in zip(wanted, found.masks, found.attributions, strict=True):
        names = [model.tokenizer.shown(guess.token_id) for guess in guesses]
        assert found.tokens[masks.place].text == "[MASK]"
        assert len(masks.layers) == 3
        assert [name for name, _ in masks.layers[-1]] == names
        assert_close(
            [score for _, score in masks.layers[-1]], [guess.score for guess in guesses], 1e-6
        )
        assert each.target.startswith(f"“{names[0]}” for mask ")
        scores.append(logits[masks.place].max())
        assert each.shares[masks.place] == 0
    assert_shares(found, scores, tolerance=0.1)


def test_no_more_is_guessed_than_there_is(with_head: Callable[..., Model]) -> None:
    model = with_head("vocabulary")
    (masks,) = Inspector(model, steps=0, top_k=10**6).inspect("the [MASK] ran").masks
    assert {len(layer) for layer in masks.layers} == {model.tokenizer.vocabulary_size}


def test_two_texts_are_as_near_as_their_vectors(with_head: Callable[..., Model]) -> None:
    model = with_head("embedding")
    found = Inspector(model).inspect(TEXT, OTHER)
    first, second = encodax.Embedder(model).encode([TEXT, OTHER])
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found.answer == (("cosine similarity", f"{cosine:.4f}"),)
    assert_shares(found, [cosine, cosine])
    by_first, by_second = found.attributions
    assert by_first.target == "similarity, by the first text"
    assert by_second.target == "similarity, by the second text"
    length = len(model.encode([TEXT])[0][0])
    assert (by_first.shares[length:] == 0).all() and by_first.shares[:length].any()
    assert (by_second.shares[:length] == 0).all() and by_second.shares[length:].any()
    # Neither attends to the other.
    cells = found.attention[0].cells
    assert (cells[..., :length, length:] == 0).all() and (cells[..., length:, :length] == 0).all()


def test_a_default_prompt_goes_before_each_text(with_head: Callable[..., Model]) -> None:
    model = with_head("embedding")
    usage = InferenceConfig((("query", "a dog: "), ("document", "the film: ")), "document")
    prompted = dataclasses.replace(model, config=dataclasses.replace(model.config, usage=usage))
    found = Inspector(prompted, steps=0).inspect(TEXT, OTHER)
    wanted = Inspector(model, steps=0).inspect(f"the film: {TEXT}", f"the film: {OTHER}")
    assert found.tokens == wanted.tokens
    assert found.answer == wanted.answer
    with pytest.raises(encodax.EncodaxError, match=r"^the second text: the text is empty"):
        Inspector(prompted).inspect(TEXT, " ")


def test_without_a_score_there_is_nothing_to_share(with_head: Callable[..., Model]) -> None:
    for kind in ("embedding", "none"):
        found = Inspector(with_head(kind)).inspect(TEXT)
        assert (found.answer, found.attributions, found.masks) == ((), (), ())


# --- translation


def pair_batch(model: Seq2SeqModel, source: str, target: str) -> PairBatch:
    (pair,), _ = model.encode_pairs([(source, target)], names=["the text"])
    sizes = len(pair.source), len(pair.given)
    return assemble_pairs([[pair]], row_count=1, row_tokens=sizes, slots=1)


def test_a_translation_is_that_of_the_translator() -> None:
    found, model = translated(), reverser().model
    (wanted,) = Translator(model).translate(["abc"])
    assert found.answer == (("translation", wanted.text),) == (("translation", "CBA"),)
    cross, target, source = found.attention
    assert words(found.tokens) == ["a", "b", "c", "[SEP]"]
    assert words(cross.queries) == words(target.queries) == ["C", "B", "A", "[SEP]"]
    assert words(target.keys) == ["[PAD]", "C", "B", "A"]
    assert cross.keys == source.queries == source.keys == found.tokens
    assert cross.views == ("head 1", "head 2", "mean of heads")
    assert target.views == source.views == (*cross.views, "rollout")
    names = ["translation to source", "translation to translation", "source to source"]
    assert [maps.name for maps in found.attention] == names
    assert (target.cells[..., ~np.tri(4, dtype=bool)] == 0).all()
    for maps in found.attention:
        assert_close(maps.cells.sum(axis=-1), np.ones(maps.cells.shape[:-1]), 1e-5)


def test_of_a_translation_arrays_are_those_of_the_model() -> None:
    found, model = translated(), reverser().model
    stages = ("cross_attention", "target_attention", "source_attention")
    output = run(model, pair_batch(model, "abc", "CBA"), *stages, "source_hidden", "target_hidden")
    for maps, stage in zip(found.attention, stages, strict=True):
        assert_maps(maps, output.records[stage])
    source, target = found.norms
    assert (source.name, source.tokens) == ("source", found.tokens)
    assert (target.name, words(target.tokens)) == ("translation", ["[PAD]", "C", "B", "A"])
    for norms, stage in zip(found.norms, ("source_hidden", "target_hidden"), strict=True):
        states = np.stack(output.records[stage])[:, 0]
        assert_close(norms.values, np.linalg.norm(states, axis=-1), 1e-6)
    assert [each.target for each in found.attributions] == [
        "1: “C”", "2: “B”", "3: “A”", "4: “[SEP]”",
    ]  # fmt: skip
    assert_shares(found, np.asarray(output.logits)[0].max(axis=-1), tolerance=np.inf)
    assert all(each.shares[-1] == 0 for each in found.attributions)
    # What was learned: each letter is written for the one that stands there from the end.
    places = [int(each.shares.argmax()) for each in found.attributions[:3]]
    assert places == [2, 1, 0]


def test_a_given_translation_is_looked_at() -> None:
    model = reverser().model
    look = Inspector(model, steps=1).inspect
    own, found = look("abc", "CBA"), translated()
    for maps, wanted in zip(own.attention, found.attention, strict=True):
        np.testing.assert_array_equal(maps.cells, wanted.cells)
    other = look("abc", "D")
    assert other.answer == (("translation", "D"),)
    assert words(other.attention[0].queries) == ["D", "[SEP]"]
    assert other.attention[0].cells.shape == (1, 3, 2, 4)
    logits = np.asarray(run(model, pair_batch(model, "abc", "D")).logits)[0]
    ids = [token.token_id for token in other.attention[0].queries]
    assert_shares(other, logits[[0, 1], ids], tolerance=np.inf)


@pytest.mark.parametrize(("score", "tokens"), [(1e4, ["[SEP]"]), (-1e4, None)])
def test_what_is_empty_or_never_ends_is_looked_at_too(
    score: float, tokens: list[str] | None
) -> None:
    model = with_end(score)
    found = Inspector(model, steps=1).inspect("abc")
    (wanted,) = Translator(model).translate(["abc"])
    cross = found.attention[0]
    assert len(cross.queries) == wanted.tokens == (1 if tokens else 32)
    assert wanted.is_cut == (tokens is None)
    assert words(cross.queries) == (tokens or list(wanted.text))
    assert cross.cells.shape == (1, 3, wanted.tokens, 4)
    assert len(found.attributions) == min(wanted.tokens, inspector.MOST_TARGETS)


def test_a_mask_that_the_model_has_no_row_for_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Padding does: BART's tokenizer can have such a mask, and JAX would clamp its id."""
    model, found = reverser().model, []
    for mask_id in (None, model.tokenizer.vocabulary_size):
        monkeypatch.setattr(Tokenizer, "mask_id", property(lambda self, mask=mask_id: mask))
        found.append(Inspector(model, steps=1).inspect("abc", "CBA"))
    batch = pair_batch(model, "abc", "CBA")
    ids = np.array([[model.tokenizer.pad_id] * 3 + [model.tokenizer.eos_id]], np.int32)
    padded = dataclasses.replace(batch, source=dataclasses.replace(batch.source, token_ids=ids))
    wanted = np.asarray(run(model, padded).logits)[0]
    for each in found:
        chosen = [token.token_id for token in each.attention[0].queries]
        baselines = [own.baseline for own in each.attributions]
        assert_close(baselines, wanted[range(4), chosen], 1e-5)


# --- long texts


def test_of_a_long_text_there_are_blocks_and_what_is_strongest(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Inspector(tiny_model, steps=0).inspect
    (whole,) = look(TEXT, OTHER).attention
    size = len(whole.queries)
    monkeypatch.setattr(attention_maps, "CELLS", 8 * 36)
    (maps,) = look(TEXT, OTHER).attention
    assert maps.block == Resolution.of(8, size, size).block == -(-size // 6) > 2
    assert maps.cells.shape == (2, 4, *[-(-size // maps.block)] * 2)
    assert maps.strongest is not None
    keys, weights = maps.strongest.keys, maps.strongest.weights
    np.testing.assert_array_equal(np.take_along_axis(whole.cells, keys, axis=-1), weights)
    kept = min(size, attention_maps.MOST)
    np.testing.assert_array_equal(np.sort(whole.cells)[..., ::-1][..., :kept], weights)
    assert (maps.queries, maps.keys, maps.views) == (whole.queries, whole.keys, whole.views)


def test_what_is_too_long_is_refused_or_cut(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, long = Inspector(tiny_model, steps=0).inspect, "cat " * 40
    with pytest.raises(encodax.EncodaxError, match=r"^the text: \d+ tokens, and the model takes 3"):
        look(long)
    assert len(look(long, truncate=True).tokens) == 32
    monkeypatch.setattr(inspector, "LONGEST", 31)
    message = "the text has 32 tokens; an inspection takes 31 at most: give a part of it"
    assert refusal(lambda: look(long, truncate=True)) == message
    look = Inspector(reverser().model, steps=0).inspect
    monkeypatch.setattr(inspector, "LONGEST", 5)
    message = "the text has 6 tokens; an inspection takes 5 at most: give a part of it"
    assert refusal(lambda: look("a" * 5, "A")) == message
    assert refusal(lambda: look("a", "A" * 5)) == message


# --- what cannot be


@pytest.mark.parametrize(
    ("head", "texts", "message"),
    [
        (("span",), (TEXT,), "the model answers questions: give a question and a context"),
        (("span",), (TEXT, " "), "the context is empty"),
        (("token", *TAGS), (TEXT, OTHER), "token classification takes one text, not a pair"),
        (("sequence", *LABELS), ("",), "the text: the text is empty"),
        (("embedding",), (TEXT, " "), "the second text: the text is empty"),
        (("none",), (" ",), "the text: the text is empty"),
        (("none",), ("\ud83d",), "the text: character 0 of the text, '\\ud83d', is not Unicode"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    with_head: Callable[..., Model], head: tuple[str, ...], texts: tuple[str, ...], message: str
) -> None:
    found = refusal(lambda: Inspector(with_head(*head)).inspect(*texts))
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("", "A", "the text: the text is empty"),
        ("", None, "the text: the text is empty"),
        ("a" * 40, None, "the text: 41 tokens, and the model takes 32"),
        ("a", "", "the target of the text: the text is empty"),
        ("a", "A" * 40, "the target of the text: 41 tokens, and the model takes 32"),
    ],
)
def test_what_cannot_be_translated_is_refused(
    source: str, target: str | None, message: str
) -> None:
    found = refusal(lambda: Inspector(reverser().model).inspect(source, target))
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"steps": -1}, "steps = -1 is below 0"), ({"top_k": 0}, "top_k = 0 is below 1")],
)
def test_what_cannot_be_chosen_is_refused(
    tiny_model: Model, choices: dict[str, int], message: str
) -> None:
    assert refusal(lambda: Inspector(tiny_model, **choices)) == message


def test_either_kind_of_model_is_loaded(tiny_model: Model, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "encoder")
    writer().save(tmp_path / "writer")
    assert isinstance(Inspector.load(tmp_path / "encoder").model, Model)
    found = Inspector.load(str(tmp_path / "writer"), steps=3)
    assert isinstance(found.model, Seq2SeqModel)
    assert found.steps == 3
    assert "nothing does not exist" in refusal(lambda: Inspector.load(tmp_path / "nothing"))
