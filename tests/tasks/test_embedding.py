"""Losses over the slots of a whole batch, wherever its sequences are packed; what they teach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import QUICK, SHAPE

import encodax
from encodax import Model
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.inference.evaluation import evaluator
from encodax.tasks import embedding as task
from encodax.tasks import task_named
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example, LossOptions, Targets
from encodax.text.tokenizer import Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch

WIDTH = 8
ANY = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))
"""The losses look at slots alone."""


def units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def plain_ranking(texts: list[list[np.ndarray]], scale: float, width: int) -> float:
    """The definition, example by example; texts are [anchor, positive, negatives...]."""
    cut = [[units(text[:width]) for text in example] for example in texts]
    candidates = [text for example in cut for text in example[1:]]
    total = 0.0
    for anchor, positive, *_ in cut:
        scores = np.asarray([scale * anchor @ other for other in candidates])
        total += np.log(np.exp(scores).sum()) - scale * anchor @ positive
    return total


def plain_cosent(texts: list[list[np.ndarray]], scores: list[float], scale: float) -> float:
    cosines = [units(first) @ units(second) for first, second in texts]
    pairs = [
        np.exp(scale * (cosines[j] - cosines[i]))
        for i in range(len(texts))
        for j in range(len(texts))
        if scores[i] > scores[j]
    ]
    return float(np.log1p(np.sum(pairs)))


def placed(
    texts: list[list[np.ndarray]], scores: list[float] | None, random: np.random.Generator
) -> tuple[ModelOutput, Targets]:
    """The texts at random slots of two micro-batches of two rows; the other slots hold noise."""
    count = sum(map(len, texts))
    slots = -(-count // 4) + 2
    places = random.permutation(4 * slots)[:count]
    vectors = random.normal(size=(4 * slots, WIDTH)).astype(np.float32)
    groups, pieces = np.zeros((2, 4 * slots), np.int32)
    values = np.full(4 * slots, np.nan, np.float32) if scores is None else np.zeros(4 * slots)
    rest = iter(places)
    for number, example in enumerate(texts):
        for piece, text in enumerate(example):
            place = next(rest)
            vectors[place], groups[place], pieces[place] = text, 7 * number + 1, piece
            if scores is not None:
                values[place] = scores[number]

    def shaped(leaf: np.ndarray) -> Any:
        return jnp.asarray(leaf.reshape(2, 2, slots, *leaf.shape[1:]))

    weights = (groups > 0).astype(np.float32)
    targets = Targets(
        shaped(values.astype(np.float32)), shaped(weights), shaped(groups), shaped(pieces)
    )
    hidden = jnp.zeros((2, 2, 1, 0))
    return ModelOutput(hidden, None, shaped(vectors)), targets


def loss_of(
    output: ModelOutput, targets: Targets, loss_options: LossOptions
) -> tuple[float, float]:
    total, weight = jax.jit(lambda o, t: task.loss(o, t, ANY, loss_options))(output, targets)
    return float(total), float(weight)


def example_texts(random: np.random.Generator, sizes: list[int]) -> list[list[np.ndarray]]:
    return [[random.normal(size=WIDTH) for _ in range(size)] for size in sizes]


@given(sizes=st.lists(st.integers(2, 4), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_ranking_is_its_definition_wherever_texts_stand(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = example_texts(random, sizes)
    loss_options = LossOptions(similarity_loss="ranking", similarity_scale=5.0)
    for _ in range(2):
        total, weight = loss_of(*placed(texts, None, random), loss_options)
        np.testing.assert_allclose(total, plain_ranking(texts, 5.0, WIDTH), rtol=1e-5, atol=1e-6)
        assert weight == len(texts)


@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_cosent_and_cosine_are_their_definitions(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = example_texts(random, [2] * count)
    scores = random.choice([-1.0, 0.0, 0.5, 1.0], size=count).tolist()
    output, targets = placed(texts, scores, random)
    total, weight = loss_of(output, targets, LossOptions(similarity_loss="cosent"))
    assert weight == count
    np.testing.assert_allclose(
        total / weight, plain_cosent(texts, scores, 20.0), rtol=1e-5, atol=1e-6
    )
    total, weight = loss_of(output, targets, LossOptions(similarity_loss="cosine"))
    cosines = [units(first) @ units(second) for first, second in texts]
    np.testing.assert_allclose(total, np.sum(np.square(np.subtract(cosines, scores))), rtol=1e-5)


def test_matryoshka_is_the_mean_over_widths() -> None:
    random = np.random.default_rng(0)
    texts = example_texts(random, [2, 3, 2])
    loss_options = LossOptions(similarity_loss="ranking", similarity_scale=5.0, widths=(2, 4))
    total, weight = loss_of(*placed(texts, None, random), loss_options)
    wanted = np.mean([plain_ranking(texts, 5.0, width) for width in (2, 4, WIDTH)])
    np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-6)
    assert weight == 3


@pytest.mark.parametrize("kind", ["ranking", "cosent", "cosine"])
def test_slopes_are_finite_and_none_for_empty_slots(kind: Any) -> None:
    random = np.random.default_rng(0)
    texts = example_texts(random, [2, 2])
    scores = None if kind == "ranking" else [0.0, 1.0]
    output, targets = placed(texts, scores, random)
    assert output.vectors is not None
    vectors = output.vectors.at[0].set(0.0)  # vectors of length 0

    def total(vectors: Any) -> Any:
        found = ModelOutput(output.hidden, None, vectors)
        return task.loss(found, targets, ANY, LossOptions(similarity_loss=kind))[0]

    for each in (vectors, output.vectors):
        slope = np.asarray(jax.grad(total)(each))
        assert np.isfinite(slope).all()
        assert not slope[np.asarray(targets.example_numbers) == 0].any()
    assert slope.any()


def same_texts(
    texts: list[list[np.ndarray]], names: list[list[str]]
) -> tuple[ModelOutput, Targets]:
    """The texts one after another, those of one name known as equal."""
    flat = [text for example in texts for text in example]
    numbers = {name: n for n, name in enumerate({n for own in names for n in own}, 1)}
    of = [(g, p) for g, own in enumerate(names, 1) for p in range(len(own))]
    groups, pieces = np.transpose(of).astype(np.int32)
    known = np.asarray([numbers[name] for own in names for name in own], np.int32)
    leaves = (np.full(len(flat), np.nan, np.float32), np.ones(len(flat), np.float32))
    shaped = [jnp.asarray(leaf[None, None]) for leaf in (*leaves, groups, pieces, known)]
    vectors = jnp.asarray(np.asarray(flat, np.float32)[None, None])
    return ModelOutput(jnp.zeros((1, 1, 1, 0)), None, vectors), Targets(*shaped)


RANKING = LossOptions(similarity_loss="ranking", similarity_scale=5.0)


def test_anchors_that_share_one_positive_are_not_told_apart() -> None:
    random = np.random.default_rng(0)
    shared, own = random.normal(size=(2, WIDTH))
    texts = [[random.normal(size=WIDTH), shared] for _ in range(8)]
    names = [[f"anchor {n}", "shared"] for n in range(8)]
    total, weight = loss_of(*same_texts(texts, names), RANKING)
    assert (total, weight) == (pytest.approx(0, abs=1e-5), 8)  # not 8 log 8
    texts.append([random.normal(size=WIDTH), own])
    names.append(["another", "own"])
    total, weight = loss_of(*same_texts(texts, names), RANKING)
    scores = 5.0 * np.asarray([[units(a) @ units(p) for p in (shared, own)] for a, _ in texts])
    each = np.log(np.exp(scores).sum(axis=1)) - scores[:, 0]
    last = np.log(8 * np.exp(scores[8, 0]) + np.exp(scores[8, 1])) - scores[8, 1]
    assert (total, weight) == (pytest.approx(each[:8].sum() + last, rel=1e-5), 9)


@pytest.mark.parametrize(
    ("names", "masked"),
    [
        ([["a", "p"], ["b", "q"]], []),
        ([["a", "p"], ["b", "p"]], [(0, 1), (1, 0)]),  # equal positives
        ([["a", "p"], ["a", "q"]], [(0, 1), (1, 0)]),  # equal anchors
        ([["a", "p"], ["b", "a"]], [(0, 1)]),  # an anchor that is another's positive
        ([["a", "p"], ["a", "q"], ["b", "q"]], [(0, 1), (1, 0), (0, 2), (1, 2), (2, 1)]),
        ([["a", "a"], ["b", "b"]], []),  # a text with itself, told apart by dropout
    ],
)
def test_what_belongs_to_an_anchor_is_no_negative(
    names: list[list[str]], masked: list[tuple[int, int]]
) -> None:
    random = np.random.default_rng(1)
    by_name = {name: random.normal(size=WIDTH) for own in names for name in own}
    texts = [[by_name[name] for name in own] for own in names]
    total, weight = loss_of(*same_texts(texts, names), RANKING)
    wanted = 0.0
    for i, (anchor, positive) in enumerate(texts):
        seen = [other for j, (_, other) in enumerate(texts) if i == j or (i, j) not in masked]
        scores = [5.0 * units(anchor) @ units(other) for other in seen]
        wanted += np.log(np.exp(scores).sum()) - 5.0 * units(anchor) @ units(positive)
    np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-5)
    assert weight == len(names)


def test_a_hard_negative_stays_one_for_equal_anchors() -> None:
    random = np.random.default_rng(2)
    names = [["a", "p", "n"], ["a", "q"]]
    by_name = {name: random.normal(size=WIDTH) for name in "apqn"}
    total, _ = loss_of(*same_texts([[by_name[n] for n in own] for own in names], names), RANKING)
    wanted = sum(
        plain_ranking([[by_name["a"], by_name[own], by_name["n"]]], 5.0, WIDTH) for own in "pq"
    )
    np.testing.assert_allclose(total, wanted, rtol=1e-5)


def test_the_loss_of_vectors_is_that_of_batches_that_hold_company() -> None:
    random = np.random.default_rng(0)
    count = task.MEASURED_TOGETHER + 1
    texts = example_texts(random, [2] * count)
    loss = task.MeanLoss(RANKING)
    for number, example in enumerate(texts):
        loss.add(example, Example(f"a{number}", None, "", (f"p{number}",)))
    wanted = plain_ranking(texts, 5.0, WIDTH) / count
    assert loss.value() == pytest.approx(wanted, rel=1e-5)


def test_the_loss_of_vectors_suits_what_is_measured() -> None:
    random = np.random.default_rng(0)
    texts, scores = example_texts(random, [2, 2, 2]), [0.0, 0.5, 1.0]
    loss = task.MeanLoss(replace(RANKING, similarity_scale=20.0))  # learned of other data
    for example, score in zip(texts, scores, strict=True):
        loss.add(example, Example("a", score, "", ("b",)))
    assert loss.value() == pytest.approx(plain_cosent(texts, scores, 20.0), rel=1e-5)


# What cannot be told apart.


def of_texts(*texts: tuple[str, ...]) -> list[Example]:
    return [Example(a, None, f"line {n}", tuple(rest)) for n, (a, *rest) in enumerate(texts, 1)]


def of_scores(*scores: float) -> list[Example]:
    return [Example("a", score, f"line {n}", ("b",)) for n, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("kind", "examples", "batch_size", "message"),
    [
        ("ranking", of_texts(("a", "p"), ("b", "q")), 1, "line 1: .* a batch_size above 1, or neg"),
        ("ranking", of_texts(("a", "p", "n"), ("b", "q")), 1, "line 2: .* would be alone"),
        ("ranking", of_texts(("a", "p")), None, "line 1: .* a data set of more examples, or neg"),
        ("ranking", of_texts(("a", "p"), ("b", "p")), 2, "every example has the same positive"),
        ("ranking", of_texts(("a", "p"), ("a", "q")), 2, "every example has the same anchor"),
        ("cosent", of_scores(0.0, 1.0), 1, "line 1: .* a batch_size above 1, or similarity_loss"),
        ("cosent", of_scores(1.0, 1.0), 2, "every example has the score 1, so there is nothing"),
        ("ranking", of_texts(("a", "p", "n"), ("b", "q", "m")), 1, None),
        ("ranking", of_texts(("a", "p", "n"), ("b", "p")), 2, None),
        ("cosine", of_scores(1.0, 1.0), 1, None),
    ],
)
def test_a_loss_that_would_stay_at_0_is_refused(
    kind: Any, examples: list[Example], batch_size: int | None, message: str | None
) -> None:
    loss_options = LossOptions(similarity_loss=kind)
    if message is None:
        task.check_comparable(loss_options, examples, batch_size)
        return
    with pytest.raises(EncodaxError, match=message):
        task.check_comparable(loss_options, examples, batch_size)


def test_texts_that_the_model_reads_alike_are_one(
    tiny_model: Model, texts: tuple[str, ...]
) -> None:
    """`A cat` and `a  cat` are the same tokens: in what is refused, in the loss, in the metrics."""
    anchors = ("the dog", "a film", "the mat", "a text")
    spelled = [
        Example(anchor, None, f"line {number}", (positive,))
        for number, (anchor, positive) in enumerate(
            zip(anchors, ("a cat", "A cat", " a cat", "a  cat"), strict=True), 1
        )
    ]
    tokenizer = Tokenizer.train(texts, "wordpiece", vocabulary_size=120, lowercase=True)
    encode = tokenizer.encode
    with pytest.raises(EncodaxError, match="every example has the same positive"):
        task.check_comparable(
            LossOptions(similarity_loss="ranking"), spelled, 4,
            lambda text: task.token_key(encode([text])[0]),
        )  # fmt: skip
    model = replace(tiny_model.with_embeddings(), tokenizer=tokenizer)
    equal = [replace(example, others=("a cat",)) for example in spelled]
    found, wanted = (
        evaluator(model, Dataset.prepare(task.TASK, model, each), LossOptions())(None)
        for each in (spelled, equal)
    )
    assert found == wanted
    assert found["accuracy"] == 1


# Records.


def parsed(**fields: Any) -> Example:
    return task.parse(Record(fields, "here"), labelled=True)


def test_records_are_triplets_or_scored_pairs() -> None:
    example = parsed(anchor="a", positive="b", negatives=["c", "d"])
    assert (example.text, example.others, example.target) == ("a", ("b", "c", "d"), None)
    assert parsed(anchor="a", positive="b", negative="c").others == ("b", "c")
    assert parsed(anchor="a", positive="b").others == ("b",)
    scored = parsed(text="a", text_pair="b", score="3.5")
    assert (scored.text, scored.others, scored.target) == ("a", ("b",), 3.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "a"}, "needs 'anchor' and 'positive', or 'text', 'text_pair' and 'score'"),
        ({"anchor": "a"}, "no field 'positive'"),
        ({"positive": "a"}, "no field 'anchor'"),
        ({"anchor": "a", "positive": " "}, "the text is empty"),
        ({"anchor": "a", "positive": "b", "negatives": {"c": 1}}, "'negatives' needs a list of"),
        ({"anchor": "a", "positive": "b", "negatives": [3]}, "a text is a string, not 3"),
        (
            {"anchor": "a", "positive": "b", "negative": "c", "negatives": ["d"]},
            "give 'negative' or 'negatives', not both",
        ),
        (
            {"text": "a", "text_pair": "b"},
            r"needs a 'score', a finite number \(found: text, text_pair\)",
        ),
        ({"text": "a", "text_pair": "b", "score": "x"}, "needs a 'score', a finite number"),
    ],
)
def test_what_is_no_such_record_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"here: {message}"):
        parsed(**fields)


def test_one_kind_of_data_is_wanted() -> None:
    pair, scored = Example("a", None, "line 1", ("b",)), Example("a", 1.0, "line 2", ("b",))
    with pytest.raises(EncodaxError, match="line 2: the data started with texts without scores"):
        task.labels([pair, scored])


def test_the_loss_is_what_the_data_suits() -> None:
    pair, scored = Example("a", None, "line 1", ("b",)), Example("a", 3.0, "line 2", ("b",))
    assert task.with_default_loss(LossOptions(), [pair], 8).similarity_loss == "ranking"
    assert task.with_default_loss(LossOptions(), [scored], 8).similarity_loss == "cosent"
    for kind, example in (("cosent", pair), ("ranking", scored)):
        with pytest.raises(EncodaxError, match=f"similarity_loss {kind} is not for"):
            task.with_default_loss(LossOptions(similarity_loss=kind), [example], 8)  # type: ignore[arg-type]
    with pytest.raises(EncodaxError, match="line 2: the score 3 is not a cosine, from -1 to 1"):
        task.with_default_loss(LossOptions(similarity_loss="cosine"), [scored], 8)
    with pytest.raises(EncodaxError, match=r"widths: 8 is not in 1\.\.7: vectors have 8"):
        task.with_default_loss(LossOptions(widths=(4, 8)), [pair], 8)


# Metrics.


def test_ranks_are_those_among_all_positives() -> None:
    vectors = [np.eye(3)[[0, 0]], np.eye(3)[[2, 1]], np.eye(3)[[2, 2]]]
    found = task.metrics([list(pair) for pair in vectors], unscored("abc", "def"))
    # The second's is behind f, and as far as d: half of what is equal is nearer.
    assert found == {"score": pytest.approx((1 + 1 / 2.5 + 1) / 3), "mrr": found["score"],
                     "accuracy": pytest.approx(2 / 3)}  # fmt: skip


def unscored(anchors: str, positives: str) -> list[Example]:
    return [Example(a, None, a, (p,)) for a, p in zip(anchors, positives, strict=True)]


@pytest.mark.parametrize("vector", [np.ones(3), np.zeros(3)])
def test_vectors_that_are_all_alike_find_nothing(vector: np.ndarray) -> None:
    found = task.metrics([[vector, vector]] * 9, unscored("abcdefghi", "rstuvwxyz"))
    assert found == {"score": pytest.approx(1 / 5), "mrr": pytest.approx(1 / 5), "accuracy": 0}


def test_what_is_right_too_does_not_count_against_a_text() -> None:
    axes = np.eye(3)
    near = axes[0] + 0.1 * axes[1]
    found = task.metrics([[axes[0], near], [axes[1], near]], unscored("ab", "dd"))
    assert found["mrr"] == 1  # one text, of two anchors
    found = task.metrics([[axes[0], near], [axes[0], axes[0]]], unscored("aa", "de"))
    assert found["mrr"] == 1  # two texts, of one anchor
    found = task.metrics([[axes[0], near], [axes[0], axes[0]]], unscored("ab", "de"))
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)


def test_scores_are_compared_by_rank_and_at_each_width() -> None:
    random = np.random.default_rng(0)
    pairs = [list(random.normal(size=(2, WIDTH))) for _ in range(20)]
    cosines = [units(a) @ units(b) for a, b in pairs]
    examples = [Example("", float(np.exp(cosine)), "", ("",)) for cosine in cosines]
    found = task.metrics(pairs, examples, widths=(4,))
    assert found["score"] == found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] < 1
    assert found["spearman_4"] < 1
    assert found.keys() >= {"score_4", "pearson_4"}


# Runs.

WORDS = ("red", "blue", "cold", "warm", "old", "new")
PAIRS = [
    {"anchor": f"{word} {noun}", "positive": f"a {noun} so {word}"}
    for word in WORDS
    for noun in ("day", "sea", "car")
]
EMBEDDING: dict[str, Any] = {**SHAPE, **QUICK, "width": 32, "batch_size": 18, "steps": 60}


def run(**choices: Any) -> Any:
    given = {"train": PAIRS, "eval": PAIRS, **EMBEDDING, **choices}
    return encodax.train("embedding", **given)


def test_texts_find_what_belongs_to_them() -> None:
    result = run()
    assert result.metrics["mrr"] > 0.9
    embedder = encodax.Embedder(result.model)
    found = embedder.encode(["cold sea", "a sea so cold", "a car so new"])
    similarity = embedder.similarity(found[:1], found[1:])[0]
    assert similarity[0] > similarity[1] + 0.1


def test_micro_batches_change_nothing_but_memory() -> None:
    whole, parts = (run(steps=3, accumulate=count, evaluate_every=3) for count in (1, 3))
    losses = [[entry["loss"] for entry in each.curve if "loss" in entry] for each in (whole, parts)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, atol=1e-6)


def test_one_kind_of_data_is_measured_too() -> None:
    scored = {"text": "cold sea", "text_pair": "warm sea", "score": 1}
    with pytest.raises(EncodaxError, match="example 1: the data started with texts without scores"):
        run(eval=[PAIRS[0], scored])


def test_an_embedder_keeps_its_head_and_learns_scores(tmp_path: Any) -> None:
    scored = [
        {"text": f"{a} day", "text_pair": f"{b} day", "score": float(a == b)}
        for a in WORDS
        for b in WORDS
    ]
    start = run(steps=1).model
    head = start.config.head
    assert head is not None
    start = replace(start, config=replace(start.config, head=replace(head, normalize=True)))
    result = encodax.train(
        "embedding", train=scored, eval=scored, model=start, steps=60, batch_size=36,
        learning_rate=1e-2, widths=(8,),
    )  # fmt: skip
    assert result.model.config.head == start.config.head
    assert result.metrics["spearman"] > 0.6
    assert result.metrics["spearman_8"] > 0.5
    result.model.save(tmp_path / "model")
    again = encodax.Embedder.load(tmp_path / "model").encode(["red day"])
    np.testing.assert_allclose(again, encodax.Embedder(result.model).encode(["red day"]), atol=1e-6)


def test_the_task_is_known_by_name() -> None:
    assert task_named("embedding") is task.TASK
