"""Questions to windows, scores of starts and ends to pieces of a context."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import tokenizer as of_kind

from encodax.config import HeadConfig
from encodax.data.batches import BatchShape
from encodax.data.packing import slots_of
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.tasks import question_answering as task
from encodax.tasks.dataset import Dataset
from encodax.tasks.question_answering import Answer
from encodax.tasks.task import Example, LossOptions, Targets, check_loss_options
from encodax.text.tokenizer import Encoding, Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch

CONTEXT = "Ada met Grace in Paris, and Emmy in Rome"
TOKENIZERS = {
    kind: Tokenizer.train([f"{CONTEXT} who where?"] * 3, kind, vocabulary_size=400)
    for kind in ("wordpiece", "bpe", "char")
}


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return task.parse(Record(fields, "here"), labelled=labelled)


def answer(text: str, start: int, score: float = 0.0, nothing: float = 0.0) -> Answer:
    return Answer(text, start, start + len(text), score, nothing)


def asked(*texts: str, question: str = "who?", context: str = CONTEXT) -> Example:
    """An example with these answers, each where it first stands."""
    answers = tuple(answer(text, context.index(text)) for text in texts)
    return Example((question, context), answers, "here")


def encoded(example: Example, kind: str = "wordpiece") -> Encoding:
    return TOKENIZERS[kind].encode([example.text])[0]


# Parsing.


def test_a_record_is_a_question_a_context_and_answers() -> None:
    answers = [{"text": "Grace", "start": 8}, {"text": "Emmy", "start": 28}]
    example = parsed({"question": "who?", "context": CONTEXT, "answers": answers})
    assert example == asked("Grace", "Emmy")
    assert [CONTEXT[a.start : a.end] for a in example.target] == ["Grace", "Emmy"]


def test_answers_may_be_as_squad_and_datasets_have_them() -> None:
    squad = [{"text": "Grace", "answer_start": 8}, {"text": "Emmy", "answer_start": 28}]
    columns = {"text": ["Grace", "Emmy"], "answer_start": [8, 28]}
    for answers in (squad, columns):
        found = parsed({"question": "who?", "context": CONTEXT, "answers": answers})
        assert found == asked("Grace", "Emmy")
    none: dict[str, list[Any]] = {"text": [], "answer_start": []}
    assert parsed({"question": "who?", "context": "a", "answers": none}).target == ()


def test_a_question_may_be_impossible() -> None:
    base = {"question": "who?", "context": CONTEXT}
    assert parsed({**base, "is_impossible": True}).target == ()
    answers = [{"text": "Grace", "answer_start": 8}]
    found = parsed({**base, "answers": answers, "is_impossible": False})
    assert found == asked("Grace")


def test_a_context_may_have_no_answer() -> None:
    assert parsed({"question": "who?", "context": "a", "answers": []}).target == ()


def test_answers_are_not_looked_at_where_none_is_asked() -> None:
    record = {"question": "who?", "context": "a"}
    assert parsed(record, labelled=False) == Example(("who?", "a"), (), "here")
    assert parsed({**record, "answers": 3}, labelled=False).target == ()


BASE: dict[str, Any] = {"question": "who?", "context": "abc abc", "answers": []}


def with_answer(item: object) -> dict[str, Any]:
    return {**BASE, "answers": [item]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context": "a", "answers": []}, "no field 'question'"),
        ({"question": "a", "answers": []}, "no field 'context'"),
        ({"text": "a"}, r"no field 'question' \(found: text\)"),
        ({**BASE, "question": 3}, "a text is a string, not 3"),
        ({**BASE, "question": " "}, "the text is empty"),
        ({**BASE, "context": ""}, "the text is empty"),
        ({**BASE, "context": "a\ud800"}, "character 1 .* is not Unicode"),
        ({"question": "who?", "context": "a"}, "needs 'answers', a list of objects"),
        ({**BASE, "answers": {"text": ["abc"], "answer_start": []}}, "needs 'answers', a list"),
        (
            {**BASE, "answers": {"text": ["abc"], "answer_start": [1]}},
            "'abc' is not at character 1",
        ),
        (with_answer("abc"), "an answer needs a text and its start, not 'abc'"),
        (with_answer({"text": "abc"}), "an answer needs a text and its start"),
        (with_answer({"text": "abc", "start": "0"}), "an answer needs a text and its start"),
        (with_answer({"text": "", "start": 0}), "an answer needs a text and its start"),
        (with_answer({"text": " ", "start": 3}), "an answer needs a text and its start"),
        (with_answer({"text": "abc", "start": 1}), "'abc' is not at character 1 .* 'bc ' there"),
        (with_answer({"text": "abc", "start": 5}), "'abc' is not at character 5 .* 'bc' there"),
        (with_answer({"text": "abc", "start": 99}), "'abc' is not at character 99"),
        (with_answer({"text": "abc", "start": -3}), "'abc' is not at character -3"),
    ],
)
def test_what_is_no_example_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"here: .*{message}"):
        parsed(fields)


def test_there_are_no_labels() -> None:
    assert task.TASK.labels([asked("Grace")]) == ()


# Tokens that are a space, or hold the one before a word.


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "unsplit"])
def test_an_answer_begins_and_ends_at_a_letter(kind: str) -> None:
    context = "we met  Ada (B2B) "
    (pair,) = of_kind(kind).encode([("who", context)])
    own = np.flatnonzero(pair.sequence_ids == 1)
    for first in range(len(own)):
        for last in range(first, min(first + 29, len(own))):
            scores = np.zeros((len(pair), 2), np.float32)
            scores[own[first], 0] = scores[own[last], 1] = 9
            begins, ends = pair.offsets[own[first : last + 1]].T
            if (begins == ends).all():
                continue  # spaces alone: another answer is the best
            found = task.decode(scores, pair, ())
            piece = context[found.start : found.end]
            assert piece == piece.strip() != ""
            assert (found.start, found.end) == (
                begins[begins < ends].min(),
                ends[begins < ends].max(),
            )


# Windows.


@given(
    question=st.integers(1, 20),
    context=st.integers(1, 120),
    room=st.integers(2, 40),
    overlap=st.integers(1, 30),
)
def test_windows_cover_the_context_and_overlap(
    question: int, context: int, room: int, overlap: int
) -> None:
    texts = ("who " * question, "met " * context)
    whole = TOKENIZERS["wordpiece"].encode([texts])[0]
    others = int((whole.sequence_ids != 1).sum())
    assert others == question + 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "OVERLAP", overlap)
        found = task.windows(whole, others + room, "here")
    pieces = []
    for window in found:
        assert len(window) <= others + room
        outside = window.sequence_ids != 1
        for name in ("token_ids", "type_ids", "offsets", "is_special", "sequence_ids"):
            # The question and the frame are whole, and stand where they stood.
            kept, all_of = getattr(window, name), getattr(whole, name)
            np.testing.assert_array_equal(kept[outside], all_of[whole.sequence_ids != 1])
        assert window.sequence_ids.tolist() == [
            -1, *[0] * question, -1, *[1] * (len(window) - others), -1
        ]  # fmt: skip
        pieces.append([start // 4 for start, _ in window.offsets[~outside].tolist()])
    for piece in pieces:
        assert piece == list(range(piece[0], piece[-1] + 1))
    assert pieces[0][0] == 0
    assert pieces[-1][-1] == context - 1
    for one, next_one in itertools.pairwise(pieces):
        assert one[-1] - next_one[0] + 1 == min(overlap, room // 2) >= 1
        assert next_one[-1] > one[-1]
    if context <= room:
        assert len(found) == 1


def test_a_pair_that_fits_is_one_window() -> None:
    encoding = encoded(asked())
    assert task.windows(encoding, len(encoding), "here") == [encoding]
    assert len(task.windows(encoding, len(encoding) - 1, "here")) == 2


def test_a_question_that_leaves_no_room_is_refused() -> None:
    encoding = encoded(asked(question="who " * 20))
    with pytest.raises(EncodaxError, match=r"here: the question has 23 tokens.* shorten"):
        task.windows(encoding, 24, "here")
    assert task.windows(encoding, 25, "here")


def test_a_context_of_no_token_is_refused() -> None:
    with pytest.raises(EncodaxError, match="here: the context is empty"):
        task.windows(encoded(asked(context="\u200b")), 20, "here")


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    """One that takes 32 tokens."""
    config = replace(tiny_model.config, head=HeadConfig("span", 2), labels=())
    return replace(tiny_model, config=config, tokenizer=TOKENIZERS["wordpiece"])


@pytest.mark.parametrize("truncate", [False, True])
def test_nothing_is_ever_cut(model: Model, truncate: bool) -> None:
    examples = [asked(), asked(context=f"{CONTEXT} " * 9)]
    pieces, cut = task.encode(model, examples, truncate=truncate)
    assert cut == 0
    assert len(pieces[0]) == 1
    assert len(pieces[1]) > 3
    for example, own in zip(examples, pieces, strict=True):
        assert all(len(window) <= 32 for window in own)
        ends = {int(end) for window in own for end in window.offsets[window.sequence_ids == 1, 1]}
        assert ends == set(encoded(example).offsets[encoded(example).sequence_ids == 1, 1].tolist())


def test_a_model_that_takes_more_is_given_windows_of_384(model: Model) -> None:
    embeddings = replace(model.config.encoder.embeddings, max_positions=1000)
    encoder = replace(model.config.encoder, embeddings=embeddings)
    longer = replace(model, config=replace(model.config, encoder=encoder))
    ((first, second),), _ = task.encode(
        longer, [asked(context="met " * 500)], truncate=False
    )  # fmt: skip
    assert len(first) == task.WINDOW == 384
    starts = [window.offsets[window.sequence_ids == 1, 0] // 4 for window in (first, second)]
    assert len(set(starts[0].tolist()) & set(starts[1].tolist())) == task.OVERLAP == 128


# Targets.


def pieces_of(example: Example, encoding: Encoding) -> list[str]:
    """What the context has from the token that starts an answer to the one that ends it."""
    classes = np.asarray(task.targets(example, encoding, ()).values)
    (start,), (end,) = np.flatnonzero(classes & 1), np.flatnonzero(classes & 2)
    first, last = encoding.offsets[start, 0], encoding.offsets[end, 1]
    inside = encoding.sequence_ids[start] == encoding.sequence_ids[end] == 1
    return [example.text[1][first:last]] if inside else []


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", ["Ada", "Grace", "Grace in Paris", "Rome", CONTEXT])
def test_targets_stand_at_the_first_and_last_token_of_the_answer(kind: str, text: str) -> None:
    example = asked(text)
    assert pieces_of(example, encoded(example, kind)) == [text]


def test_an_answer_of_one_token_starts_and_ends_there() -> None:
    targets = task.targets(asked("met"), encoded(asked("met")), ())
    assert sorted(np.asarray(targets.values).tolist())[-2:] == [0, 3]
    np.testing.assert_array_equal(targets.weights, np.asarray(targets.values) > 0)


def test_the_question_is_not_where_an_answer_is_found() -> None:
    example = asked("Ada", question="Ada met who?")
    assert pieces_of(example, encoded(example)) == ["Ada"]


@pytest.mark.parametrize("text", [" Grace", "Grace ", " Grace "])
def test_spaces_around_an_answer_do_not_lose_it(text: str) -> None:
    example = asked(text)
    assert pieces_of(example, encoded(example)) == ["Grace"]


def test_the_first_answer_is_the_target() -> None:
    assert pieces_of(asked("Emmy", "Grace"), encoded(asked())) == ["Emmy"]


def test_no_answer_is_the_first_token() -> None:
    targets = task.targets(asked(), encoded(asked()), ())
    assert np.asarray(targets.values).tolist() == [3] + [0] * (len(encoded(asked())) - 1)
    assert np.sum(targets.weights) == 1


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_window_points_to_the_answer_it_holds_whole(kind: str) -> None:
    example = asked("Paris")
    encoding = encoded(example, kind)
    limit = int((encoding.sequence_ids != 1).sum()) + {"char": 12}.get(kind, 4)
    found = []
    for window in task.windows(encoding, limit, "here"):
        context = window.offsets[window.sequence_ids == 1]
        is_whole = context[0, 0] <= 17 and context[-1, 1] >= 22
        found.append(pieces_of(example, window))
        assert found[-1] == (["Paris"] if is_whole else [])
    assert [] in found
    assert ["Paris"] in found


# The loss.


def plain_loss(logits: np.ndarray, start: int, end: int) -> float:
    """Of one sequence alone, (tokens, 2)."""
    exact = logits.astype(np.float64)
    log_scores = exact - np.log(np.exp(exact).sum(axis=0))
    return float(-(log_scores[start, 0] + log_scores[end, 1]) / 2)


SHAPE = BatchShape(row_count=3, row_tokens=64, slots=4)


@pytest.fixture(scope="module")
def data(model: Model) -> Dataset:
    examples = [
        asked("Grace"), asked("Emmy in Rome"), asked(), asked("met"),
        asked("Paris", context="Paris"),
    ]  # fmt: skip
    return Dataset.prepare(task.TASK, model, examples)


def total_loss(data: Dataset, rows: list[list[int]], scores: Sequence[np.ndarray]) -> Any:
    """The loss where each sequence has the same logits wherever it stands; padding has others."""
    batch, targets = data.batch(rows, SHAPE)
    logits = np.full((SHAPE.row_count, SHAPE.row_tokens, 2), 50, np.float32)
    for index, b, _, tokens in slots_of(rows, batch):
        logits[b, tokens] = scores[index]
    targets = jax.tree.map(jnp.asarray, targets)
    return jax.jit(loss_of)(jnp.asarray(logits), targets, jax.tree.map(jnp.asarray, batch))


def loss_of(logits: Any, targets: Targets, batch: PackedBatch) -> Any:
    hidden = jnp.zeros((*logits.shape[:2], 1))
    return task.loss(ModelOutput(hidden, logits), targets, batch, LossOptions())


@pytest.mark.parametrize(
    "rows", [[[0], [1], [2]], [[2, 1, 0]], [[0, 3], [4, 2], [1]], [[4, 3], [0, 2]]]
)
def test_the_loss_is_that_of_each_sequence_alone(data: Dataset, rows: list[list[int]]) -> None:
    random = np.random.default_rng(0)
    scores = [3 * random.normal(size=(length, 2)).astype(np.float32) for length in data.lengths]
    wanted = 0.0
    for index in itertools.chain.from_iterable(rows):
        classes = np.asarray(data.targets[index].values)
        start, end = int(np.argmax(classes & 1)), int(np.argmax(classes & 2))
        wanted += plain_loss(scores[index], start, end)
    total, weight = total_loss(data, rows, scores)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert weight == sum(map(len, rows))


def test_the_loss_has_no_slope_where_nothing_stands(data: Dataset) -> None:
    batch, targets = data.batch([[0, 1]], SHAPE)
    batch, targets = jax.tree.map(jnp.asarray, (batch, targets))
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(3, 64, 2)), jnp.float32)
    slope = np.asarray(jax.grad(lambda x: loss_of(x, targets, batch)[0])(logits))
    assert np.isfinite(slope).all()
    is_real = np.asarray(batch.segment_ids) > 0
    assert (slope[~is_real] == 0).all()
    assert (slope[is_real] != 0).all()
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-5)


def test_label_smoothing_is_refused() -> None:
    with pytest.raises(EncodaxError, match="label_smoothing is not for question-answering"):
        check_loss_options(task.TASK, LossOptions(label_smoothing=0.1))


# Decoding.


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_answer_is_the_best_pair_that_is_allowed(seed: int, longest: int) -> None:
    encoding = encoded(asked(question="who met Ada?"))
    scores = np.random.default_rng(seed).normal(size=(len(encoding), 2)).astype(np.float32)
    scores[encoding.sequence_ids != 1] += 9  # the best of all, and no answer
    context = np.flatnonzero(encoding.sequence_ids == 1).tolist()
    pairs = {
        (start, end): float(scores[start, 0] + scores[end, 1])
        for start in context
        for end in context
        if start <= end < start + longest
    }
    (start, end), best = max(pairs.items(), key=lambda pair: pair[1])
    found = task.decode(scores, encoding, (), max_answer_tokens=longest)
    assert (found.start, found.end) == (encoding.offsets[start, 0], encoding.offsets[end, 1])
    assert found.score == pytest.approx(best)
    assert found.no_answer_score == pytest.approx(float(scores[0].sum()))


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", ["Ada", "Grace in Paris", "Rome"])
def test_targets_come_back_as_the_answer(kind: str, text: str) -> None:
    example = asked(text)
    encoding = encoded(example, kind)
    classes = np.asarray(task.targets(example, encoding, ()).values)
    scores = np.stack([classes & 1, classes & 2], axis=-1).astype(np.float32)
    merged = task.merge(example, [task.decode(scores, encoding, ())])
    assert merged == replace(example.target[0], score=3.0)


def test_windows_merge_into_their_best_answer() -> None:
    found = task.merge(
        asked(),
        [
            Answer("", 0, 3, score=1.0, no_answer_score=5.0),
            Answer("", 8, 13, score=4.0, no_answer_score=-2.0),
            Answer("", 28, 32, score=2.0, no_answer_score=3.0),
        ],
    )
    assert found == Answer("Grace", 8, 13, score=4.0, no_answer_score=-2.0)
    assert task.to_json(found) == {
        "answer": {"text": "Grace", "start": 8, "end": 13, "score": 4.0, "no_answer_score": -2.0}
    }


def all_answers(answer: Answer) -> list[tuple[int, int, float]]:
    return [(each.start, each.end, each.score) for each in (answer, *answer.alternatives)]


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "metaspace"])
@pytest.mark.parametrize("levels", [2, 1000])
def test_the_next_best_answers_are_other_pieces(kind: str, levels: int) -> None:
    context = "we met  Ada (B2B)  in é Rome"
    (pair,) = of_kind(kind).encode([("who", context)])
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (len(pair), 2)).astype(np.float32)  # of two levels: ties
    own = np.flatnonzero(pair.sequence_ids == 1).tolist()
    best: dict[tuple[int, int], float] = {}
    for first, last in itertools.combinations_with_replacement(own, 2):
        begins, ends = pair.offsets[first : last + 1].T
        seen = np.flatnonzero(begins < ends)
        if last - first < 5 and len(seen):
            place = (int(begins[seen[0]]), int(ends[seen[-1]]))
            score = float(scores[first, 0] + scores[last, 1])
            best[place] = max(score, best.get(place, score))
    wanted = sorted(best.values(), reverse=True)
    alone = task.decode(scores, pair, (), max_answer_tokens=5)
    for top_k in (1, 2, 7, len(wanted), len(wanted) + 9):
        found = all_answers(task.decode(scores, pair, (), top_k, max_answer_tokens=5))
        assert [score for _, _, score in found] == wanted[:top_k]
        assert found == [(*place, best[place]) for place in dict.fromkeys(f[:2] for f in found)]
        assert found[0] == all_answers(alone)[0]
    assert alone.alternatives == ()


def test_a_window_of_spaces_has_no_answer() -> None:
    encoding = encoded(asked(), "char")
    blank = encoding.offsets[encoding.sequence_ids == 1, 0][:1].repeat(2)
    offsets = np.where((encoding.sequence_ids == 1)[:, None], blank, encoding.offsets)
    scores = np.zeros((len(encoding), 2), np.float32)
    found = task.decode(scores, replace(encoding, offsets=offsets), (), top_k=3)
    assert found == Answer("", 0, 0, -np.inf, 0.0)
    merged = task.merge(asked(), [found, Answer("", 0, 3, 1.0, 2.0)], top_k=3)
    assert merged == Answer("Ada", 0, 3, 1.0, 0.0)


def test_a_piece_of_two_windows_is_given_once() -> None:
    first = Answer("", 0, 3, 3.0, 5.0, (Answer("", 8, 13, 1.0, 5.0), Answer("", 0, 13, 0.5, 5.0)))
    second = Answer("", 8, 13, 4.0, -2.0, (Answer("", 28, 32, 2.0, -2.0),))
    found = task.merge(asked(), [first, second], top_k=3)
    ada, emmy = Answer("Ada", 0, 3, 3.0, -2.0), Answer("Emmy", 28, 32, 2.0, -2.0)
    assert found == Answer("Grace", 8, 13, 4.0, -2.0, (ada, emmy))
    told = task.to_json(found)["answer"]
    assert [each["text"] for each in told.pop("alternatives")] == ["Ada", "Emmy"]
    assert told == {"text": "Grace", "start": 8, "end": 13, "score": 4.0, "no_answer_score": -2.0}
    assert task.merge(asked(), [first, second]) == replace(found, alternatives=())


@pytest.mark.parametrize("name", ["top_k", "max_answer_tokens"])
def test_no_answers_and_no_tokens_are_refused(name: str) -> None:
    with pytest.raises(EncodaxError, match=f"{name} 0 is below 1"):
        task.AnswerDecoding(**{name: 0})


# Metrics.


def measured(found: str, *right: str, nothing: float = -1.0) -> tuple[float, float]:
    example = Example(("", ""), tuple(answer(text, 0) for text in right), "")
    metrics = task.metrics([answer(found, 0, nothing=nothing)], [example])
    return metrics["exact_match"], metrics["f1"]


@pytest.mark.parametrize(
    ("found", "right", "exact", "f1"),
    [
        ("Paris", ["Paris"], 1, 1),
        ("the  paris.", ["Paris"], 1, 1),
        ("An Apple", ["apple"], 1, 1),
        ("Paris", ["Rome"], 0, 0),
        ("in Paris", ["Paris"], 0, 2 / 3),
        ("Paris", ["Rome", "Paris"], 1, 1),
        ("Paris, France", ["Rome", "France"], 0, 2 / 3),
        ("to be or not to be", ["to be"], 0, 2 * 2 / 8),
        ("another", ["other"], 0, 0),
        ("...", ["Paris"], 0, 0),
    ],
)
def test_metrics_are_those_of_squad(found: str, right: list[str], exact: int, f1: float) -> None:
    assert measured(found, *right) == pytest.approx((exact, f1))


def test_metrics_are_means_over_the_questions() -> None:
    examples = [asked("Grace"), asked("Emmy in Rome")]
    found = [answer("Grace", 8, nothing=-1.0), answer("Emmy", 28, nothing=-1.0)]
    assert task.metrics(found, examples) == pytest.approx({"exact_match": 0.5, "f1": 0.75})


def test_no_answer_is_right_where_there_is_none() -> None:
    assert measured("Paris", nothing=1.0) == (1, 1)
    assert measured("Paris", nothing=-1.0) == (0, 0)


def test_no_answer_is_said_of_any_question_where_some_have_none() -> None:
    doubtful = answer("Grace", 8, score=0.0, nothing=1.0)
    assert task.metrics([doubtful], [asked("Grace")])["exact_match"] == 1
    both = task.metrics([doubtful, doubtful], [asked("Grace"), asked()])
    assert both == {"exact_match": 0.5, "f1": 0.5}


def test_the_metric_that_decides_is_measured() -> None:
    assert task.TASK.metric in task.metrics([answer("a", 0)], [asked("Ada")])
