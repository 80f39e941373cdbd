"""A class for each job: texts in, answers out."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar, Unpack

from encodax.data.stream import MAX_WAIT, Live
from encodax.errors import EncodaxError
from encodax.inference.engine import Engine, EngineBacked, EngineOptions, head_output
from encodax.inference.progress import listed
from encodax.model_files.sentence_modules import usual_activation
from encodax.models.encoder_model import Model
from encodax.tasks import (
    classification,
    question_answering,
    reranking,
    task_named,
    task_of,
    task_of_records,
    token_classification,
)
from encodax.tasks.by_class import ByClass
from encodax.tasks.classification import Classification
from encodax.tasks.dataset import Dataset, seen
from encodax.tasks.decoding import DecodingOptions, decoding_of
from encodax.tasks.empty import IN_DATA, Empties, OnEmpty, OnEmptyInData, empty_query, labelled
from encodax.tasks.examples import at_hand, examples_of_records
from encodax.tasks.judged import check_judged
from encodax.tasks.question_answering import Answer as SpanAnswer
from encodax.tasks.task import Decoding, Example, side_by_side, unlabelled
from encodax.tasks.token_classification import TokenDecoding
from encodax.text.tokenizer import Encoding, Text
from encodax.types.batches import Params, Span

Answer = TypeVar("Answer")


class PredictorOptions(EngineOptions, DecodingOptions, total=False):
    """What a predictor takes beside the model."""


class Predictor(EngineBacked, Generic[Answer]):
    """Answers of whatever task the model's head is for."""

    TASK: ClassVar[str | None] = None
    """The task that a subclass is for, with all others of such a head; None for any."""
    decoding: Decoding
    """How answers are made."""

    def __init__(self, model: Model, **options: Unpack[PredictorOptions]):
        """Take a model with a head.

        Args:
            model: the model.
            **options: what its task's answers are to be, and how it runs.

        Raises:
            EncodaxError: the model has no head, or one for another task, or an option is of another
                task or out of its range.
        """
        self.task = task_of(model.config)
        if self.TASK is not None and task_named(self.TASK).HEAD != self.task.HEAD:
            raise EncodaxError(f"the model is one for {self.task.NAME}, not {self.TASK}")
        assert model.config.head is not None
        running: dict[str, Any] = {**options}
        asked = {name: running.pop(name, None) for name in DecodingOptions.__annotations__}
        self.decoding = decoding_of(self.task, asked)
        self.decoding.check(model)  # refused here, not at a text
        read, level = head_output(model.config.head, model.config.usage)
        super().__init__(model, Engine(model, read, level, **running))

    def predict(
        self,
        texts: Sequence[Text],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> list[Answer]:
        """Answers for texts (or pairs), in order.

        Args:
            texts: a list of texts, or of pairs.
            truncate: cut what is longer than the model takes; how many were cut is logged.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out, and
                `keep` has None in their places.
            progress: show a progress bar; None for where standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`.
        """
        stream = functools.partial(self.stream, truncate=truncate, on_empty=on_empty, max_wait=None)
        return list(listed(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[Text],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[Answer]:
        """Answers for texts that may never end, in order, as they come.

        Args:
            texts: the source; it is read a window ahead.
            truncate: cut what is longer than the model takes.
            on_empty: what becomes of empty texts.
            max_wait: seconds that a text waits for others, while the source is silent. It is read
                on a thread of its own; None to read it on yours, in whole windows.
        """
        found = self.answers(
            unlabelled(texts),
            truncate=truncate,
            empties=Empties(on_empty),
            live=Live.of(max_wait),
        )
        return (answer for _, answer in found)

    def answers(
        self,
        examples: Iterable[Example],
        *,
        truncate: bool = False,
        prompt: str | None = None,
        empties: Empties | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Answer]]:
        """Each example with its answer, in order; the source is read a window at a time.

        Args:
            examples: what is asked.
            truncate: cut what is longer than the model takes; how many were cut is logged.
            prompt: name of the prompt of a cross-encoder that goes before each text, or the first
                of a pair; None for its default one.
            empties: what becomes of empty texts, where they are not refused.
            live: for examples that come in their own time: how long one waits for others.
        """
        before, empties = self.model.config.usage.prompt(prompt), empties or Empties("error")

        def encode(window: list[Example]) -> tuple[list[list[Any]], int]:
            prompted = [prompted_with(before, example) for example in window]
            return self.decoding.encode(self.task, self.model, prompted, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        for example, encodings, scores in self._engine.stream(
            examples, tokenize, Example.characters, live=live
        ):
            if not encodings:
                if empties.rule == "keep":
                    yield example, None  # type: ignore[misc]
                continue
            yield example, self.decoding.answer(self.task, example, encodings, scores, self._labels)
        empties.note()

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.model.config.labels

    def evaluate(
        self,
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> dict[str, Any]:
        """The task's metrics over labelled records, and under `classes` those of each class.

        Of a model with one score, the records' fields tell whether it is regression or reranking.

        Args:
            records: the data, each a `Record`; not said so, as checking would read one.
            truncate: cut what is longer than the model takes; how many were cut is logged.
            on_empty: what becomes of records of an empty text: `error` refuses them, and `skip`
                leaves them out.

        Raises:
            EncodaxError: a record is not one of the task, or labels are not known.
        """
        known = at_hand(records)
        task, _ = task_of_records(self.model.config, known)
        task = self.decoding.measured(task, known, self._labels)
        before = self.model.config.usage.default_text
        examples = examples_of_records(task, known, on_empty)
        prompted = examples.changed(functools.partial(prompted_with, before))
        check_judged(task, examples)
        data = Dataset.prepare(task, self.model, prompted, truncate=truncate)
        counts = ByClass(task)

        def counted() -> Iterator[tuple[Any, Example]]:
            for answer, example in self._answered(data, None):
                counts.add(answer, example)
                yield answer, example

        metrics = task.metrics(*side_by_side(counted()))
        return {**metrics, **({"classes": found} if (found := counts.figures()) else {})}

    def measure(self, data: Dataset, params: Params | None = None) -> dict[str, float]:
        """The metrics of the data's task over it, with the model's parameters or others."""
        answers, examples = side_by_side(self._answered(data, params))
        return data.task.metrics(answers, examples)

    def _answered(self, data: Dataset, params: Params | None) -> Iterator[tuple[Any, Example]]:
        """Each example that has a token, as tokens show it, after the answer for it."""
        for example, encodings, scores in answered(self._engine, data, params):
            answer = self.decoding.answer(data.task, example, encodings, scores, self._labels)
            shown, _ = seen(data.task, example, encodings)
            assert shown is not None
            yield answer, shown


def answered(
    engine: Engine, data: Dataset, params: Params | None
) -> Iterator[tuple[Example, list[Encoding], list[Any]]]:
    """Each example of a data set with its token sequences and what the engine says of each.

    Of an example without a token there is none. What the data set does not keep is tokenized when
    its turn comes.
    """

    def tokenize(window: list[int]) -> tuple[list[list[Any]], int]:
        return [[encoding] for encoding in data.encodings_of(window)], 0

    lengths = data.lengths
    found = engine.stream(
        range(len(data)), tokenize, lambda index: int(lengths[index]), params=engine.placed(params)
    )
    for owner, group in itertools.groupby(found, key=lambda each: int(data.example_of[each[0]])):
        own = list(group)
        yield data.examples[owner], [each[1][0] for each in own], [each[2][0] for each in own]


def prompted_with(before: str, example: Example) -> Example:
    """An example with a prompt before its text, or the first of a pair; an empty text stays so."""
    first, *second = example.parts
    if not before or not isinstance(first, str) or not first.strip():
        return example
    text: Text = (before + first, *second) if second else before + first  # type: ignore[assignment]
    return replace(example, text=text)


class Classifier(Predictor[Classification]):
    """Scores of labels, or one quantity, for each text, or pair of texts."""

    TASK = classification.NAME


class TokenClassifier(Predictor[tuple[Span, ...]]):
    """Labelled spans of each text, in its own offsets.

    Its options are those of `tasks.token_classification.TokenDecoding`: `aggregation`,
    `tag_scheme`, and `stride` for texts of any length.
    """

    TASK = token_classification.NAME
    decoding: TokenDecoding

    def predict_words(
        self, texts: Sequence[str], *, truncate: bool = False
    ) -> list[tuple[Span, ...]]:
        """Every word of each text with its label, `O` too, as parts of speech want it.

        A word has the label of its first token, unless the aggregation is `average` or `max`.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`.
        """

        def tokenize(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            return self.decoding.encode(self.task, self.model, window, truncate=truncate)

        def found(texts: Iterable[str]) -> Iterator[tuple[Span, ...]]:
            stream = self._engine.stream(unlabelled(texts), tokenize, Example.characters)
            return (self.decoding.words(*each, self._labels) for each in stream)

        return list(listed(texts, found, progress=False))


class QuestionAnswerer(Predictor[SpanAnswer]):
    """The piece of a context that answers a question, for pairs (question, context).

    A context of any length is read in overlapping windows. Compare `score` with
    `no_answer_score` to know whether the model thinks that there is an answer. Its options are
    those of `tasks.question_answering.AnswerDecoding`: `top_k` and `max_answer_tokens`.
    """

    TASK = question_answering.NAME


@dataclass(frozen=True)
class Ranked:
    """A text that was ranked."""

    index: int
    """Where it stood in the list."""
    score: float
    text: str


class Reranker(EngineBacked):
    """Scores of pairs (query, text): how well the text answers, by a cross-encoder.

    The model is a sequence classifier over pairs. With one score, that is the score, through the
    activation that the model's files name, and the sigmoid where they name none, as
    sentence-transformers has it; with two classes it is the probability of the second.
    """

    def __init__(self, model: Model, **options: Unpack[EngineOptions]):
        """Take a model with a head of one score, or of two classes.

        Args:
            model: the model.
            **options: how it runs.

        Raises:
            EncodaxError: the model is no such cross-encoder.
        """
        head, labels = model.config.head, model.config.labels
        usage = model.config.usage
        if head is not None and len(labels) == 1:
            head = replace(head, problem="regression")
            usage = replace(usage, activation=usage.activation or usual_activation(1))
        model = replace(model, config=replace(model.config, head=head, usage=usage))
        self._classifier = Classifier(model, **options)
        super().__init__(model, self._classifier._engine)
        if len(labels) not in (1, 2):
            raise EncodaxError(
                f"a reranker has one score or two classes, and the model has {len(labels)}"
            )

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        progress: bool | None = None,
    ) -> list[float]:
        """The score of each pair, in order; larger is better.

        Args:
            pairs: a list of pairs.
            prompt: name of the prompt of the model that goes before each query; None for its
                default one.
            truncate: cut pairs that are too long, the longer text first.
            progress: show a progress bar; None for where standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or a pair too long without `truncate`; or there is no
                such prompt.
        """
        stream = functools.partial(self.stream, prompt=prompt, truncate=truncate, max_wait=None)
        return list(listed(pairs, stream, progress=progress))

    def stream(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[float]:
        """The scores of pairs that may never end, in order, as they come.

        Args:
            pairs: the source; it is read a window ahead.
            prompt: name of the prompt that goes before each query.
            truncate: cut pairs that are too long.
            max_wait: seconds that a text waits for others, while the source is silent. It is read
                on a thread of its own; None to read it on yours, in whole windows.
        """
        found = self._classifier.answers(
            unlabelled(pairs), prompt=prompt, truncate=truncate, live=Live.of(max_wait)
        )
        return (self._score(answer) for _, answer in found)

    @property
    def prompts(self) -> dict[str, str]:
        """What the model wants before a query, by name."""
        return dict(self.model.config.usage.prompts)

    def _score(self, answer: Classification) -> float:
        return answer.scores[self.model.config.labels[-1]]

    def evaluate(
        self,
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> dict[str, float]:
        """How high the relevant texts of queries are ranked, as `tasks.reranking` measures it.

        Raises:
            EncodaxError: a record is not one of reranking, or no query has a relevant text.
        """
        examples = labelled(reranking, records, on_empty)
        empties = Empties(on_empty, IN_DATA)
        found = self._classifier.answers(examples, truncate=truncate, empties=empties)
        scored = (
            (replace(answer, score=self._score(answer)), example) for example, answer in found
        )
        return reranking.metrics(*side_by_side(scored))

    def rank(
        self,
        query: str,
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        prompt: str | None = None,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> list[Ranked]:
        """The texts that answer the query, best first.

        Args:
            query: the question.
            texts: what is ranked; they may come one at a time.
            top_k: how many to give; None for all.
            prompt: name of the prompt of the model that goes before the query; None for its
                default one.
            truncate: cut pairs that are too long.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out.
        """
        examples = (Example(text, index, f"text {index}") for index, text in enumerate(texts))
        found = self.answers(
            query, examples, prompt=prompt, truncate=truncate, empties=Empties(on_empty, IN_DATA)
        )
        ranked = (Ranked(each.target, score, each.parts[0]) for each, score in found)
        if top_k is None:
            return sorted(ranked, key=lambda item: -item.score)
        return heapq.nsmallest(top_k, ranked, key=lambda item: -item.score)

    def answers(
        self,
        query: str,
        examples: Iterable[Example],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        empties: Empties | None = None,
    ) -> Iterator[tuple[Example, float]]:
        """Each text with its score, in order; they are read a window at a time.

        Args:
            query: the question.
            examples: each of one text.
            prompt: as `rank` has it, and the rest too.
            truncate: cut pairs that are too long.
            empties: what becomes of empty texts, where they are not refused.
        """
        if not query.strip():
            raise empty_query()
        pairs = (replace(example, text=(query, example.parts[0])) for example in examples)
        found = self._classifier.answers(pairs, truncate=truncate, prompt=prompt, empties=empties)
        return ((replace(pair, text=pair.parts[1]), self._score(answer)) for pair, answer in found)
