"""Records to spans, spans to tags over tokens and back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import KINDS, tokenizer

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.tasks import token_classification as task
from encodax.tasks.task import Example, Task
from encodax.text.tokenizer import Encoding, Tokenizer
from encodax.types.batches import Span

LABELS = ("O", "B-x", "I-x", "B-y", "I-y")
ALPHABET = "abé日-.,"
TOKENIZERS = {
    kind: Tokenizer.train([f"{ALPHABET} ab ba"] * 2, kind, vocabulary_size=300)
    for kind in ("wordpiece", "bpe", "char")
}


def parsed(fields: dict[str, Any], *, labelled: bool = True) -> Example:
    return task.parse(Record(fields, "here"), labelled=labelled)


def span(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def places(spans: Any) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label) for span in spans]


def tags(example: Example, encoding: Encoding, labels: tuple[str, ...] = LABELS) -> list[str]:
    classes = np.asarray(task.targets(example, encoding, labels).values)
    return [labels[index] for index in classes]


def scored(tags: list[str]) -> np.ndarray:
    """One-hot scores of these tags."""
    return np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(tag) for tag in tags]]


# Parsing.


def test_a_record_is_a_text_and_spans_in_order() -> None:
    example = parsed({"text": "abc de", "spans": [span(4, 6, "y"), span(0, 3, "x")]})
    assert example == Example("abc de", (Span(0, 3, "x"), Span(4, 6, "y")), "here")


def test_a_text_may_have_no_span() -> None:
    assert parsed({"text": "abc", "spans": []}).target == ()


def test_spans_may_touch() -> None:
    example = parsed({"text": "abcd", "spans": [span(0, 2, "x"), span(2, 4, "x")]})
    assert places(example.target) == [(0, 2, "x"), (2, 4, "x")]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O O", []),
        ("B-x I-x O", [(0, 5, "x")]),
        ("B-x B-x I-x", [(0, 2, "x"), (3, 9, "x")]),
        ("I-x I-x O", [(0, 5, "x")]),
        ("B-x I-y O", [(0, 2, "x"), (3, 5, "y")]),
        ("B-x O I-x", [(0, 2, "x"), (6, 9, "x")]),
        ("NOUN NOUN VERB", [(0, 2, "NOUN"), (3, 5, "NOUN"), (6, 9, "VERB")]),
        ("NOUN NOUN O", [(0, 5, "NOUN")]),
        ("I-x x B-B-x", [(0, 2, "I-x"), (3, 5, "x"), (6, 9, "B-B-x")]),
        ("B-x E-x S-y", [(0, 5, "x"), (6, 9, "y")]),
        ("B-x I-x E-x", [(0, 9, "x")]),
        ("B-x E-x E-x", [(0, 5, "x"), (6, 9, "x")]),
        ("B-x L-x U-y", [(0, 5, "x"), (6, 9, "y")]),
        ("B-x M-x E-x", [(0, 9, "x")]),
        ("x-B x-I O", [(0, 5, "x")]),
        ("B_x I_x B_x", [(0, 5, "x"), (6, 9, "x")]),
        ("B I O", [(0, 5, "span")]),
        ("B E S", [(0, 5, "span"), (6, 9, "span")]),
        ("x x O", [(0, 5, "x")]),
        ("E-mail S-Bahn O", [(0, 2, "E-mail"), (3, 5, "S-Bahn")]),
        ("B-cell T-cell O", [(0, 2, "B-cell"), (3, 5, "T-cell")]),
    ],
)
def test_tags_of_words_are_spans_of_their_text(
    tags: str, spans: list[tuple[int, int, str]]
) -> None:
    example = parsed({"tokens": ["ab", "cd", "efg"], "tags": tags.split()})
    assert example.text == "ab cd efg"
    assert places(example.target) == spans


def test_nothing_is_asked_of_unlabelled_records() -> None:
    assert parsed({"text": "abc"}, labelled=False) == Example("abc", (), "here")
    assert parsed({"text": "abc", "spans": 3}, labelled=False).target == ()
    assert parsed({"tokens": ["a", "b"]}, labelled=False) == Example("a b", (), "here")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "abc"}, "here: needs 'spans', a list of objects"),
        ({"text": "abc", "spans": {}}, "here: needs 'spans'"),
        ({"text": "abc", "spans": [3]}, "a span needs start, end and label, not 3"),
        ({"text": "abc", "spans": [{"start": 0, "end": 1}]}, "a span needs start, end and label"),
        ({"text": "abc", "spans": [span("0", 1, "x")]}, "a span needs start"),  # type: ignore[arg-type]
        ({"text": "abc", "spans": [span(0, 1, 5)]}, "a span needs start"),  # type: ignore[arg-type]
        ({"text": "abc", "spans": [span(0, 4, "x")]}, r"span 0\.\.4 is not in its text.* 3 char"),
        ({"text": "abc", "spans": [span(-1, 2, "x")]}, r"span -1\.\.2 is not in its text"),
        ({"text": "abc", "spans": [span(2, 2, "x")]}, r"span 2\.\.2 is not in its text"),
        ({"text": "abc", "spans": [span(0, 2, "x"), span(1, 3, "y")]}, r"span 1\.\.3 overlaps"),
        ({"text": "abc", "spans": [span(0, 2, "x"), span(0, 2, "x")]}, "overlaps another"),
        ({"text": "a", "text_pair": "b", "spans": []}, "one text, not a pair"),
        ({"text": "", "spans": []}, "the text is empty"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "'tokens' needs a list of words"),
        ({"tokens": [], "tags": []}, "'tokens' needs a list of words"),
        ({"tokens": ["", " "], "tags": ["O", "O"]}, "'tokens' needs a list of words"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "'tags' needs a list of 2 strings"),
        ({"tokens": ["a"]}, "'tags' needs a list of 1 strings"),
        ({"tokens": ["a"], "tags": [0]}, "'tags' needs a list of 1 strings"),
        ({"tokens": ["a", "\udc80"], "tags": ["O", "O"]}, "character 2 .* is not Unicode"),
    ],
)
def test_what_is_no_example_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"here: .*{message.removeprefix('here: ')}"):
        parsed(fields)


def test_spaces_at_the_ends_of_a_span_are_left_out() -> None:
    example = parsed({"text": "ab cd ef", "spans": [span(2, 6, "x"), span(6, 8, "y")]})
    assert places(example.target) == [(3, 5, "x"), (6, 8, "y")]


# Labels.


def test_labels_are_outside_and_two_tags_for_each() -> None:
    spans = [Span(0, 1, "y"), Span(1, 2, "x")]
    examples = [Example("ab", tuple(spans), "one"), Example("ab", tuple(spans), "two")]
    assert task.labels(examples) == LABELS


def test_a_label_seen_once_is_learned() -> None:
    spans = Span(0, 1, "x"), Span(1, 2, "x"), Span(2, 3, "y")
    assert task.labels([Example("abc", spans, "here")]) == LABELS


def test_examples_without_a_span_are_refused() -> None:
    with pytest.raises(EncodaxError, match="no label"):
        task.labels([Example("abc", (), "here")])


# Targets.


def test_the_first_token_of_a_span_begins_it() -> None:
    example = Example("abba", (Span(1, 3, "x"), Span(3, 4, "x")), "here")
    encoding = TOKENIZERS["char"].encode([example.text])[0]
    assert tags(example, encoding) == ["O", "O", "B-x", "I-x", "B-x", "O"]


def test_special_tokens_weigh_nothing() -> None:
    encoding = TOKENIZERS["char"].encode(["ab"])[0]
    weights = task.targets(Example("ab", (), "here"), encoding, LABELS).weights
    assert np.asarray(weights).tolist() == [0, 1, 1, 0]


def test_a_token_that_a_span_covers_in_part_belongs_to_it() -> None:
    example = Example("dog cat", (Span(2, 5, "x"),), "here")
    words = Tokenizer.train(["dog cat"] * 9, "wordpiece", vocabulary_size=40)
    encoding = words.encode([example.text])[0]
    assert len(encoding) == 4
    assert tags(example, encoding) == ["O", "B-x", "I-x", "O"]


def test_an_unknown_label_is_refused() -> None:
    encoding = TOKENIZERS["char"].encode(["ab"])[0]
    with pytest.raises(EncodaxError, match="here: unknown label 'B-z'"):
        task.targets(Example("ab", (Span(0, 1, "z"),), "here"), encoding, LABELS)


@pytest.mark.parametrize("sign", ["\u200b", "\ufeff", "\u200d", "\u00ad", "\u00a0", " "])
def test_spans_of_no_token_are_left_out(sign: str) -> None:
    record = {"tokens": ["a", sign, "b", sign], "tags": ["B-x", "B-y", "B-x", "I-x"]}
    example = task.parse(Record(record, "here"), labelled=True)
    encoding = TOKENIZERS["wordpiece"].encode([str(example.text)])[0]
    shown, unseen = task.with_tokens(example, [encoding])
    assert shown is not None and unseen == (sign,)
    assert [span.label for span in shown.target] == ["x", "x"]
    assert tags(shown, encoding) == tags(example, encoding) == ["O", "B-x", "B-x", "O"]


def test_spans_beyond_a_cut_are_left_out() -> None:
    example = Example("ababab", (Span(1, 3, "x"), Span(4, 6, "y")), "here")
    encoding = TOKENIZERS["char"].encode([example.text])[0].truncated(4)
    assert tags(example, encoding) == ["O", "O", "B-x", "O"]


# Tokens that are a space, or hold the one before a word.


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_model_of_any_tokenizer_has_f1_1(kind: str) -> None:
    text = "  Ada's office (B2B) in  韩梅"
    gold = Example(text, (Span(2, 5, "x"), Span(16, 19, "y"), Span(25, 27, "x")), "here")
    (encoding,) = tokenizer(kind).encode([text])
    found = task.decode(scored(tags(gold, encoding)), encoding, LABELS)
    assert task.metrics([found], [gold]) == {"f1": 1, "precision": 1, "recall": 1}


def test_a_span_of_spaces_alone_is_none() -> None:
    (encoding,) = tokenizer("metaspace").encode(["a  b "])
    everywhere = scored(["B-x"] * len(encoding))
    assert places(task.decode(everywhere, encoding, LABELS)) == [(0, 1, "x"), (3, 4, "x")]
    inside = scored(["B-x"] + ["I-x"] * (len(encoding) - 1))
    assert places(task.decode(inside, encoding, LABELS)) == [(0, 4, "x")]


# Schemes of labels.


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("O B-PER I-PER L-PER U-PER", "B-PER I-PER L-PER O U-PER"),
        ("O B-PER I-PER E-PER S-PER", "B-PER I-PER E-PER O S-PER"),
        ("O B_PER I_PER", "B_PER I_PER I_PER O B_PER"),
        ("O PER-B PER-I", "PER-B PER-I PER-I O PER-B"),
        ("O PER", "PER PER PER O PER"),
    ],
)
def test_spans_are_written_and_read_in_the_scheme_of_the_labels(labels: str, wanted: str) -> None:
    known = tuple(labels.split())
    example = Example("abé 日", (Span(0, 3, "PER"), Span(4, 5, "PER")), "here")
    (encoding,) = TOKENIZERS["char"].encode([example.text])
    found = tags(example, encoding, known)
    assert found[1:-1] == wanted.split()
    one_hot = np.eye(len(known))[[known.index(tag) for tag in found]]
    for way in ("simple", "first"):
        answer = task.decode(one_hot, encoding, known, way, example.text)  # type: ignore[arg-type]
        assert places(answer) == places(example.target)


def test_what_ends_a_span_ends_it() -> None:
    (encoding,) = TOKENIZERS["char"].encode(["abab"])
    known = ("O", "B-x", "I-x", "L-x", "U-x")
    one_hot = np.eye(5)[[0, 4, 2, 3, 4, 0]]
    assert places(task.decode(one_hot, encoding, known)) == [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]


def test_a_scheme_that_is_given_wins() -> None:
    (encoding,) = TOKENIZERS["char"].encode(["ab"])
    known, one_hot = ("O", "B-cell"), np.eye(2)[[0, 1, 1, 0]]
    (cell, _) = task.decode(one_hot, encoding, known)
    assert cell.label == "cell"
    (found,) = task.decode(one_hot, encoding, known, scheme_name="io")
    assert found.label == "B-cell"


# Windows.


@given(
    length=st.integers(1, 60),
    room=st.integers(1, 20),
    overlap=st.integers(0, 19),
    seed=st.integers(0, 9),
)
def test_windows_are_joined_to_the_whole(length: int, room: int, overlap: int, seed: int) -> None:
    overlap = min(overlap, room - 1)
    random = np.random.default_rng(seed)
    text = "".join(random.choice(list("ab "), length))
    (whole,) = TOKENIZERS["char"].encode([text])
    scores = random.random((len(whole), len(LABELS)))  # of each token, whatever is around it
    places = np.arange(len(whole))
    numbered = replace(whole, token_ids=places)
    windows = numbered.windows(0, room, overlap)
    encoding, found = task.joined(windows, [scores[own.token_ids] for own in windows], overlap)
    np.testing.assert_array_equal(encoding.token_ids, places)
    np.testing.assert_array_equal(found, scores)
    for name in ("type_ids", "offsets", "is_special", "sequence_ids", "word_ids"):
        np.testing.assert_array_equal(getattr(encoding, name), getattr(whole, name))

    def context(window: Encoding) -> Any:
        """How much text there is at the side where there is less; none is missing at its ends."""
        of_text = window.token_ids[1:-1]
        before = np.arange(len(of_text)) + (length if of_text[0] == 1 else 0)
        after = np.arange(len(of_text))[::-1] + (length if of_text[-1] == length else 0)
        return np.r_[0.0, np.minimum(before, after), 0.0][:, None]

    contexts = [context(window) for window in windows]
    most = np.zeros((len(whole), 1))
    for window, own in zip(windows, contexts, strict=True):
        most[window.token_ids] = np.maximum(most[window.token_ids], own)
    np.testing.assert_array_equal(task.joined(windows, contexts, overlap)[1], most)


@pytest.mark.parametrize("way", [None, *task.OF_WORD])
def test_a_span_over_a_border_is_whole(way: Any) -> None:
    example = parsed({"text": "ab abba ab", "spans": [span(3, 7, "x"), span(8, 10, "y")]})
    (whole,) = TOKENIZERS["char"].encode([example.text])
    scores = scored(tags(example, whole))
    decoding = task.TokenDecoding(aggregation=way, stride=2)
    numbered = replace(whole, token_ids=np.arange(len(whole)))
    for room in range(3, 10):
        windows = numbered.windows(0, room, 2)
        assert len(windows) > 1
        own = [scores[window.token_ids] for window in windows]
        found = decoding.answer(task.TASK, example, windows, own, LABELS)
        assert found == task.decode(scores, whole, LABELS, way, example.text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": -1}, "stride -1 is below 0"),
        ({"aggregation": "last"}, "aggregation 'last' is not one of: none, simple, first"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_an_option_has_a_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        task.TokenDecoding(**options)


# Labels of words.

UPOS = ("ADJ", "NOUN", "VERB")


def pos(scheme: Any = None) -> Task:
    records = [Record({"tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}, "one")]
    return task.task_for_tags(records, UPOS, scheme)


def test_the_first_token_of_a_word_has_its_label_and_alone_counts() -> None:
    example = parsed({"tokens": ["abba", "ba"], "tags": ["NOUN", "NOUN"]})
    (encoding,) = TOKENIZERS["char"].encode([example.text])
    targets = task.targets(example, encoding, UPOS)
    assert np.asarray(targets.weights).tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert np.asarray(targets.values)[[1, 6]].tolist() == [1, 1]


def test_each_word_is_answered_and_measured() -> None:
    example = parsed({"tokens": ["abba", "ba", "ab"], "tags": ["NOUN", "NOUN", "VERB"]})
    (encoding,) = TOKENIZERS["bpe"].encode([example.text])
    values = np.asarray(task.targets(example, encoding, UPOS).values)
    values[encoding.offsets[:, 0] >= 8] = 0  # the last word is taken for an adjective
    found = task.decode(np.eye(3)[values], encoding, UPOS, text=example.text)
    assert places(found) == [(0, 4, "NOUN"), (5, 7, "NOUN"), (8, 10, "ADJ")]
    # F1 is 1 of nouns, 0 of verbs, 0 of adjectives.
    assert pos().metrics([found], [example]) == pytest.approx({"accuracy": 2 / 3, "f1": 1 / 3})
    assert pos().metric == "accuracy"


def test_of_words_that_are_given_each_is_answered() -> None:
    example = parsed({"tokens": ["ab-ba", "日"]}, labelled=False)
    (encoding,) = TOKENIZERS["wordpiece"].encode([example.text])
    one_hot = np.eye(3)[np.where(encoding.offsets[:, 0] == 6, 2, 1)]
    text = example.text
    assert isinstance(text, str)
    found = task.decode(one_hot, encoding, UPOS, text=text, words=example.words)
    assert places(found) == [(0, 5, "NOUN"), (6, 7, "VERB")]
    by_tokenizer = task.decode(one_hot, encoding, UPOS, text=text)
    assert [place[:2] for place in places(by_tokenizer)] == [(0, 2), (2, 3), (3, 5), (6, 7)]


def test_a_word_that_is_not_answered_is_wrong() -> None:
    example = parsed({"tokens": ["ab", "b"], "tags": ["NOUN", "VERB"]})
    assert pos().metrics([(Span(0, 2, "NOUN"),)], [example])["accuracy"] == 0.5
    with pytest.raises(EncodaxError, match="no example has a word with a label"):
        pos().metrics([()], [parsed({"text": "a", "spans": []})])


def test_the_labels_of_words_are_theirs() -> None:
    records = [
        Record({"tokens": ["ab", "b"], "tags": ["VERB", "NOUN"]}, where) for where in ("one", "two")
    ]
    reading = task.task_for_tags(records)
    assert reading.metric_names == ("accuracy", "f1")
    assert reading.labels([reading.parse(record, labelled=True) for record in records]) == (
        "NOUN", "VERB",
    )  # fmt: skip


def test_all_records_together_tell_the_scheme(caplog: pytest.LogCaptureFixture) -> None:
    tagged = [["S-x", "O"], ["B-x", "E-x"]]
    records = [Record({"tokens": ["ab", "b"], "tags": tags}, "here") for tags in tagged]
    reading = task.task_for_tags(records)
    first, second = (reading.parse(record, labelled=True) for record in records)
    assert (places(first.target), places(second.target)) == ([(0, 2, "x")], [(0, 4, "x")])
    assert reading.labels([first, second]) == ("O", "B-x", "I-x", "E-x", "S-x")
    (note,) = [record.getMessage() for record in caplog.records]
    assert note.startswith("tags are read as iobes (B-name, I-name, E-name, S-name)")
    by_name = task.task_for_tags(records, scheme_name="io")
    assert places(by_name.parse(records[1], labelled=True).target) == [
        (0, 2, "B-x"), (3, 4, "E-x"),
    ]  # fmt: skip


def test_a_head_is_kept_where_it_can_tell_the_spans() -> None:
    known = ("O", "PER-B", "PER-I")
    reading = task.task_for_tags([Record({"text": "a", "spans": []}, "one")], known)
    assert reading.labels_for(("O", "B-PER", "I-PER"), known) == known
    assert reading.labels_for(("O", "B-LOC", "I-LOC"), known) == ("O", "B-LOC", "I-LOC")
    assert reading.labels_for(("O", "B-PER", "I-PER"), ("O", "PER")) == ("O", "B-PER", "I-PER")
    assert pos().labels_for(("NOUN", "VERB"), UPOS) == UPOS


# Decoding.


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["O", "O", "O", "O"], []),
        (["B-x", "I-x", "I-x", "O"], [(0, 3, "x")]),
        (["B-x", "B-x", "I-x", "B-x"], [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]),
        (["O", "I-x", "I-x", "O"], [(1, 3, "x")]),
        (["B-x", "I-y", "I-y", "I-x"], [(0, 1, "x"), (1, 3, "y"), (3, 4, "x")]),
        (["I-x", "O", "I-x", "B-y"], [(0, 1, "x"), (2, 3, "x"), (3, 4, "y")]),
    ],
)
def test_spans_begin_where_tags_say(tags: list[str], spans: list[tuple[int, int, str]]) -> None:
    encoding = TOKENIZERS["char"].encode(["abab"])[0]
    assert places(task.decode(scored(["O", *tags, "O"]), encoding, LABELS)) == spans


def test_special_tokens_are_in_no_span() -> None:
    encoding = TOKENIZERS["char"].encode(["ab"])[0]
    answer = task.decode(scored(["B-x", "I-x", "I-x", "I-x"]), encoding, LABELS)
    assert places(answer) == [(0, 2, "x")]


def test_the_score_is_the_mean_of_the_tokens() -> None:
    encoding = TOKENIZERS["char"].encode(["ab"])[0]
    scores = np.full((4, 5), 0.1, np.float32)
    scores[1, 1], scores[2, 2] = 0.5, 0.75
    answer = task.decode(scores, encoding, LABELS)
    assert answer == (Span(0, 2, "x", score=0.625),)
    assert task.to_json(answer) == {"spans": [{**span(0, 2, "x"), "score": 0.625}]}


# Aggregation: what has one tag, a token or a word.

AGGREGATED = "ab ba, ab-ba"
PROBABILITIES = {
    # Place, with [CLS] at 0: O, B-x, I-x, B-y, I-y.
    1: (0.10, 0.60, 0.10, 0.10, 0.10),  # a
    2: (0.05, 0.05, 0.05, 0.05, 0.80),  # b
    4: (0.30, 0.05, 0.40, 0.15, 0.10),  # b
    5: (0.45, 0.05, 0.40, 0.05, 0.05),  # a
    8: (0.10, 0.10, 0.20, 0.40, 0.20),  # a
    9: (0.10, 0.05, 0.05, 0.10, 0.70),  # b
    10: (0.90, 0.00, 0.10, 0.00, 0.00),  # -
    11: (0.20, 0.10, 0.50, 0.10, 0.10),  # b
    12: (0.25, 0.00, 0.25, 0.00, 0.50),  # a
}
"""What the model says of the characters; of the others, nothing but O."""


def aggregated(aggregation: Any, labels: tuple[str, ...] = LABELS) -> list[tuple[Any, ...]]:
    encoding = TOKENIZERS["char"].encode([AGGREGATED])[0]
    scores = np.tile(np.asarray([1, 0, 0, 0, 0], np.float32), (len(encoding), 1))
    for index, row in PROBABILITIES.items():
        scores[index] = row
    found = task.decode(scores, encoding, labels, aggregation, AGGREGATED)
    return [(span.start, span.end, span.label, pytest.approx(span.score)) for span in found]


@pytest.mark.parametrize(
    ("aggregation", "spans"),
    [
        (
            "none",
            [(0, 1, "x", 0.6), (1, 2, "y", 0.8), (3, 4, "x", 0.4), (7, 8, "y", 0.4),
             (8, 9, "y", 0.7), (10, 11, "x", 0.5), (11, 12, "y", 0.5)],
        ),
        (
            "simple",
            [(0, 1, "x", 0.6), (1, 2, "y", 0.8), (3, 4, "x", 0.4), (7, 9, "y", 0.55),
             (10, 11, "x", 0.5), (11, 12, "y", 0.5)],
        ),
        ("first", [(0, 2, "x", 0.6), (3, 5, "x", 0.4), (7, 9, "y", 0.4), (10, 12, "x", 0.5)]),
        # The means: (.075 .325 .075 .075 .45), (.375 .05 .4 .1 .075), (.1 .075 .125 .25 .45),
        # (.225 .05 .375 .05 .3).
        ("average", [(0, 2, "y", 0.45), (3, 5, "x", 0.4), (7, 9, "y", 0.45), (10, 12, "x", 0.375)]),
        # The surest tokens: b, a (none), b, b (its tie goes to the first).
        ("max", [(0, 2, "y", 0.8), (7, 9, "y", 0.7), (10, 12, "x", 0.5)]),
    ],
)  # fmt: skip
def test_a_word_or_a_token_has_one_tag(aggregation: str, spans: list[tuple[Any, ...]]) -> None:
    assert aggregated(aggregation) == spans


def test_tags_without_b_and_i_go_on_where_they_repeat() -> None:
    names = ("O", "NOUN", "VERB", "P", "B")
    assert aggregated("simple", names) == [
        (0, 1, "NOUN", 0.6), (1, 2, "B", 0.8), (3, 4, "VERB", 0.4), (7, 8, "P", 0.4),
        (8, 9, "B", 0.7), (10, 11, "VERB", 0.5), (11, 12, "B", 0.5),
    ]  # fmt: skip
    encoding = TOKENIZERS["char"].encode(["abab"])[0]
    same = np.eye(5, dtype=np.float32)[[0, 1, 1, 2, 1, 0]]
    assert places(task.decode(same, encoding, names)) == [
        (0, 2, "NOUN"), (2, 3, "VERB"), (3, 4, "NOUN")
    ]  # fmt: skip
    assert [span.label for span in task.decode(same, encoding, names, "none")] == [
        "NOUN", "NOUN", "VERB", "NOUN"
    ]  # fmt: skip


def test_words_are_letters_and_digits_that_meet() -> None:
    text = "abé ab1-2, 日本ab"
    encoding = Tokenizer.train([text], "char").encode([text])[0]
    found = [
        text[encoding.offsets[word[0], 0] : encoding.offsets[word[-1], 1]]
        for word in task.words_of(text, encoding)
    ]
    assert found == ["abé", " ", "ab1", "-", "2", ",", " ", "日", "本", "ab"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_word_of_several_tokens_is_one(kind: str) -> None:
    text = "abba bab ab-ba"
    encoding = TOKENIZERS[kind].encode([text])[0]
    found = [
        text[encoding.offsets[word[0], 0] : encoding.offsets[word[-1], 1]]
        for word in task.words_of(text, encoding)
    ]
    assert np.count_nonzero(~encoding.is_special) > len(found)
    assert found == ["abba", "bab", "ab", "-", "ba"]


@pytest.mark.parametrize("aggregation", task.OF_WORD)
def test_a_text_of_no_token_has_no_span(aggregation: Any) -> None:
    encoding = TOKENIZERS["char"].encode(["ab"])[0].select(np.asarray([0, 3]))
    assert task.decode(scored(["B-x", "B-x"]), encoding, LABELS, aggregation, "ab") == ()


Cut = tuple[str, str | None]
"""A piece of a text, and its label."""


def assembled(cuts: list[Cut], joint: str) -> Example:
    """The text that pieces make, and their spans."""
    starts = itertools.accumulate((len(piece) + len(joint) for piece, _ in cuts), initial=0)
    spans = [
        Span(start, start + len(piece), label)
        for start, (piece, label) in zip(starts, cuts, strict=False)
        if label
    ]
    return Example(joint.join(piece for piece, _ in cuts), tuple(spans), "here")


words = st.text(ALPHABET, min_size=1, max_size=4)
phrases = st.lists(words, min_size=1, max_size=3).map(" ".join)
labels = st.sampled_from([None, "x", "y"])


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "char"])
@given(cuts=st.lists(st.tuples(phrases, labels), min_size=1, max_size=8))
def test_spans_of_words_come_back(kind: str, cuts: list[Cut]) -> None:
    example = assembled(cuts, joint=" ")
    encoding = TOKENIZERS[kind].encode([example.text])[0]
    assert task.decode(scored(tags(example, encoding)), encoding, LABELS) == example.target


@given(cuts=st.lists(st.tuples(st.text(f"{ALPHABET} ", min_size=1), labels), min_size=1))
def test_any_spans_come_back_from_characters(cuts: list[Cut]) -> None:
    example = assembled(cuts, joint="")
    encoding = TOKENIZERS["char"].encode([example.text])[0]
    assert task.decode(scored(tags(example, encoding)), encoding, LABELS) == example.target


# Metrics.


def test_a_span_is_right_where_start_end_and_label_are() -> None:
    right = [
        Example("", (Span(0, 2, "x"), Span(3, 5, "y")), ""),
        Example("", (Span(1, 2, "x"),), ""),
    ]
    found = [(Span(0, 2, "x", 0.5), Span(3, 4, "y"), Span(5, 6, "x")), (Span(1, 2, "y"),)]
    # One of four found is right; one of three is found.
    assert task.metrics(found, right) == pytest.approx(
        {"precision": 1 / 4, "recall": 1 / 3, "f1": 2 / 7}
    )


def test_a_span_of_another_text_is_wrong() -> None:
    right = [Example("", (Span(0, 2, "x"),), ""), Example("", (), "")]
    assert task.metrics([(), (Span(0, 2, "x"),)], right)["f1"] == 0


def test_no_span_anywhere_is_no_error() -> None:
    assert task.metrics([()], [Example("", (), "")]) == {"f1": 0, "precision": 0, "recall": 0}


def test_the_metric_that_decides_is_measured() -> None:
    assert task.TASK.metric in task.metrics([()], [Example("", (), "")])


cuts_of_a_text = st.lists(
    st.tuples(st.sampled_from(["a", "aa"]), st.sampled_from([None, "x", "y"])), max_size=6
)


@given(st.lists(st.tuples(cuts_of_a_text, cuts_of_a_text), min_size=1, max_size=4))
def test_metrics_are_those_of_sets(cuts: list[tuple[list[Cut], list[Cut]]]) -> None:
    # Made here and not in the strategy: the check of types draws a random member of a tuple.
    pairs = [tuple(assembled(each, "").target for each in pair) for pair in cuts]
    right = {(i, *place) for i, (spans, _) in enumerate(pairs) for place in places(spans)}
    found = {(i, *place) for i, (_, spans) in enumerate(pairs) for place in places(spans)}
    measured = task.metrics(
        [found for _, found in pairs], [Example("", right, "") for right, _ in pairs]
    )
    both = len(right & found)
    assert measured == pytest.approx(
        {
            "precision": both / max(1, len(found)),
            "recall": both / max(1, len(right)),
            "f1": 2 * both / max(1, len(right) + len(found)),
        }
    )
